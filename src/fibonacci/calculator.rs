//! Computes F(n) for any n: selects the algorithm by n, verifies the result, and tries more cautious algorithms if
//! verification fails.

use std::fmt;
use std::sync::Arc;

use crate::fibonacci::check::{Mismatch, check};
use crate::fibonacci::doubling;
use crate::fibonacci::large::precision::{DIGITS_MIN, digits_for};
use crate::fibonacci::large::{Doubling, Vectors};
use crate::fibonacci::table::Table;

/// The largest n that a [`Calculator`] computes in decimal. The bounds on errors, on the length of F(n) and on memory
/// hold up to here. Larger numbers are computed with ibig.
pub const MAX_N: u64 = 100_000_000;

/// The largest n that is served by default: the response has 2.1 MB.
pub const DEFAULT_MAX_N: u64 = 10_000_000;

/// From this n on numbers are computed in decimal, below it with ibig, which is as fast there.
pub(super) const DECIMAL_FROM: u64 = 2_000;

/// Computes Fibonacci numbers, one at a time.
///
/// Constants and working memory are reused for the next number: drop the calculator to release them. Memory is at most
/// 40 MiB for F([`DEFAULT_MAX_N`]) and less than 400 MB for F([`MAX_N`]).
pub struct Calculator {
    doubling: Doubling,
}

/// A computed Fibonacci number.
#[derive(Clone, Debug)]
pub struct Computed {
    /// In decimal, most significant first.
    pub digits: Arc<[u8]>,
    /// What was wrong with the first result, if it failed verification and was computed again.
    pub fallback: Option<Mismatch>,
}

impl Calculator {
    /// Returns a calculator that starts from the numbers of `table`.
    pub fn new(table: Table) -> Self {
        Self::with_vectors(table, Vectors::widest())
    }

    /// Returns a calculator that computes with these vectors.
    pub fn with_vectors(table: Table, vectors: Vectors) -> Self {
        Self { doubling: Doubling::new(table, vectors) }
    }

    /// Computes F(n).
    pub fn compute(&mut self, n: u64) -> Computed {
        let first = if (DECIMAL_FROM..=MAX_N).contains(&n) { digits_for(n) } else { 0 };
        let attempts = (DIGITS_MIN..=first).rev();
        first_verified(n, attempts.filter_map(|digits| self.doubling.compute(n, digits)))
    }
}

impl Default for Calculator {
    /// Returns a calculator without a table.
    fn default() -> Self {
        Self::new(Table::default())
    }
}

impl fmt::Debug for Calculator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calculator").finish_non_exhaustive()
    }
}

/// Returns the first attempt that is F(n), or F(n) as computed with ibig if there is none.
fn first_verified(n: u64, attempts: impl Iterator<Item = Arc<[u8]>>) -> Computed {
    let mut fallback = None;
    for digits in attempts {
        match check(n, &digits) {
            Ok(()) => return Computed { digits, fallback },
            Err(mismatch) => fallback = fallback.or(Some(mismatch)),
        }
    }
    Computed { digits: doubling::digits(n).into(), fallback }
}

#[cfg(test)]
mod tests {
    use ibig::UBig;

    use super::*;

    /// A calculator with the default table.
    fn calculator() -> Calculator {
        Calculator::new(Table::new(10_000).unwrap())
    }

    #[track_caller]
    fn compute(calculator: &mut Calculator, n: u64) -> Arc<[u8]> {
        let computed = calculator.compute(n);
        assert_eq!(computed.fallback, None, "F({n})");
        computed.digits
    }

    #[test]
    fn numbers_up_to_20_000_equal_the_table() {
        let table = Table::new(20_000).unwrap();
        for mut calculator in [Calculator::default(), calculator()] {
            for n in 0..=20_000 {
                assert!(Some(&*compute(&mut calculator, n)) == table.get(n), "F({n})");
            }
        }
    }

    #[test]
    fn decimal_and_binary_doubling_agree() {
        let mut calculator = calculator();
        let edges = (15..=18).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        let anywhere = (1..=20_u64).map(|i| 20_000 + i * 0x9E37_79B9 % 200_000);
        for n in edges.chain(anywhere) {
            assert!(*compute(&mut calculator, n) == *doubling::digits(n), "F({n})");
        }
    }

    /// Compares length and FNV-1a hash with what GMP's `mpz_fib_ui` and `mpz_out_str` give.
    #[track_caller]
    fn check_against_gmp(calculator: &mut Calculator, n: u64, length: usize, hash: u64) {
        let digits = compute(calculator, n);
        let start = 0xCBF2_9CE4_8422_2325_u64;
        let seen = digits
            .iter()
            .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        assert_eq!((digits.len(), seen), (length, hash), "F({n})");
    }

    #[test]
    fn large_numbers_equal_gmp() {
        let mut calculator = calculator();
        check_against_gmp(&mut calculator, 1_000_000, 208_988, 0x05E8_BE02_FFFC_D32F);
        check_against_gmp(&mut calculator, 2_999_999, 626_963, 0xE233_9B21_4375_7D3D);
        check_against_gmp(&mut calculator, 3_000_000, 626_963, 0xAA23_D947_1E8A_8B94);
        check_against_gmp(&mut calculator, 9_999_999, 2_089_876, 0x86E5_BAD7_B2C5_8C1B);
        check_against_gmp(&mut calculator, 10_000_000, 2_089_877, 0xB9FE_E2FA_ECA7_F81B);
    }

    #[test]
    fn memory_at_the_default_maximum_is_bounded() {
        let mut calculator = Calculator::default();
        let used = allocation_counter::measure(|| {
            for n in [10, 8, 7, 10].map(|tenths| DEFAULT_MAX_N / 10 * tenths) {
                compute(&mut calculator, n);
            }
        });
        assert!(used.bytes_max < 40 << 20, "{} bytes", used.bytes_max);
    }

    #[test]
    fn memory_at_the_cap_is_bounded() {
        let mut calculator = Calculator::default();
        let used = allocation_counter::measure(|| drop(compute(&mut calculator, MAX_N)));
        assert!(used.bytes_max < 400_000_000, "{} bytes", used.bytes_max);
    }

    #[test]
    fn addition_doubling_and_cassini_identities_hold() {
        let mut calculator = calculator();
        let mut number = |n| {
            let digits = compute(&mut calculator, n);
            UBig::from_str_radix(str::from_utf8(&digits).unwrap(), 10).unwrap()
        };
        for k in [1_000, 1_001, 54_321] {
            let [before, current, next] = [k - 1, k, k + 1].map(&mut number);
            assert_eq!(number(2 * k), &current * (&next + &before), "F(2·{k})");
            assert_eq!(number(2 * k + 1), &current * &current + &next * &next, "F(2·{k}+1)");
            let [product, square] = [next * before, &current * &current];
            let cassini = if k % 2 == 0 { product - square } else { square - product };
            assert_eq!(cassini, UBig::from(1_u8), "F({k}+1)·F({k}−1) − F({k})²");
        }
    }

    /// The digits of F(n) with one changed.
    fn wrong(n: u64, position: usize) -> Arc<[u8]> {
        let mut digits = doubling::digits(n);
        digits[position] = if digits[position] == b'5' { b'6' } else { b'5' };
        digits.into()
    }

    #[test]
    fn after_a_wrong_result_the_next_attempt_is_used() {
        let n = 50_000;
        let right: Arc<[u8]> = doubling::digits(n).into();
        for position in [0, 1, 5_000, right.len() - 1] {
            let attempts = [wrong(n, position), Arc::clone(&right)];
            let computed = first_verified(n, attempts.into_iter());
            assert!(computed.fallback.is_some(), "digit {position}");
            assert!(Arc::ptr_eq(&computed.digits, &right), "the second attempt");
        }
    }

    #[test]
    fn after_wrong_results_only_ibig_is_used() {
        let n = 50_000;
        for count in [0, 1, 3] {
            let computed = first_verified(n, (0..count).map(|_| wrong(n, 100)));
            assert_eq!(computed.fallback, (count > 0).then_some(Mismatch::Residue));
            assert!(*computed.digits == *doubling::digits(n));
        }
    }

    #[test]
    fn a_failed_attempt_leaves_no_trace() {
        let (mut calculator, n) = (calculator(), 300_000);
        assert_eq!(calculator.doubling.compute(n, 6), None, "six digits are too many");
        compute(&mut calculator, n);
    }
}
