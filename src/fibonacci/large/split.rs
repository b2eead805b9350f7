//! From limbs to points: the split of one ring into 8·odd cyclic ones.

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{Complex, LANES, Lanes, load, parts};
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
                let tile: [&[f64; TILE]; LANES] = std::array::from_fn(|p| {
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
            for (u, row) in self.points.chunks_exact_mut(length).enumerate() {
                if let Some(points) = row.get_mut(start..).and_then(<[Lanes]>::first_chunk_mut) {
                    into_row(simd, self.plan, (u, start), &by_lane, points);
                }
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
        let [_, y1, y2, y3, y4, y5, y6, y7] = std::array::from_fn(|p| {
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

/// Sums the lanes' values times v(t,u)^q over q, and weights them by w(t,u)ʲ.
#[inline(always)]
fn into_row<S: Simd>(
    simd: S,
    plan: &Plan,
    (u, start): (usize, usize),
    by_lane: &Tile,
    points: &mut [Lanes; TILE],
) {
    let odd = plan.shape.odd;
    let folds = plan.folds.get(u * odd..(u + 1) * odd).unwrap_or_default();
    let (fine, coarse) = plan.weights(u, start);
    for part in 0..parts::<S>() {
        let coarse = Complex::<S>::load(coarse, part);
        for (j, (point, fine)) in points.iter_mut().zip(fine).enumerate() {
            // The real and the imaginary products have sums of their own, which halves the roundings.
            let zero = simd.splat_f64s(0.0);
            let (mut sum, mut re, mut im) = (Complex::<S>::zero(simd), zero, zero);
            for (q, (fold, lanes)) in folds.iter().zip(by_lane).enumerate() {
                let Some(lanes) = lanes.get(j) else { continue };
                let value = Complex::<S>::load(lanes, part);
                if q == 0 {
                    sum = value;
                    continue;
                }
                let [fold_re, fold_im] = [load::<S>(&fold.re, part), load::<S>(&fold.im, part)];
                sum.re = simd.mul_add_e_f64s(value.re, fold_re, sum.re);
                re = simd.mul_add_e_f64s(value.im, fold_im, re);
                sum.im = simd.mul_add_e_f64s(value.re, fold_im, sum.im);
                im = simd.mul_add_e_f64s(value.im, fold_re, im);
            }
            let sum = Complex::<S> { re: simd.sub_f64s(sum.re, re), im: simd.add_f64s(sum.im, im) };
            let weight = Complex::<S>::load(fine, part).times(simd, coarse);
            sum.times(simd, weight).store(point, part);
        }
    }
}
