//! Doubling in decimal, which needs no conversion at the end.
//!
//! From F(j) and F(j+1) two squarings give every number that is about twice as far, a sum of
//! multiples of F(j)², F(j+1)² and 1. The last step is one product. [`calculator`](super::calculator)
//! verifies the result.

use std::sync::Arc;

use crate::fibonacci::decimal::Decimal;
use crate::fibonacci::digits::digit_count;
use crate::fibonacci::transform::{Point, Transform};
use crate::fibonacci::transform_cache::TransformCache;

/// The least n it can do: the start is F(j) of machine size, and at least one doubling and the last
/// step must follow.
pub(super) const LEAST_N: u64 = 1 << (START_BITS + 1);

/// The leading bits of n that make the first j, by additions: F(128) still fits in a `u128`.
const START_BITS: u32 = 7;

/// Computes one number after the other, and keeps transforms and working memory in between.
#[derive(Default)]
pub(super) struct DecimalDoubling {
    transforms: TransformCache,
    left: Vec<Point>,
    right: Vec<Point>,
    scratch: Vec<Point>,
}

/// The two numbers of a step.
pub(super) type Pair<const DIGITS: usize> = [Decimal<DIGITS>; 2];

impl DecimalDoubling {
    /// The digits of F(n), for n from [`LEAST_N`] up, by limbs of `DIGITS` digits.
    pub(super) fn digits<const DIGITS: usize>(&mut self, n: u64) -> Arc<[u8]> {
        let factors = self.factors::<DIGITS>(n);
        self.product(n, factors)
    }

    /// Two numbers whose product, give or take one, is F(n): see [`product`](Self::product).
    pub(super) fn factors<const DIGITS: usize>(&mut self, n: u64) -> Pair<DIGITS> {
        let mut shift = u64::BITS - n.leading_zeros() - START_BITS;
        let mut pair = start(n >> shift);
        while shift > 1 {
            shift -= 1;
            let output = match shift {
                1 if n.is_multiple_of(2) => [Output::Current, Output::Lucas],
                1 => [Output::Next, Output::Lucas],
                _ => [Output::Current, Output::Next],
            };
            self.double(&mut pair, n >> shift, output);
        }
        pair
    }

    /// F(2k) = F(k)·L(k) and F(2k+1) = F(k+1)·L(k) − (−1)ᵏ.
    pub(super) fn product<const DIGITS: usize>(
        &mut self,
        n: u64,
        [mut factor, lucas]: Pair<DIGITS>,
    ) -> Arc<[u8]> {
        let Self { transforms, left, right, scratch } = self;
        let transform = transforms.at_least(factor.limbs.len().max(lucas.limbs.len()));
        transform.forward(&factor.limbs, left, scratch);
        transform.forward(&lucas.limbs, right, scratch);
        transform.multiply(left, right, scratch);

        let constant = if n.is_multiple_of(2) { 0 } else { -sign(n / 2) };
        let mut digits: Arc<[u8]> = std::iter::repeat_n(b'0', digit_count(n)).collect();
        if let Some(text) = Arc::get_mut(&mut digits) {
            factor.write(transform.coefficients(left), constant, text);
        }
        digits
    }

    /// From F(j), F(j+1) to two numbers at k, which is 2j or 2j+1.
    fn double<const DIGITS: usize>(
        &mut self,
        pair: &mut Pair<DIGITS>,
        k: u64,
        output: [Output; 2],
    ) {
        let Self { transforms, left, right, scratch } = self;
        let [current, next] = pair;
        let transform = transforms.at_least(current.limbs.len().max(next.limbs.len()));
        for (number, points) in [(&*current, &mut *left), (&*next, &mut *right)] {
            transform.forward(&number.limbs, points, scratch);
            transform.square(points, scratch);
        }
        for (number, output) in pair.iter_mut().zip(output) {
            output.at(k).assign_to(number, transform, left, right);
        }
    }
}

/// F(j) and F(j+1), by additions.
fn start<const DIGITS: usize>(j: u64) -> Pair<DIGITS> {
    let (current, next) = (0..j).fold((0, 1), |(current, next), _| (next, current + next));
    [current, next].map(Decimal::new)
}

/// What a step is to give at its index k.
#[derive(Clone, Copy)]
enum Output {
    /// F(k).
    Current,
    /// F(k+1).
    Next,
    /// L(k) = 2·F(k+1) − F(k), the Lucas number.
    Lucas,
}

impl Output {
    /// As a sum of squares at j = ⌊k/2⌋: see [`Sum`].
    ///
    /// All follow from F(2j+1) = F(j)² + F(j+1)², F(2j) = F(j)·(2·F(j+1) − F(j)), and Cassini's
    /// identity F(j)·F(j+1) = F(j+1)² − F(j)² − (−1)ʲ, which spares a third product.
    fn at(self, k: u64) -> Sum {
        let sign = sign(k / 2);
        let (current, next, constant) = match (self, k.is_multiple_of(2)) {
            (Self::Current, true) => (-3, 2, -2 * sign),
            (Self::Current, false) | (Self::Next, true) => (1, 1, 0),
            (Self::Next, false) => (-2, 3, -2 * sign),
            (Self::Lucas, true) => (5, 0, 2 * sign),
            (Self::Lucas, false) => (-5, 5, -4 * sign),
        };
        Sum { current, next, constant }
    }
}

/// The number `current`·F(j)² + `next`·F(j+1)² + `constant`.
struct Sum {
    current: i64,
    next: i64,
    constant: i64,
}

impl Sum {
    fn assign_to<const DIGITS: usize>(
        &self,
        number: &mut Decimal<DIGITS>,
        transform: &Transform,
        current_squared: &[Point],
        next_squared: &[Point],
    ) {
        let squares =
            transform.coefficients(current_squared).zip(transform.coefficients(next_squared));
        let sum = |a, b| self.current * a + self.next * b;
        number.assign(squares.map(|([a, b], [c, d])| [sum(a, c), sum(b, d)]), self.constant);
    }
}

/// (−1)ᵏ.
fn sign(k: u64) -> i64 {
    if k.is_multiple_of(2) { 1 } else { -1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fibonacci::doubling;

    #[track_caller]
    fn check<const DIGITS: usize>(ns: impl Iterator<Item = u64>) {
        let mut decimal = DecimalDoubling::default();
        for n in ns {
            assert!(*decimal.digits::<DIGITS>(n) == *doubling::digits(n), "F({n})");
        }
    }

    #[test]
    fn any_number_of_digits_in_a_limb() {
        check::<1>(LEAST_N..LEAST_N + 20);
        check::<2>(LEAST_N..LEAST_N + 200);
        check::<3>((LEAST_N..LEAST_N + 3_000).chain(100_000..100_004));
        check::<4>((LEAST_N..LEAST_N + 200).chain(100_000..100_004));
    }
}
