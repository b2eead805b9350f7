//! Lengths of transforms, and the constants that belong to a length.

use std::array::from_fn;

use crate::fibonacci::large::cyclic::{Twist, twists};
use crate::fibonacci::large::lanes::{LANES, Lanes, run};
use crate::fibonacci::large::roots::Root;

/// Points that are split or joined together: eight consecutive ones are a cache line of a row of limbs.
pub(super) const TILE: usize = 8;

/// The largest odd factor of a length.
pub(super) const ODD_MAX: usize = 9;

/// A length N of transforms, as 8·`odd`·`length`: sequences of `length` points in `odd` rows of eight lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// 1, 3, 5, 7 or 9.
    pub(super) odd: usize,
    /// A power of two, at least [`TILE`].
    pub(super) length: usize,
}

impl Shape {
    /// Returns the shape for up to `count` limbs that takes the least time.
    pub(super) fn for_limbs(count: usize) -> Self {
        let rows = count.div_ceil(LANES).max(TILE);
        let shape =
            |odd: usize| Self { odd, length: rows.div_ceil(odd).next_power_of_two().max(TILE) };
        let shapes = [1, 3, 5, 7, 9].map(shape);
        shapes.into_iter().min_by_key(Self::cost).unwrap_or_else(|| shape(1))
    }

    /// The number of points.
    pub(super) fn points(self) -> usize {
        LANES * self.odd * self.length
    }

    /// The time of a doubling in hundredths of nanoseconds, as measured on an AMD EPYC with vectors of eight.
    ///
    /// Narrower vectors take two to three times as long, with about the same ratios.
    fn cost(&self) -> usize {
        let passes = self.length.trailing_zeros().div_ceil(2) as usize;
        self.points() * (410 + 35 * passes + 15 * self.odd) + 33_000 + 5_800 * self.odd
    }
}

/// The constants of one shape.
///
/// With y(t) = e^(2πi·(1/4 + t)/8), the ring modulo z^N − i is the product of the eight rings modulo z^(N/8) − y(t):
/// the lanes. In turn each of these is the product of `odd` rings modulo z^length − v(t,u): the rows, where v(t,u) is
/// one of the roots of y(t). Finally z = w(t,u)·x makes the ring cyclic, with w(t,u) a root of v(t,u) again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// y(t)ᵖ·v(t,0)^q, at indices q and p, with t by lane. The other v(t,u) are v(t,0) times e^(2πi·u/odd).
    pub(super) split: Vec<[Lanes; LANES]>,
    /// The inverses of these, at indices q and t, with p by lane as [`run`].
    pub(super) join: Vec<[Lanes; LANES]>,
    /// v(t,0)^q, by q.
    pub(super) folds: Vec<Lanes>,
    /// The powers of e^(2πi/odd).
    pub(super) circle: Vec<[f64; 2]>,
    /// w(t,u)ʲ for the first `chunk` exponents, row by row.
    pub(super) fine: Vec<Lanes>,
    /// w(t,u)ʲ for the multiples of `chunk`, row by row.
    pub(super) coarse: Vec<Lanes>,
    pub(super) chunk: usize,
}

impl Plan {
    pub(super) fn new(shape: Shape) -> Self {
        let Shape { odd, length } = shape;
        let (n, m) = (shape.points() as u64, odd as u64);
        let chunk = 1 << length.trailing_zeros().div_ceil(2).max(TILE.trailing_zeros());
        // (1/4 + t + 8u) in quarters: the numerator of the angles of v and w.
        let numerator = |t: usize, u: usize| (1 + 4 * t + 32 * u) as u64;

        // y(t) is the power of v(t,0) with the exponent `odd`.
        let all = powers(LANES * odd, |t| Root::new(numerator(t, 0), 32 * m));
        let power = |p: usize, q: usize| all.get(p * odd + q).copied().unwrap_or_default();
        let inverse = |[p, q, t]: [usize; 3]| {
            let Lanes { re, im } = power(p, q);
            [re.get(t).copied().unwrap_or_default(), -im.get(t).copied().unwrap_or_default()]
        };
        let split = (0..odd).map(|q| from_fn(|p| power(p, q))).collect();
        let join = (0..odd)
            .map(|q| from_fn(|t| Lanes::from_fn(|lane| inverse([run(lane), q, t]))))
            .collect();
        let folds = (0..odd).map(|q| power(0, q)).collect();
        let circle = (0..m).map(|u| Root::new(u, m).rounded()).collect();
        let (mut fine, mut coarse) = (Vec::new(), Vec::new());
        for u in 0..odd {
            fine.extend(powers(chunk, |t| Root::new(numerator(t, u), 4 * n)));
            coarse.extend(powers(length / chunk, |t| {
                Root::new(numerator(t, u) * chunk as u64, 4 * n)
            }));
        }
        Self { shape, split, join, folds, circle, fine, coarse, chunk }
    }

    /// The weights w(t,u)ʲ of a tile of row u, which begins at point `start`: the fine ones, and their factor.
    pub(super) fn weights(&self, row: usize, start: usize) -> (&[Lanes], &Lanes) {
        const NONE: &Lanes = &Lanes { re: [0.0; LANES], im: [0.0; LANES] };
        let fine = self.fine.get(row * self.chunk + start % self.chunk..).unwrap_or_default();
        let coarse = self.coarse.get(row * (self.shape.length / self.chunk) + start / self.chunk);
        (fine, coarse.unwrap_or(NONE))
    }
}

/// The first powers of a root for each lane.
fn powers(count: usize, root: impl Fn(usize) -> Root) -> Vec<Lanes> {
    let mut lanes = vec![Lanes::default(); count];
    for t in 0..LANES {
        for (lanes, power) in lanes.iter_mut().zip(root(t).powers(count)) {
            let [re, im] = power.rounded();
            lanes.re.iter_mut().skip(t).take(1).for_each(|lane| *lane = re);
            lanes.im.iter_mut().skip(t).take(1).for_each(|lane| *lane = im);
        }
    }
    lanes
}

/// Plans of all shapes used so far, and the constants that they share.
#[derive(Debug, Default)]
pub(super) struct Plans {
    by_shape: Vec<Plan>,
    pub(super) twists: Vec<Twist>,
}

impl Plans {
    /// Prepares for a shape, and returns the index of its plan.
    pub(super) fn prepare(&mut self, shape: Shape) -> usize {
        // The last pass splits up to 3/8 of `length` blocks.
        if self.twists.len() < shape.length / 2 {
            self.twists = twists(shape.length / 2);
        }
        self.by_shape.iter().position(|plan| plan.shape == shape).unwrap_or_else(|| {
            self.by_shape.push(Plan::new(shape));
            self.by_shape.len() - 1
        })
    }

    pub(super) fn get(&self, index: usize) -> Option<&Plan> {
        self.by_shape.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_long_enough_and_not_much_longer() {
        for count in (1..50_000).chain((50_000..4_000_000).step_by(997)) {
            let shape = Shape::for_limbs(count);
            assert!(shape.points() >= count, "{count}");
            assert!(shape.points() <= count + count / 2 + 64, "{count}: {shape:?}");
            assert!(shape.odd <= ODD_MAX && shape.length.is_power_of_two() && shape.length >= TILE);
        }
    }

    #[test]
    fn plans_are_reused() {
        let mut plans = Plans::default();
        let indices = [100, 2_000, 100, 2_001].map(|count| plans.prepare(Shape::for_limbs(count)));
        assert_eq!(indices, [0, 1, 0, 1]);
    }

    #[test]
    fn plans_of_all_shapes_are_small() {
        // Two tables of about the square root of the length for each row.
        let shape = Shape { odd: ODD_MAX, length: 1 << 18 };
        let plan = Plan::new(shape);
        let lanes = plan.folds.len() + plan.fine.len() + plan.coarse.len() + 2 * LANES * ODD_MAX;
        assert!(lanes * size_of::<Lanes>() < 2 << 20);
    }
}
