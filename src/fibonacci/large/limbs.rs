//! Numbers as limbs of a few decimal digits: read from text, carried, written as text.
//!
//! A number is the sum of limb·10^(digits·index). Limbs are integers in `f64`. They are *balanced*, from −base/2 to
//! base/2, in all numbers that are multiplied, and *positive*, from 0 to base − 1, in a number to be written.

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

const fn power_of_ten(exponent: usize) -> i32 {
    if exponent == 0 { 1 } else { 10 * power_of_ten(exponent - 1) }
}

/// The groups of digits of a number times a factor, least significant first.
fn groups<const DIGITS: usize>((text, factor): (&[u8], i32)) -> impl Iterator<Item = i32> {
    let value = |group: &[u8]| {
        group.iter().fold(0, |value, digit| 10 * value + i32::from(digit.wrapping_sub(b'0')))
    };
    let (head, groups) = text.as_rchunks::<DIGITS>();
    let groups = groups.iter().rev().map(move |group| factor * value(group));
    groups.chain([factor * value(head)])
}

/// Removes leading zeros.
pub(super) fn trim(number: &mut Vec<f64>) {
    while number.last() == Some(&0.0) {
        number.pop();
    }
}

/// Reads a combination of two numbers of ASCII digits, each with a small factor, into balanced limbs.
pub(super) fn read(terms: [(&[u8], i32); 2], digits: u32, number: &mut Vec<f64>) {
    match digits {
        3 => read_groups::<3>(terms, number),
        4 => read_groups::<4>(terms, number),
        5 => read_groups::<5>(terms, number),
        _ => read_groups::<6>(terms, number),
    }
}

fn read_groups<const DIGITS: usize>(terms: [(&[u8], i32); 2], number: &mut Vec<f64>) {
    /// Added before the division, in units of the base: all is positive there, so that rounding is always down.
    const LIFT: i32 = 16;
    let base = const { power_of_ten(DIGITS) };
    let [left, right] = terms;
    let count = left.0.len().max(right.0.len()) / DIGITS + 2;
    let zeros = || std::iter::repeat(0);
    let sums = groups::<DIGITS>(left).chain(zeros()).zip(groups::<DIGITS>(right).chain(zeros()));
    let mut carry = 0;
    number.clear();
    number.extend(sums.take(count).map(|(left, right)| {
        let lifted = left + right + carry + base / 2 + LIFT * base;
        carry = lifted / base - LIFT;
        f64::from(lifted % base - base / 2)
    }));
    trim(number);
}

/// Fills `text` from its end with the digits of a number of positive limbs.
pub(super) fn write(number: &[f64], digits: u32, text: &mut [u8]) {
    match digits {
        3 => write_groups::<3>(number, text),
        4 => write_groups::<4>(number, text),
        5 => write_groups::<5>(number, text),
        _ => write_groups::<6>(number, text),
    }
}

fn write_groups<const DIGITS: usize>(number: &[f64], text: &mut [u8]) {
    let (head, groups) = text.as_rchunks_mut::<DIGITS>();
    for (group, &limb) in groups.iter_mut().rev().zip(number) {
        *group = limb_digits(limb);
    }
    let top = number.get(groups.len()).map_or([b'0'; DIGITS], |&limb| limb_digits(limb));
    for (digit, top) in head.iter_mut().rev().zip(top.into_iter().rev()) {
        *digit = top;
    }
}

/// The last digits of a positive limb.
fn limb_digits<const DIGITS: usize>(limb: f64) -> [u8; DIGITS] {
    /// What is added to a positive number below 2^32 puts it into the low bits.
    const INTEGER: f64 = 4_503_599_627_370_496.0; // 2^52
    #[expect(clippy::cast_possible_truncation, reason = "a limb is below 10^6")]
    let value = (limb + INTEGER).to_bits() as u32;
    let text = eight_digits(value).to_le_bytes();
    text.last_chunk().copied().unwrap_or([b'0'; DIGITS])
}

/// The digits of a number below 10^8 as text, the first in the lowest byte, by arithmetic on all of them at once.
fn eight_digits(value: u32) -> u64 {
    let fours = u64::from(value / 10_000) | (u64::from(value % 10_000) << 32);
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

    /// Reads `text` and adds zero to each limb, which makes them positive, and writes them.
    #[track_caller]
    fn check_round_trip(text: &str, digits: u32) {
        let mut number = Vec::new();
        read([(text.as_bytes(), 1), (b"", 0)], digits, &mut number);
        let half = Base::balanced(digits).value() / 2.0;
        assert!(number.iter().all(|limb| limb.abs() <= half), "{text}: {number:?}");
        let mut written = vec![b'0'; text.len()];
        positive(&mut number, digits);
        write(&number, digits, &mut written);
        assert_eq!(String::from_utf8_lossy(&written), text);
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
            for length in 1..40 {
                check_round_trip(&"9".repeat(length), digits);
                check_round_trip(&"5".repeat(length), digits);
                check_round_trip(&"1234567890".repeat(4)[..length], digits);
                check_round_trip(&format!("1{}", "0".repeat(length)), digits);
            }
        }
    }

    #[test]
    fn combinations_are_read() {
        let mut number = Vec::new();
        read([(b"55", -1), (b"89", 2)], 4, &mut number);
        assert_eq!(number, [123.0]);
        read([(b"99999999", -1), (b"199999998", 2)], 4, &mut number);
        assert_eq!(number, [-3.0, 0.0, 3.0]); // 299999997
    }

    #[test]
    fn every_group_of_digits() {
        for value in 0..1_000_000 {
            let limb = f64::from(value);
            assert_eq!(limb_digits::<6>(limb).as_slice(), format!("{value:06}").as_bytes());
        }
        for value in 0..10_000 {
            let limb = f64::from(value);
            assert_eq!(limb_digits::<4>(limb).as_slice(), format!("{value:04}").as_bytes());
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
