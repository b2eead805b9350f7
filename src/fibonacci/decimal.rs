//! Big numbers as limbs of a few decimal digits: carried from coefficients, written out as text.
//!
//! Multiplication is in [`transform`](super::transform), which yields the coefficients.

/// A number, as the sum of limb·10^(DIGITS·index).
///
/// Limbs are *balanced*, from −BASE/2 to BASE/2: half as large as digits from zero up, which makes the
/// rounding error of products a quarter.
#[derive(Clone, Debug, Default)]
pub(super) struct Decimal<const DIGITS: usize> {
    pub(super) limbs: Vec<i32>,
}

impl<const DIGITS: usize> Decimal<DIGITS> {
    /// How much more a limb counts than the one before.
    pub(super) const BASE: i64 = power_of_ten(DIGITS).cast_signed();

    /// A number of machine size.
    pub(super) fn new(mut value: u128) -> Self {
        let base = u128::from(Self::BASE.cast_unsigned());
        let mut carry = Carry::<DIGITS>::balanced(0);
        let mut limbs = Vec::new();
        while value > 0 || carry.amount != 0 {
            limbs.push(carry.release(i64::try_from(value % base).unwrap_or(0)));
            value /= base;
        }
        Self { limbs }
    }

    /// Becomes the number with these coefficients, given as by
    /// [`Transform::coefficients`](super::transform::Transform::coefficients), plus a constant.
    pub(super) fn assign(
        &mut self,
        coefficients: impl ExactSizeIterator<Item = [i64; 2]>,
        constant: i64,
    ) {
        release(coefficients, Carry::<DIGITS>::balanced(constant), &mut self.limbs);
        let leading_zeros = self.limbs.iter().rev().take_while(|&&limb| limb == 0).count();
        self.limbs.truncate(self.limbs.len() - leading_zeros);
    }

    /// Fills `text`, which holds zeros before, from its end with the digits of the number that
    /// [`assign`](Self::assign) would have made.
    ///
    /// The number must not be used afterwards: its limbs are no longer balanced.
    pub(super) fn write(
        &mut self,
        coefficients: impl ExactSizeIterator<Item = [i64; 2]>,
        constant: i64,
        text: &mut [u8],
    ) {
        const { assert!(DIGITS <= 4, "four_digits renders a limb") };
        release(coefficients, Carry::<DIGITS>::positive(constant), &mut self.limbs);
        let (head, groups) = text.as_rchunks_mut::<DIGITS>();
        let mut limbs = self.limbs.iter().map(|limb| four_digits(limb.cast_unsigned()));
        for (group, digits) in groups.iter_mut().rev().zip(&mut limbs) {
            group.copy_from_slice(digits.last_chunk::<DIGITS>().unwrap_or(&[b'0'; DIGITS]));
        }
        for (digit, top) in head.iter_mut().rev().zip(limbs.flat_map(|top| top.into_iter().rev())) {
            *digit = top;
        }
    }
}

/// Makes limbs of coefficients.
///
/// Carries go up through the lower half and the upper half side by side, so that one half's steps fill
/// the time in which the other's wait for each other, and in the end from the lower into the upper.
fn release<const DIGITS: usize>(
    coefficients: impl ExactSizeIterator<Item = [i64; 2]>,
    mut low_carry: Carry<DIGITS>,
    limbs: &mut Vec<i32>,
) {
    let mut high_carry = Carry { amount: 0, ..low_carry };
    let half = coefficients.len();
    limbs.clear();
    limbs.reserve(2 * half + 1);
    limbs.resize(2 * half, 0);
    let (low, high) = limbs.split_at_mut(half);
    for ((low, high), [a, b]) in low.iter_mut().zip(&mut *high).zip(coefficients) {
        *low = low_carry.release(a);
        *high = high_carry.release(b);
    }
    for limb in high {
        if low_carry.amount == 0 {
            break;
        }
        *limb = low_carry.release(i64::from(*limb));
    }
    // A sum of products may be longer than the products, by a part of a limb.
    limbs.push(high_carry.release(low_carry.amount));
}

/// The carry from one limb to the next.
#[derive(Clone, Copy)]
struct Carry<const DIGITS: usize> {
    amount: i64,
    /// The smallest limb to leave behind.
    smallest: i64,
}

impl<const DIGITS: usize> Carry<DIGITS> {
    const BASE: i64 = Decimal::<DIGITS>::BASE;

    /// Added before the division, in units of the base: all is positive there, so that rounding is
    /// always down. Coefficients stay below 2^44 in magnitude.
    const LIFT: i64 = 1 << 40;

    fn balanced(amount: i64) -> Self {
        Self { amount, smallest: -Self::BASE / 2 }
    }

    fn positive(amount: i64) -> Self {
        Self { amount, smallest: 0 }
    }

    /// Adds a coefficient and returns its limb.
    fn release(&mut self, coefficient: i64) -> i32 {
        let lifted = coefficient + self.amount - self.smallest + Self::LIFT * Self::BASE;
        let quotient = lifted.cast_unsigned() / Self::BASE.cast_unsigned();
        self.amount = quotient.cast_signed() - Self::LIFT;
        let limb = lifted - quotient.cast_signed() * Self::BASE + self.smallest;
        #[expect(clippy::cast_possible_truncation, reason = "a limb is below the base")]
        let limb = limb as i32;
        limb
    }
}

/// The last four digits of a number below 10,000 as text, by arithmetic on all of them at once.
fn four_digits(value: u32) -> [u8; 4] {
    let pairs = (value / 100) | ((value % 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000F_000F; // 103/1024 is 1/10 for what is below 100
    let digits = tens | ((pairs - tens * 10) << 8);
    (digits | 0x3030_3030).to_le_bytes()
}

const fn power_of_ten(exponent: usize) -> u64 {
    if exponent == 0 { 1 } else { 10 * power_of_ten(exponent - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Coefficients of any size, paired as a transform gives them, must make the expected digits.
    #[track_caller]
    fn check_written<const DIGITS: usize>(coefficients: &[i64], constant: i64, want: &str) {
        let (low, high) = coefficients.split_at(coefficients.len() / 2);
        let pairs = || low.iter().zip(high).map(|(&low, &high)| [low, high]);
        let mut text = vec![b'0'; want.len()];
        Decimal::<DIGITS>::default().write(pairs(), constant, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), want);

        let mut balanced = Decimal::<DIGITS>::default();
        balanced.assign(pairs(), constant);
        let half = i32::try_from(Decimal::<DIGITS>::BASE / 2).unwrap();
        assert!(balanced.limbs.iter().all(|limb| (-half..=half).contains(limb)));
        let mut again = vec![[0, 0]; balanced.limbs.len()];
        again.iter_mut().zip(&balanced.limbs).for_each(|(pair, &limb)| pair[0] = limb.into());
        Decimal::<DIGITS>::default().write(again.into_iter(), 0, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), want);
    }

    #[test]
    fn carries_go_all_the_way() {
        check_written::<4>(&[1, 2], 0, "20001");
        check_written::<4>(&[1, 2], 0, "0020001");
        check_written::<3>(&[1, 2], 0, "2001");
        check_written::<4>(&[123_456_789_012, 0, 0, 0], 0, "123456789012");
        check_written::<3>(&[123_456_789_012, 0, 0, 0], 0, "123456789012");
        check_written::<4>(&[-1, 0, 0, 1], 0, "999999999999");
        check_written::<4>(&[9_999, 9_999, 9_999, 0], 1, "1000000000000");
        check_written::<4>(&[0, 0, 0, 1], -2, "999999999998");
    }

    #[test]
    fn machine_numbers() {
        for value in [0, 1, 4_999, 5_000, 5_001, 9_999, 10_000, 99_995_000, u128::MAX / 4] {
            let number = Decimal::<4>::new(value);
            let coefficients = number.limbs.iter().map(|&limb| [i64::from(limb), 0]);
            let mut text = vec![b'0'; value.to_string().len()];
            Decimal::<4>::default().write(coefficients, 0, &mut text);
            assert_eq!(String::from_utf8_lossy(&text), value.to_string());
        }
    }

    #[test]
    fn every_group_of_digits() {
        for value in 0..10_000 {
            assert_eq!(four_digits(value).as_slice(), format!("{value:04}").as_bytes());
        }
    }
}
