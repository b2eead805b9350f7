//! From limbs to points: the split of one ring into 8·odd cyclic ones.

#![expect(clippy::indexing_slicing, reason = "all indices are bounded by the shape")]

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{Complex, LANES, Lanes, odd_transform, parts};
use crate::fibonacci::large::plan::{ODD_MAX, Plan, TILE};

/// Writes the points of `limbs`, of which there are as many, and returns the sum of the limbs' squares.
///
/// The limb at index (p·odd + q)·length + j, times y(t)ᵖ·v(t,u)^q·w(t,u)ʲ, is part of point j in lane t of row u.
pub(super) struct Split<'a> {
    pub(super) plan: &'a Plan,
    pub(super) powers: &'a [Lanes; LANES],
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
                into_lanes(simd, self.powers, tile, lanes);
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
///
/// The order of additions leaves each product with at most four roundings.
#[inline(always)]
fn into_lanes<S: Simd>(
    simd: S,
    powers: &[Lanes; LANES],
    limbs: [&[f64; TILE]; LANES],
    lanes: &mut [Lanes; TILE],
) {
    for part in 0..parts::<S>() {
        let [_, y1, y2, y3, y4, y5, y6, y7] = from_fn(|p| {
            powers
                .get(p)
                .map_or_else(|| Complex::zero(simd), |power| Complex::<S>::load(power, part))
        });
        let [x0, x1, x2, x3, x4, x5, x6, x7] = limbs;
        let limbs = x0.iter().zip(x1).zip(x2).zip(x3).zip(x4).zip(x5).zip(x6).zip(x7);
        for (lanes, limbs) in lanes.iter_mut().zip(limbs) {
            let (((((((x0, x1), x2), x3), x4), x5), x6), x7) = limbs;
            let (x0, x1) = (simd.splat_f64s(*x0), simd.splat_f64s(*x1));
            let (x2, x3) = (simd.splat_f64s(*x2), simd.splat_f64s(*x3));
            let (x4, x5) = (simd.splat_f64s(*x4), simd.splat_f64s(*x5));
            let (x6, x7) = (simd.splat_f64s(*x6), simd.splat_f64s(*x7));
            let sum = |first: S::f64s, [y1, y2, y3, y4, y5, y6, y7]: [S::f64s; 7]| {
                let a = simd.mul_add_e_f64s(x1, y1, first);
                let a = simd.mul_add_e_f64s(x3, y3, simd.mul_add_e_f64s(x2, y2, a));
                let b = simd.mul_add_e_f64s(x5, y5, simd.mul_f64s(x4, y4));
                let c = simd.mul_add_e_f64s(x7, y7, simd.mul_f64s(x6, y6));
                simd.add_f64s(a, simd.add_f64s(b, c))
            };
            let re = sum(x0, [y1.re, y2.re, y3.re, y4.re, y5.re, y6.re, y7.re]);
            let im = sum(simd.splat_f64s(0.0), [y1.im, y2.im, y3.im, y4.im, y5.im, y6.im, y7.im]);
            Complex::<S> { re, im }.store(lanes, part);
        }
    }
}

/// Sums the lanes' values times v(t,u)^q over q for each u, and weights them by w(t,u)ʲ.
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
                let factor = Complex::load(&plan.folds[q], part);
                values[q] = if q == 0 { value } else { value.times(simd, factor) };
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
