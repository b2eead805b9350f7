//! Numbers as limbs of a few decimal digits: read from text, carried, written as text.
//!
//! A number is the sum of limb·10^(digits·index). Limbs are integers in `f64`. They are *balanced*, from −base/2 to
//! base/2, in all numbers that are multiplied, and *positive*, from 0 to base − 1, in a number to be written.

use pulp::{Simd, WithSimd};

/// 1.5·2^52: a number below 2^51 in magnitude that is added to it loses its fraction.
pub(super) const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// A base, and the range of its limbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    digits: u32,
    is_positive: bool,
}

impl Base {
    pub(super) const fn balanced(digits: u32) -> Self {
        Self { digits, is_positive: false }
    }

    pub(super) const fn positive(digits: u32) -> Self {
        Self { digits, is_positive: true }
    }

    pub(super) fn value(self) -> f64 {
        f64::from(10_u32.pow(self.digits))
    }

    pub(super) fn inverse(self) -> f64 {
        self.value().recip()
    }

    /// The middle of the range of limbs.
    pub(super) fn middle(self) -> f64 {
        if self.is_positive { (self.value() - 1.0) / 2.0 } else { 0.0 }
    }

    /// Splits `x` into a carry and a limb.
    fn release(self, x: f64) -> (f64, f64) {
        let carry = ((x - self.middle()) * self.inverse() + ROUNDER) - ROUNDER;
        (carry, x - carry * self.value())
    }
}

/// Adds `carry` at `position`, and what it carries above.
pub(super) fn add_at(number: &mut [f64], position: usize, mut carry: f64, base: Base) {
    for limb in number.iter_mut().skip(position) {
        if carry == 0.0 {
            break;
        }
        (carry, *limb) = base.release(*limb + carry);
    }
}

/// The value of a group of digits, by arithmetic on all of them at once.
fn value(group: &[u8]) -> u64 {
    let mut digits = [b'0'; 8];
    for (digit, &character) in digits.iter_mut().rev().zip(group.iter().rev()) {
        *digit = character;
    }
    let digits = u64::from_le_bytes(digits) & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (digits.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

/// The groups of digits of a number times a factor, least significant first.
fn groups<const DIGITS: usize>((text, factor): (&[u8], f64)) -> impl Iterator<Item = f64> {
    let (head, groups) = text.as_rchunks::<DIGITS>();
    #[expect(clippy::cast_precision_loss, reason = "a group is below 10^8")]
    let term = move |group: &[u8]| factor * value(group) as f64;
    groups.iter().rev().map(move |group| term(group)).chain([term(head)])
}

/// Removes leading zeros.
pub(super) fn trim(number: &mut Vec<f64>) {
    while number.last() == Some(&0.0) {
        number.pop();
    }
}

/// Reads a combination of two numbers of ASCII digits, each with a small factor, into balanced limbs.
pub(super) fn read(terms: [(&[u8], f64); 2], digits: u32, number: &mut Vec<f64>) {
    let base = Base::balanced(digits);
    match digits {
        3 => read_groups::<3>(terms, base, number),
        4 => read_groups::<4>(terms, base, number),
        5 => read_groups::<5>(terms, base, number),
        _ => read_groups::<6>(terms, base, number),
    }
}

/// Each group passes a carry on to the next one only, so a limb may exceed the range by as much as a carry.
fn read_groups<const DIGITS: usize>(terms: [(&[u8], f64); 2], base: Base, number: &mut Vec<f64>) {
    let [left, right] = terms;
    let count = left.0.len().max(right.0.len()) / DIGITS + 2;
    let zeros = || std::iter::repeat(0.0);
    let sums = groups::<DIGITS>(left).chain(zeros()).zip(groups::<DIGITS>(right).chain(zeros()));
    let mut below = 0.0;
    number.clear();
    number.extend(sums.take(count).map(|(left, right)| {
        let (carry, limb) = base.release(left + right);
        limb + std::mem::replace(&mut below, carry)
    }));
    trim(number);
}

/// Fills a text from its end with the digits of a number of positive limbs.
pub(super) struct Write<'a> {
    pub(super) number: &'a [f64],
    pub(super) digits: u32,
    pub(super) text: &'a mut [u8],
}

impl WithSimd for Write<'_> {
    type Output = ();

    /// Vectors are those that the compiler finds.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { number, digits, text } = self;
        match digits {
            3 => write_groups::<3>(number, text),
            4 => write_groups::<4>(number, text),
            5 => write_groups::<5>(number, text),
            _ => write_groups::<6>(number, text),
        }
    }
}

/// Characters that are written for each limb: those before its own are overwritten by the next limb.
const WORD: usize = 8;

/// Limbs that are written at a time: enough for the compiler to use vectors.
const CHUNK: usize = 32;

#[inline(always)]
fn write_groups<const DIGITS: usize>(number: &[f64], mut text: &mut [u8]) {
    let (chunks, _) = number.as_chunks::<CHUNK>();
    let mut written = 0;
    for limbs in chunks {
        let end = text.len();
        let window = end.checked_sub((CHUNK - 1) * DIGITS + WORD);
        let Some(window) = window.and_then(|start| text.get_mut(start..)) else { break };
        let mut words = [0; CHUNK];
        for (word, limb) in words.iter_mut().zip(limbs) {
            *word = limb_digits::<DIGITS>(*limb);
        }
        for (place, word) in words.iter().enumerate() {
            let at = (CHUNK - 1 - place) * DIGITS;
            let place = window.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            if let Some(place) = place {
                *place = word.to_le_bytes();
            }
        }
        text = text.get_mut(..end - CHUNK * DIGITS).unwrap_or_default();
        written += CHUNK;
    }
    let rest = number.get(written..).unwrap_or_default();
    for (group, limb) in text.rchunks_mut(DIGITS).zip(rest) {
        let digits = limb_digits::<DIGITS>(*limb).to_le_bytes();
        for (place, digit) in group.iter_mut().rev().zip(digits.into_iter().rev()) {
            *place = digit;
        }
    }
}

/// The digits of a positive limb as text, after zeros, the first in the lowest byte, by arithmetic on all at once.
#[inline(always)]
fn limb_digits<const DIGITS: usize>(limb: f64) -> u64 {
    /// What is added to a positive number below 2^32 puts it into the low bits.
    const INTEGER: f64 = 4_503_599_627_370_496.0; // 2^52
    let value = (limb + INTEGER).to_bits() & 0xFFFF_FFFF;
    let fours = if DIGITS > 4 {
        let high = (value * 109_951_163) >> 40; // 109951163/2^40 is 1/10^4 for what is below 10^8
        high | ((value - high * 10_000) << 32)
    } else {
        value << 32
    };
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F; // 10486/2^20 is 1/100 for what is below 10^4
    let pairs = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F; // 103/1024 is 1/10 for what is below 100
    let digits = tens | ((pairs - tens * 10) << 8);
    digits | 0x3030_3030_3030_3030
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "limbs are integers")]
mod tests {
    use super::*;
    use crate::fibonacci::large::vectors::Vectors;

    /// Reads `text` and adds zero to each limb, which makes them positive, and writes them.
    #[track_caller]
    fn check_round_trip(text: &str, digits: u32) {
        let mut number = Vec::new();
        read([(text.as_bytes(), 1.0), (b"", 0.0)], digits, &mut number);
        let most = Base::balanced(digits).value() / 2.0 + 1.0;
        assert!(number.iter().all(|limb| limb.abs() <= most), "{text}: {number:?}");
        let mut written = vec![b'?'; text.len()];
        positive(&mut number, digits);
        number.resize(text.len() / 3 + 2, 0.0);
        for vectors in Vectors::available() {
            written.fill(b'?');
            vectors.dispatch(Write { number: &number, digits, text: &mut written });
            assert_eq!(String::from_utf8_lossy(&written), text, "{vectors}");
        }
    }

    fn positive(number: &mut [f64], digits: u32) {
        let (mut carry, base) = (0.0, Base::positive(digits));
        for limb in number {
            (carry, *limb) = base.release(*limb + carry);
        }
        assert_eq!(carry, 0.0);
    }

    #[test]
    fn text_is_read_and_written() {
        for digits in 3..=6 {
            for length in 1..200 {
                check_round_trip(&"9".repeat(length), digits);
                check_round_trip(&"5".repeat(length), digits);
                check_round_trip(&"1234567890".repeat(20)[..length], digits);
                check_round_trip(&format!("1{}", "0".repeat(length)), digits);
            }
        }
    }

    #[test]
    fn combinations_are_read() {
        let mut number = Vec::new();
        read([(b"55", -1.0), (b"89", 2.0)], 4, &mut number);
        assert_eq!(number, [123.0]);
        read([(b"99999999", -1.0), (b"199999998", 2.0)], 4, &mut number);
        assert_eq!(number, [-3.0, 0.0, 3.0]); // 299999997
    }

    #[test]
    fn every_group_of_digits() {
        for value in 0..1_000_000 {
            let text = format!("{value:08}");
            assert_eq!(limb_digits::<6>(f64::from(value)).to_le_bytes(), *text.as_bytes());
            if value < 10_000 {
                assert_eq!(limb_digits::<4>(f64::from(value)).to_le_bytes(), *text.as_bytes());
            }
        }
    }

    #[test]
    fn a_carry_passes_through_full_limbs() {
        let mut number = [9_999.0, 9_999.0, 9_999.0, 0.0];
        add_at(&mut number, 1, 1.0, Base::positive(4));
        assert_eq!(number, [9_999.0, 0.0, 0.0, 1.0]);
        add_at(&mut number, 1, -1.0, Base::positive(4));
        assert_eq!(number, [9_999.0, 9_999.0, 9_999.0, 0.0]);
        add_at(&mut number, 0, 123_456_789_012.0, Base::positive(4));
        assert_eq!(number, [9_011.0, 5_678.0, 1_234.0, 1.0]);
    }
}
