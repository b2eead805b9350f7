//! Decimal numbers as ASCII digits, most significant first: the length of F(n), and addition.
//!
//! Knows nothing of big integers, tables or transforms.

/// Digits added at once: as many bytes as one `u128` has.
const WORD: usize = 16;

/// log10 of the golden ratio and of the square root of five, in units of 2^-64.
const LOG10_PHI: u128 = 3_855_141_514_259_838_963;
const LOG10_SQRT_5: u128 = 6_446_860_392_593_097_242;

/// Returns the number of decimal digits of F(n) without computing F(n).
///
/// By Binet's formula F(n) is the integer nearest to φⁿ/√5, so for n > 1 its length is
/// ⌊n·log10 φ − log10 √5⌋ + 1. The fixed-point product is off by less than n·2^-64, and for no n up
/// to [`MAX_N`](super::MAX_N) is the logarithm that close to an integer (a test checks each).
pub fn digit_count(n: u64) -> usize {
    let log10 = (u128::from(n) * LOG10_PHI).saturating_sub(LOG10_SQRT_5);
    usize::try_from(log10 >> 64).map_or(usize::MAX, |whole| whole + 1)
}

/// Writes `longer + shorter` to `sum`. Returns false if the total has another length than `sum`.
///
/// `sum` must be no shorter than `longer`, and `longer` no shorter than `shorter`.
#[must_use]
pub(super) fn add(sum: &mut [u8], longer: &[u8], shorter: &[u8]) -> bool {
    let (short_head, short_words) = shorter.as_rchunks::<WORD>();
    let in_words = short_words.len() * WORD;
    let (long_head, long_tail) = longer.split_at(longer.len() - in_words);
    let (sum_head, sum_tail) = sum.split_at_mut(sum.len() - in_words);

    let mut carry = 0;
    let operands = long_tail.as_chunks().0.iter().zip(short_words);
    for (total, (&a, &b)) in sum_tail.as_chunks_mut().0.iter_mut().zip(operands).rev() {
        (*total, carry) = add_words(a, b, carry);
    }
    let carry = add_digits(sum_head, long_head, short_head, carry);
    carry == 0 && sum.first() != Some(&b'0')
}

/// Adds sixteen digits to sixteen digits in one integer addition.
///
/// A byte holds 0x30 + digit. Two of them and 0x96 make 0xF6 + the digits' sum, which leaves the byte
/// exactly when that sum exceeds nine: the binary carry is the decimal carry.
fn add_words(a: [u8; WORD], b: [u8; WORD], carry: u8) -> ([u8; WORD], u8) {
    const EACH: u128 = u128::MAX / 0xFF; // 1 in every byte
    let biased = u128::from_be_bytes(b) + 0x96 * EACH;
    let (total, over) = u128::from_be_bytes(a).overflowing_add(biased);
    let (total, over_by_carry) = total.overflowing_add(u128::from(carry));
    // A byte without a carry still has the bias 0xF6, one that carried has not. Bits 5 to 7 are set in the former
    // only, and two of them make the 6 to subtract.
    let digits = (total & (0x0F * EACH)) - ((total >> 5) & (0x06 * EACH));
    ((digits | (0x30 * EACH)).to_be_bytes(), u8::from(over | over_by_carry))
}

/// Adds the digits above the last whole word one by one. Returns the carry.
fn add_digits(sum: &mut [u8], longer: &[u8], shorter: &[u8], mut carry: u8) -> u8 {
    for ((total, a), b) in sum.iter_mut().rev().zip(padded(longer)).zip(padded(shorter)) {
        let digit = (a - b'0') + (b - b'0') + carry;
        carry = digit / 10;
        *total = b'0' + digit % 10;
    }
    carry
}

/// Iterates over the digits from the least significant up, followed by zeros without end.
fn padded(digits: &[u8]) -> impl Iterator<Item = u8> {
    digits.iter().rev().copied().chain(std::iter::repeat(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_add(longer: &str, shorter: &str, want: Result<&str, usize>) {
        let (length, fits) = want.map_or_else(|length| (length, false), |sum| (sum.len(), true));
        let mut sum = vec![b'0'; length];
        assert_eq!(add(&mut sum, longer.as_bytes(), shorter.as_bytes()), fits);
        if let Ok(want) = want {
            assert_eq!(String::from_utf8(sum).unwrap(), want);
        }
    }

    #[test]
    fn sums() {
        check_add("1", "0", Ok("1"));
        check_add("5", "4", Ok("9"));
        check_add("5", "5", Ok("10"));
        check_add("89", "55", Ok("144"));
        // Carries across the edge of a word, through a word of nines, and out of the top.
        check_add("19999999999999999", "9999999999999999", Ok("29999999999999998"));
        check_add("09999999999999999", "0000000000000001", Ok("10000000000000000"));
        check_add("9999999999999999", "0000000000000001", Ok("10000000000000000"));
        check_add("99999999999999999999999999999999", "1", Ok("100000000000000000000000000000000"));
        check_add(&"7".repeat(99), &"2".repeat(99), Ok(&"9".repeat(99)));
    }

    #[test]
    fn a_sum_of_another_length_is_rejected() {
        check_add("5", "5", Err(1));
        check_add("5", "4", Err(2));
        check_add("9999999999999999", "0000000000000001", Err(16));
    }

    #[test]
    fn lengths_of_numbers_below_2_to_the_128() {
        let (mut a, mut b) = (0_u128, 1_u128);
        for n in 0..=186 {
            assert_eq!(digit_count(n), a.to_string().len(), "F({n}) = {a}");
            (a, b) = (b, a.wrapping_add(b));
        }
    }

    #[test]
    fn the_logarithm_is_never_close_to_an_integer() {
        for n in 2..=crate::fibonacci::MAX_N {
            let log10 = u128::from(n) * LOG10_PHI - LOG10_SQRT_5;
            let error = u128::from(n);
            let above_integer = log10 & u128::from(u64::MAX);
            assert!((error..=u128::from(u64::MAX) - error).contains(&above_integer), "F({n})");
        }
    }
}
