//! Checks that a string of digits is F(n) without computing F(n).
//!
//! F(n) modulo a number of machine size takes a microsecond, by doubling in that ring. The residue of the
//! digits takes one pass over them. The two computations share no code.

use crate::fibonacci::digits::digit_count;

/// The Mersenne prime 2^61 − 1: a wrong number has the right residue with a probability of 2^-61.
const PRIME: u64 = (1 << 61) - 1;

/// The last eighteen digits are the residue modulo this.
const LAST: u64 = 10_u64.pow(18);
const LAST_DIGITS: usize = 18;

/// What is wrong with a computed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It has another number of digits than F(n).
    Length,
    /// It contains a character that is not a digit.
    NotDigits,
    /// Its last eighteen digits are not those of F(n).
    LastDigits,
    /// Its residue modulo 2^61 − 1 is not that of F(n).
    Residue,
}

/// Checks that `digits` are the ASCII digits of F(n), by length, last digits and residue.
pub fn check(n: u64, digits: &[u8]) -> Result<(), Mismatch> {
    if digits.len() != digit_count(n) {
        return Err(Mismatch::Length);
    }
    let Some(residue) = residue(digits) else { return Err(Mismatch::NotDigits) };
    let (_, last) = digits.split_at(digits.len().saturating_sub(LAST_DIGITS));
    if small(last) != fibonacci_modulo(n, LAST, modulo_last) {
        return Err(Mismatch::LastDigits);
    }
    if residue != fibonacci_modulo(n, PRIME, modulo_prime) {
        return Err(Mismatch::Residue);
    }
    Ok(())
}

/// Digits in a group, and groups in a block.
const GROUP: usize = 8;
const GROUPS: usize = 8;

/// The number that `digits` write, modulo [`PRIME`], or `None` if there is another character among them.
///
/// Each pair of groups in a block has a sum of its own, so that four multiplications are under way at a time.
fn residue(digits: &[u8]) -> Option<u64> {
    const PAIR_WEIGHT: u64 = 10_u64.pow(16);
    let (head, groups) = digits.as_rchunks::<GROUP>();
    let (first, blocks) = groups.as_rchunks::<GROUPS>();
    let mut invalid = head.iter().any(|digit| !digit.is_ascii_digit());
    let mut group = |digits: &[u8; GROUP]| {
        let (value, is_invalid) = eight_digits(*digits);
        invalid |= is_invalid;
        value
    };
    let start = first.iter().fold(small(head), |high, low| {
        modulo_prime(u128::from(high) * 100_000_000 + u128::from(group(low)))
    });
    let block_weight = power(PAIR_WEIGHT, GROUPS / 2);
    let mut sums = [0, 0, 0, start];
    for block in blocks {
        for (sum, [high, low]) in sums.iter_mut().zip(block.as_chunks().0) {
            let pair = group(high) * 100_000_000 + group(low);
            *sum = modulo_prime(u128::from(*sum) * u128::from(block_weight) + u128::from(pair));
        }
    }
    let residue = sums.into_iter().fold(0, |high, low| {
        modulo_prime(u128::from(high) * u128::from(PAIR_WEIGHT) + u128::from(low))
    });
    (!invalid).then_some(residue)
}

/// The value of eight digits, by arithmetic on all of them at once, and whether one of them is none.
fn eight_digits(digits: [u8; GROUP]) -> (u64, bool) {
    const EACH: u64 = u64::MAX / 0xFF; // 1 in every byte
    let text = u64::from_le_bytes(digits);
    let values = text ^ (0x30 * EACH);
    // A digit is at most 9: six more stay below 16. Anything else has a bit above.
    let is_invalid = (values | ((values & (0x7F * EACH)) + 6 * EACH)) & (0xF0 * EACH) != 0;
    let pairs = (values.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul(1 + (10_000 << 32)) >> 32, is_invalid)
}

/// `base` to the power of `exponent`, modulo [`PRIME`].
fn power(base: u64, exponent: usize) -> u64 {
    (0..exponent).fold(1, |power, _| modulo_prime(u128::from(power) * u128::from(base)))
}

/// `x` modulo [`PRIME`], for `x` below 2^124: 2^61 is 1 there, so the high bits count like low ones.
fn modulo_prime(x: u128) -> u64 {
    let fold = (x & u128::from(PRIME)) + (x >> 61);
    let fold = (fold & u128::from(PRIME)) + (fold >> 61);
    u64::try_from(fold).map_or(0, |fold| if fold >= PRIME { fold - PRIME } else { fold })
}

/// The value of up to eighteen digits.
fn small(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, &digit| value * 10 + u64::from(digit.wrapping_sub(b'0')))
}

/// `x` modulo [`LAST`], for `x` below 2^122, by an estimate of the quotient that is at most two too small.
fn modulo_last(x: u128) -> u64 {
    const RECIPROCAL: u128 = (1 << 123) / LAST as u128;
    let quotient = ((x >> 59) * RECIPROCAL) >> 64;
    let rest = u64::try_from(x - quotient * u128::from(LAST)).unwrap_or(0);
    let rest = if rest >= 2 * LAST { rest - 2 * LAST } else { rest };
    if rest >= LAST { rest - LAST } else { rest }
}

/// F(n) modulo `modulus`, which is below 2^61, by doubling in that ring; `modulo` reduces what is below 2^124.
fn fibonacci_modulo(n: u64, modulus: u64, modulo: impl Fn(u128) -> u64) -> u64 {
    /// F(64) is below 10^18, hence reduced: the leading six bits of n are done by additions.
    const START_BITS: u32 = 6;
    let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
    let shift = (u64::BITS - n.leading_zeros()).saturating_sub(START_BITS);
    let (mut current, mut next) = (0..n >> shift).fold((0, 1), |(a, b), _| (b, a + b));
    for bit in (0..shift).rev() {
        // F(2k) = F(k)·(2·F(k+1) − F(k)) and F(2k+1) = F(k)² + F(k+1)²
        let even = modulo(product(current, 2 * next + modulus - current));
        let odd = modulo(product(current, current) + product(next, next));
        let sum = even + odd;
        let sum = if sum >= modulus { sum - modulus } else { sum };
        (current, next) = if (n >> bit) & 1 == 0 { (even, odd) } else { (odd, sum) };
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fibonacci::doubling;

    #[test]
    fn correct_numbers_pass() {
        for n in (0..500).chain([999, 1_000, 12_345, 99_999]) {
            assert_eq!(check(n, &doubling::digits(n)), Ok(()), "F({n})");
        }
    }

    #[track_caller]
    fn check_rejected(n: u64, alter: impl FnOnce(&mut Vec<u8>), want: Mismatch) {
        let mut digits = doubling::digits(n);
        alter(&mut digits);
        assert_eq!(check(n, &digits), Err(want));
    }

    #[test]
    fn wrong_numbers_are_rejected() {
        check_rejected(1_000, Vec::clear, Mismatch::Length);
        check_rejected(1_000, |digits| digits.push(b'0'), Mismatch::Length);
        check_rejected(1_000, |digits| *digits.last_mut().unwrap() ^= 1, Mismatch::LastDigits);
        check_rejected(1_000, |digits| digits[0] ^= 1, Mismatch::Residue);
        check_rejected(1_000, |digits| digits.swap(100, 101), Mismatch::Residue);
        check_rejected(100_000, |digits| digits[10_000] ^= 1, Mismatch::Residue);
    }

    #[test]
    fn characters_that_are_not_digits_are_rejected() {
        // As numbers, "4>" and "54" are equal: 4·10 + 14.
        for length in [19, 20, 24, 32, 100, 200, 209] {
            for position in 0..length {
                for character in [b'/', b':', b'>', b' ', 0, 0x7F, 0xB0, 0xFF] {
                    let mut digits = vec![b'1'; length];
                    digits[position] = character;
                    assert_eq!(residue(&digits), None, "{character} at {position} of {length}");
                }
            }
        }
        check_rejected(1_000, |digits| digits[0] = b':', Mismatch::NotDigits);
        check_rejected(1_000, |digits| *digits.last_mut().unwrap() = b':', Mismatch::NotDigits);
    }

    #[test]
    fn eight_digits_at_a_time_equal_one_at_a_time() {
        let mut digits = Vec::new();
        for length in 0..300_u32 {
            let plain = digits.iter().fold(0, |high, digit: &u8| {
                modulo_prime(u128::from(high) * 10 + u128::from(digit - b'0'))
            });
            assert_eq!(residue(&digits), Some(plain), "{length} digits");
            digits.push(b'0' + u8::try_from(length * length % 11 % 10).unwrap());
        }
    }

    #[test]
    fn estimated_quotients_are_corrected() {
        let last = u128::from(LAST);
        for quotient in [0, 1, 2, 12_345, last / 3, 2 * last, 4 * last] {
            for rest in [0, 1, last / 2, last - 1] {
                assert_eq!(u128::from(modulo_last(quotient * last + rest)), rest);
            }
        }
    }

    #[test]
    fn neighbours_of_equal_length_are_distinguished() {
        // 479 and 480 have the same number of digits.
        assert_eq!(digit_count(479), digit_count(480));
        assert_eq!(check(480, &doubling::digits(479)), Err(Mismatch::LastDigits));
    }

    #[test]
    fn residues_of_known_numbers() {
        assert_eq!(residue(b"2305843009213693951"), Some(0)); // the prime itself
        assert_eq!(residue(b"2305843009213693952"), Some(1));
        assert_eq!(residue(b"0"), Some(0));
        assert_eq!(residue(b"340282366920938463463374607431768211456"), Some(64)); // 2^128 = 2^6
    }
}
