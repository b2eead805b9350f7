//! F(n) for any n: picks the way by n, checks what the fast way says, and falls back on the sure one.

use std::fmt;
use std::sync::Arc;

use crate::fibonacci::check::{Mismatch, check};
use crate::fibonacci::decimal_doubling::{DecimalDoubling, LEAST_N};
use crate::fibonacci::doubling;

/// The largest n that [`Calculator`] computes in decimal: the error bound of the transform and the
/// memory are looked after up to here. It answers beyond, but by the plain way.
pub const MAX_N: u64 = 10_000_000;

/// From this n on doubling in decimal, below it the plain way.
///
/// Measured, with the check and with transforms at hand: 1.9 against 2.2 µs at n = 1,200, 3.1 against
/// 4.0 µs at 2,000, 5.3 against 8.6 µs at 4,000; nearer to 1,000 the order changes from run to run.
const DECIMAL_FROM: u64 = 2_000;
const _: () = assert!(DECIMAL_FROM >= LEAST_N, "doubling in decimal cannot start there");

/// From this n on limbs have three digits, below it four, which would be half as fast again.
///
/// The error bound decides (see [`transform`](super::transform)): it has room for four digits up to
/// here, and none at the cap.
const THREE_DIGITS_FROM: u64 = 3_000_000;

/// Computes Fibonacci numbers, one at a time.
///
/// It keeps transforms and working memory from one number to the next. F([`MAX_N`]) alone takes 56 MB
/// at its peak, with the 2 MB of the answer; after numbers of many sizes it is 66 MB, which is the
/// bound, since the transforms kept are bounded.
#[derive(Default)]
pub struct Calculator {
    decimal: DecimalDoubling,
}

/// A Fibonacci number and how it came about.
#[derive(Clone, Debug)]
pub struct Computed {
    /// In decimal, most significant first.
    pub digits: Arc<[u8]>,
    /// Who computed them.
    pub way: Way,
    /// Set if the fast way's answer was wrong, which is worth a line in the log: what was wrong.
    pub fallback: Option<Mismatch>,
}

/// The ways to a Fibonacci number that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Doubling in binary with ibig, and its conversion.
    Binary,
    /// Doubling in decimal.
    Decimal,
}

impl Calculator {
    /// F(n).
    pub fn compute(&mut self, n: u64) -> Computed {
        let digits = match n {
            DECIMAL_FROM..THREE_DIGITS_FROM => self.decimal.digits::<4>(n),
            THREE_DIGITS_FROM..=MAX_N => self.decimal.digits::<3>(n),
            _ => return plain(n, None),
        };
        checked(n, digits)
    }
}

impl fmt::Debug for Calculator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calculator").finish_non_exhaustive()
    }
}

/// `digits` if they are F(n), else F(n).
fn checked(n: u64, digits: Arc<[u8]>) -> Computed {
    match check(n, &digits) {
        Ok(()) => Computed { digits, way: Way::Decimal, fallback: None },
        Err(mismatch) => plain(n, Some(mismatch)),
    }
}

fn plain(n: u64, fallback: Option<Mismatch>) -> Computed {
    Computed { digits: doubling::digits(n).into(), way: Way::Binary, fallback }
}

#[cfg(test)]
mod tests {
    use ibig::UBig;

    use super::*;
    use crate::fibonacci::table::Table;

    #[track_caller]
    fn compute(calculator: &mut Calculator, n: u64) -> Arc<[u8]> {
        let computed = calculator.compute(n);
        let way = if n < DECIMAL_FROM { Way::Binary } else { Way::Decimal };
        assert_eq!((computed.way, computed.fallback), (way, None), "F({n})");
        computed.digits
    }

    #[test]
    fn every_n_is_the_sum_of_the_two_before() {
        let (mut calculator, table) = (Calculator::default(), Table::new(20_000).unwrap());
        for n in 0..=20_000 {
            assert!(Some(&*compute(&mut calculator, n)) == table.get(n), "F({n})");
        }
    }

    #[test]
    fn binary_and_decimal_agree() {
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
    fn large_numbers_are_what_gmp_says() {
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
    fn identities_hold() {
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
    fn a_wrong_limb_is_caught_and_answered_by_the_plain_way() {
        let n = 50_000;
        for limb in [0, 1, 100, 1_000] {
            let mut decimal = DecimalDoubling::default();
            let [mut factor, lucas] = decimal.factors::<4>(n);
            factor.limbs[limb] += 1;
            let computed = checked(n, decimal.product(n, [factor, lucas]));
            assert!(computed.fallback.is_some(), "limb {limb}");
            assert_eq!(computed.way, Way::Binary);
            assert!(*computed.digits == *doubling::digits(n));
        }
    }
}
