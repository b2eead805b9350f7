//! Computes F(n) for any n: selects the algorithm by n, verifies the result, and recomputes it with ibig if
//! verification fails.

use std::fmt;
use std::sync::Arc;

use crate::fibonacci::check::{Mismatch, check};
use crate::fibonacci::decimal_doubling::{DecimalDoubling, LEAST_N};
use crate::fibonacci::doubling;

/// The largest n that [`Calculator`] computes in decimal. The error bound of the transform and the memory
/// bound hold up to here. Larger numbers are computed with ibig.
pub const MAX_N: u64 = 10_000_000;

/// From this n on numbers are computed in decimal, below it with ibig.
///
/// Measured, including the check, with transforms prepared: 1.9 against 2.2 µs at n = 1,200, 3.1 against
/// 4.0 µs at 2,000, 5.3 against 8.6 µs at 4,000; nearer to 1,000 the order changes from run to run.
const DECIMAL_FROM: u64 = 2_000;
const _: () = assert!(DECIMAL_FROM >= LEAST_N, "doubling in decimal cannot start there");

/// From this n on limbs have three digits, below it four, which is faster by half.
///
/// The error bound (see [`transform`](super::transform)) allows four digits up to here, but not at the cap.
const THREE_DIGITS_FROM: u64 = 3_000_000;

/// Computes Fibonacci numbers, one at a time.
///
/// Transforms and working memory are reused for the next number. F([`MAX_N`]) alone takes 56 MB at its peak,
/// including 2 MB for the result. After numbers of many sizes it is 66 MB, which is the bound, since the
/// size of the cached transforms is bounded.
#[derive(Default)]
pub struct Calculator {
    decimal: DecimalDoubling,
}

/// A computed Fibonacci number.
#[derive(Clone, Debug)]
pub struct Computed {
    /// In decimal, most significant first.
    pub digits: Arc<[u8]>,
    /// What was wrong with the first result, if it failed verification and was recomputed with ibig.
    pub fallback: Option<Mismatch>,
}

impl Calculator {
    /// Computes F(n).
    pub fn compute(&mut self, n: u64) -> Computed {
        let digits = match n {
            DECIMAL_FROM..THREE_DIGITS_FROM => self.decimal.digits::<4>(n),
            THREE_DIGITS_FROM..=MAX_N => self.decimal.digits::<3>(n),
            _ => return binary(n, None),
        };
        verified(n, digits)
    }
}

impl fmt::Debug for Calculator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calculator").finish_non_exhaustive()
    }
}

/// Returns `digits` if they are F(n), else F(n) as computed with ibig.
fn verified(n: u64, digits: Arc<[u8]>) -> Computed {
    match check(n, &digits) {
        Ok(()) => Computed { digits, fallback: None },
        Err(mismatch) => binary(n, Some(mismatch)),
    }
}

/// Computes F(n) with ibig.
fn binary(n: u64, fallback: Option<Mismatch>) -> Computed {
    Computed { digits: doubling::digits(n).into(), fallback }
}

#[cfg(test)]
mod tests {
    use ibig::UBig;

    use super::*;
    use crate::fibonacci::table::Table;

    #[track_caller]
    fn compute(calculator: &mut Calculator, n: u64) -> Arc<[u8]> {
        let computed = calculator.compute(n);
        assert_eq!(computed.fallback, None, "F({n})");
        computed.digits
    }

    #[test]
    fn numbers_up_to_20_000_equal_the_table() {
        let (mut calculator, table) = (Calculator::default(), Table::new(20_000).unwrap());
        for n in 0..=20_000 {
            assert!(Some(&*compute(&mut calculator, n)) == table.get(n), "F({n})");
        }
    }

    #[test]
    fn decimal_and_binary_doubling_agree() {
        let mut calculator = Calculator::default();
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
        let mut calculator = Calculator::default();
        check_against_gmp(&mut calculator, 1_000_000, 208_988, 0x05E8_BE02_FFFC_D32F);
        check_against_gmp(&mut calculator, 2_999_999, 626_963, 0xE233_9B21_4375_7D3D);
        check_against_gmp(&mut calculator, 3_000_000, 626_963, 0xAA23_D947_1E8A_8B94);
        check_against_gmp(&mut calculator, 9_999_999, 2_089_876, 0x86E5_BAD7_B2C5_8C1B);
        check_against_gmp(&mut calculator, 10_000_000, 2_089_877, 0xB9FE_E2FA_ECA7_F81B);
    }

    #[test]
    fn memory_at_the_cap_is_bounded() {
        let mut calculator = Calculator::default();
        let used = allocation_counter::measure(|| {
            for n in [MAX_N, MAX_N * 4 / 5, MAX_N * 2 / 3, MAX_N] {
                compute(&mut calculator, n);
            }
        });
        assert!(used.bytes_max < 80 << 20, "{} bytes", used.bytes_max);
    }

    #[test]
    fn addition_doubling_and_cassini_identities_hold() {
        let mut calculator = Calculator::default();
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

    #[test]
    fn a_wrong_limb_is_detected_and_the_number_recomputed() {
        let n = 50_000;
        for limb in [0, 1, 100, 1_000] {
            let mut decimal = DecimalDoubling::default();
            let [mut factor, lucas] = decimal.factors::<4>(n);
            factor.limbs[limb] += 1;
            let computed = verified(n, decimal.product(n, [factor, lucas]));
            assert!(computed.fallback.is_some(), "limb {limb}");
            assert!(*computed.digits == *doubling::digits(n));
        }
    }
}
