//! From limbs to points: the split of one ring into 8·odd cyclic ones.

#![expect(clippy::indexing_slicing, reason = "all indices are bounded by the shape")]

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{
    Complex, LANES, Lanes, ZERO, has_quarters, mul_add, odd_transform, parts,
};
use crate::fibonacci::large::plan::{ODD_MAX, Plan, TILE};

/// Writes the points of `limbs`, of which there are as many, and returns the sum of the limbs' squares.
///
/// The limb at index (p·odd + q)·length + j, times y(t)ᵖ·v(t,u)^q·w(t,u)ʲ, is part of point j in lane t of row u.
pub(super) struct Split<'a> {
    pub(super) plan: &'a Plan,
    pub(super) limbs: &'a [f64],
    pub(super) points: &'a mut [Lanes],
}

/// Values of a tile: by q or u, then by j.
type Tile = [[Lanes; TILE]; ODD_MAX];

impl WithSimd for Split<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (odd, length) = (self.plan.shape.odd, self.plan.shape.length);
        let mut by_lane: Tile = [[Lanes::default(); TILE]; ODD_MAX];
        let mut squares = [0.0; TILE];
        for start in (0..length).step_by(TILE) {
            for (q, lanes) in by_lane.iter_mut().take(odd).enumerate() {
                let tile: [&[f64; TILE]; LANES] = from_fn(|p| {
                    let position = (p * odd + q) * length + start;
                    let tile = self.limbs.get(position..).and_then(<[f64]>::first_chunk);
                    tile.unwrap_or(&[0.0; TILE])
                });
                for limbs in tile {
                    for (sum, limb) in squares.iter_mut().zip(limbs) {
                        *sum += limb * limb;
                    }
                }
                // Narrow vectors need powers of y(t) only, and leave those of v(t,0) for later.
                let powers = self.plan.split.get(if has_quarters::<S>() { 0 } else { q });
                into_lanes(simd, powers.unwrap_or(&[ZERO; LANES]), tile, lanes);
            }
            match odd {
                1 => into_rows::<S, 1>(simd, self.plan, start, &by_lane, self.points),
                3 => into_rows::<S, 3>(simd, self.plan, start, &by_lane, self.points),
                5 => into_rows::<S, 5>(simd, self.plan, start, &by_lane, self.points),
                7 => into_rows::<S, 7>(simd, self.plan, start, &by_lane, self.points),
                _ => into_rows::<S, 9>(simd, self.plan, start, &by_lane, self.points),
            }
        }
        squares.iter().sum()
    }
}

/// Sums limb·y(t)ᵖ over p, for each lane t.
#[inline(always)]
fn into_lanes<S: Simd>(
    simd: S,
    powers: &[Lanes; LANES],
    limbs: [&[f64; TILE]; LANES],
    lanes: &mut [Lanes; TILE],
) {
    for part in 0..if has_quarters::<S>() { parts::<S>() / 4 } else { parts::<S>() } {
        let y = from_fn(|p| Complex::<S>::load(&powers[p], part));
        let [x0, x1, x2, x3, x4, x5, x6, x7] = limbs;
        let limbs = x0.iter().zip(x1).zip(x2).zip(x3).zip(x4).zip(x5).zip(x6).zip(x7);
        for (lanes, limbs) in lanes.iter_mut().zip(limbs) {
            let (((((((x0, x1), x2), x3), x4), x5), x6), x7) = limbs;
            let x = [x0, x1, x2, x3, x4, x5, x6, x7].map(|x| simd.splat_f64s(*x));
            if has_quarters::<S>() {
                store_quarters(simd, x, y, lanes, part);
            } else {
                sum_powers(simd, x, y).store(lanes, part);
            }
        }
    }
}

/// Sums limb(p)·power(p).
///
/// The order of additions leaves each term with at most five roundings.
#[inline(always)]
fn sum_powers<S: Simd>(
    simd: S,
    limbs: [S::f64s; LANES],
    powers: [Complex<S>; LANES],
) -> Complex<S> {
    let sum = |y: [S::f64s; LANES]| {
        let low = mul_add(simd, limbs[1], y[1], simd.mul_f64s(limbs[0], y[0]));
        let low = mul_add(simd, limbs[3], y[3], mul_add(simd, limbs[2], y[2], low));
        let middle = mul_add(simd, limbs[5], y[5], simd.mul_f64s(limbs[4], y[4]));
        let high = mul_add(simd, limbs[7], y[7], simd.mul_f64s(limbs[6], y[6]));
        simd.add_f64s(low, simd.add_f64s(middle, high))
    };
    Complex { re: sum(powers.map(|y| y.re)), im: sum(powers.map(|y| y.im)) }
}

/// Sums x(p)·y(t)ᵖ for the lanes t of a part in the first quarter, and for lanes t + 2, t + 4 and t + 6.
///
/// As y(t + 2) is i·y(t), the products are the same but for a power of i. Narrow vectors profit from that.
#[inline(always)]
fn store_quarters<S: Simd>(
    simd: S,
    x: [S::f64s; LANES],
    y: [Complex<S>; LANES],
    lanes: &mut Lanes,
    part: usize,
) {
    let product = |p: usize| Complex::<S> {
        re: simd.mul_f64s(x[p], y[p].re),
        im: simd.mul_f64s(x[p], y[p].im),
    };
    let add = |to: Complex<S>, p: usize| Complex::<S> {
        re: mul_add(simd, x[p], y[p].re, to.re),
        im: mul_add(simd, x[p], y[p].im, to.im),
    };
    let fourth = product(4);
    let [even, even_other] =
        [Complex { re: simd.add_f64s(x[0], fourth.re), im: fourth.im }, add(product(2), 6)];
    let [odd, odd_other] = [add(product(1), 5), add(product(3), 7)];
    let quarter = parts::<S>() / 4;
    let (x, y) = (even.plus(simd, even_other), odd.plus(simd, odd_other));
    x.plus(simd, y).store(lanes, part);
    x.minus(simd, y).store(lanes, part + 2 * quarter);
    let (x, y) = (even.minus(simd, even_other), odd.minus(simd, odd_other));
    let [plus, minus] = x.plus_minus_i(simd, y);
    plus.store(lanes, part + quarter);
    minus.store(lanes, part + 3 * quarter);
}

/// Sums the lanes' values times v(t,u)^q over q for each u, and weights them by w(t,u)ʲ.
///
/// With wide vectors the values have their factor v(t,0)^q already.
#[inline(always)]
fn into_rows<S: Simd, const ODD: usize>(
    simd: S,
    plan: &Plan,
    start: usize,
    by_lane: &Tile,
    points: &mut [Lanes],
) {
    let length = plan.shape.length;
    let (fine, coarse): ([_; ODD], [_; ODD]) =
        (from_fn(|u| plan.weights(u, start).0), from_fn(|u| plan.weights(u, start).1));
    for part in 0..parts::<S>() {
        for j in 0..TILE {
            let mut values = [Complex::<S>::zero(simd); ODD];
            for q in 0..ODD {
                let value = Complex::<S>::load(&by_lane[q][j], part);
                values[q] = if q == 0 || !has_quarters::<S>() {
                    value
                } else {
                    value.times(simd, Complex::load(&plan.folds[q], part))
                };
            }
            let values = odd_transform(simd, values, &plan.circle);
            for u in 0..ODD {
                let fine = Complex::<S>::load(&fine[u][j], part);
                let weight = fine.times(simd, Complex::load(coarse[u], part));
                let point = &mut points[u * length + start + j];
                values[u].times(simd, weight).store(point, part);
            }
        }
    }
}
