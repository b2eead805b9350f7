//! From points to limbs: the way back from 8·odd cyclic rings to one, sums of products, rounding and carries.

#![expect(clippy::indexing_slicing, reason = "all indices are bounded by the shape")]

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{Complex, LANES, Lanes, odd_transform, parts, store};
use crate::fibonacci::large::limbs::{Base, ROUNDER, add_at};
use crate::fibonacci::large::plan::{ODD_MAX, Plan, TILE};

/// A sum of products, each with a factor, and a constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum<const PRODUCTS: usize> {
    pub(super) factors: [f64; PRODUCTS],
    pub(super) constant: f64,
}

/// Writes the limbs of sums of products, given the products' points.
///
/// A number has twice as many limbs as a product has points, and one. The imaginary part of a coefficient counts
/// N places above the real part.
///
/// Each lane p of each row q, and of the real and the imaginary part, is a run of `length` consecutive coefficients.
/// Carries go up through all runs at the same time. In the end the carry out of each run is added to the next.
pub(super) struct Join<'a, const PRODUCTS: usize, const SUMS: usize> {
    pub(super) plan: &'a Plan,
    pub(super) powers: &'a [Lanes; LANES],
    pub(super) products: [&'a [Lanes]; PRODUCTS],
    pub(super) sums: [Sum<PRODUCTS>; SUMS],
    pub(super) numbers: [&'a mut Vec<f64>; SUMS],
    pub(super) base: Base,
}

const ZERO: Lanes = Lanes { re: [0.0; LANES], im: [0.0; LANES] };

/// Values of consecutive j.
type Tile = [Lanes; TILE];

impl<const PRODUCTS: usize, const SUMS: usize> WithSimd for Join<'_, PRODUCTS, SUMS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, powers, products, sums, mut numbers, base } = self;
        let (odd, length, points) = (plan.shape.odd, plan.shape.length, plan.shape.points());
        let mut tiles = [[[ZERO; TILE]; ODD_MAX]; PRODUCTS];
        let mut coefficients = [[ZERO; TILE]; PRODUCTS];
        let mut carries = [[ZERO; ODD_MAX]; SUMS];
        for ((number, sum), carries) in numbers.iter_mut().zip(&sums).zip(&mut carries) {
            number.resize(2 * points + 1, 0.0);
            carries[0].re[0] = sum.constant;
        }
        for start in (0..length).step_by(TILE) {
            for (product, tiles) in products.iter().zip(&mut tiles) {
                let rows = product.chunks_exact(length).zip(&mut *tiles);
                for (u, (row, by_row)) in rows.enumerate() {
                    from_row(simd, plan, (u, start), row, by_row);
                }
                match odd {
                    1 => {}
                    3 => unfold::<S, 3>(simd, plan, tiles),
                    5 => unfold::<S, 5>(simd, plan, tiles),
                    7 => unfold::<S, 7>(simd, plan, tiles),
                    _ => unfold::<S, 9>(simd, plan, tiles),
                }
            }
            for q in 0..odd {
                for (by_lane, coefficients) in tiles.iter().zip(&mut coefficients) {
                    from_lanes(simd, powers, &by_lane[q], points, coefficients);
                }
                let outputs = numbers.iter_mut().zip(&sums).zip(&mut carries);
                for ((number, sum), carries) in outputs {
                    let limbs = carry(simd, sum, &coefficients, base, &mut carries[q]);
                    for p in 0..LANES {
                        let position = (p * odd + q) * length + start;
                        put(number, position, limbs.iter().map(|limbs| limbs.re[p]));
                        put(number, points + position, limbs.iter().map(|limbs| limbs.im[p]));
                    }
                }
            }
        }
        for (number, carries) in numbers.into_iter().zip(&carries) {
            number[2 * points] = 0.0;
            add_carries(simd, plan, carries, base, number);
        }
    }
}

/// Adds the carry out of each run to the next run.
///
/// They hardly ever reach beyond the first tile of a run.
#[inline(always)]
fn add_carries<S: Simd>(
    simd: S,
    plan: &Plan,
    carries: &[Lanes; ODD_MAX],
    base: Base,
    number: &mut [f64],
) {
    let (odd, length, points) = (plan.shape.odd, plan.shape.length, plan.shape.points());
    let mut before = carries[odd - 1];
    let top = before.im[LANES - 1];
    before.re.rotate_right(1);
    before.im.rotate_right(1);
    before.im[0] = std::mem::take(&mut before.re[0]);
    for (q, after) in carries.iter().take(odd).enumerate() {
        let position = |p: usize| (p * odd + q) * length;
        let mut tile = [ZERO; TILE];
        for (j, limb) in tile.iter_mut().enumerate() {
            *limb = Lanes::from_fn(|p| [number[position(p) + j], number[points + position(p) + j]]);
        }
        let sum = Sum { factors: [1.0], constant: 0.0 };
        let limbs = carry(simd, &sum, &[tile], base, &mut before);
        for p in 0..LANES {
            put(number, position(p), limbs.iter().map(|limbs| limbs.re[p]));
            put(number, points + position(p), limbs.iter().map(|limbs| limbs.im[p]));
        }
        for p in 0..LANES {
            add_at(number, position(p) + TILE, before.re[p], base);
            add_at(number, points + position(p) + TILE, before.im[p], base);
        }
        before = *after;
    }
    add_at(number, 2 * points, top, base);
}

/// Copies a tile of limbs to consecutive places.
#[inline(always)]
fn put(number: &mut [f64], position: usize, limbs: impl Iterator<Item = f64>) {
    let places = number.get_mut(position..).and_then(<[f64]>::first_chunk_mut::<TILE>);
    places.into_iter().flatten().zip(limbs).for_each(|(place, limb)| *place = limb);
}

/// Takes the weights w(t,u)ʲ off the points of a row.
#[inline(always)]
fn from_row<S: Simd>(
    simd: S,
    plan: &Plan,
    (u, start): (usize, usize),
    row: &[Lanes],
    tile: &mut Tile,
) {
    let (fine, coarse) = plan.weights(u, start);
    let row = row.get(start..).unwrap_or_default();
    for part in 0..parts::<S>() {
        let coarse = Complex::<S>::load(coarse, part);
        for ((point, fine), value) in row.iter().zip(fine).zip(&mut *tile) {
            let weight = Complex::<S>::load(fine, part).times(simd, coarse);
            Complex::load(point, part).times_conjugate(simd, weight).store(value, part);
        }
    }
}

/// Replaces the rows' values by their sums times v(t,u)^(−q) over u, for each q.
#[expect(clippy::needless_range_loop, reason = "j selects a point in each of the tiles")]
#[inline(always)]
fn unfold<S: Simd, const ODD: usize>(simd: S, plan: &Plan, tiles: &mut [Tile; ODD_MAX]) {
    for part in 0..parts::<S>() {
        for j in 0..TILE {
            let mut values = [Complex::<S>::zero(simd); ODD];
            for u in 0..ODD {
                // In the order of −u, which makes the transform that of the conjugate roots.
                values[(ODD - u) % ODD] = Complex::load(&tiles[u][j], part);
            }
            let values = odd_transform(simd, values, &plan.circle);
            for q in 0..ODD {
                let factor = Complex::<S>::load(&plan.folds[q], part);
                values[q].times_conjugate(simd, factor).store(&mut tiles[q][j], part);
            }
        }
    }
}

/// Sums the lanes' values times y(t)⁻ᵖ over t, for each p, divides by N, and rounds.
#[inline(always)]
fn from_lanes<S: Simd>(
    simd: S,
    powers: &[Lanes; LANES],
    by_lane: &Tile,
    points: usize,
    coefficients: &mut Tile,
) {
    #[expect(clippy::cast_precision_loss, reason = "the number of points is below 2^32")]
    let scale = simd.splat_f64s((points as f64).recip());
    let rounder = simd.splat_f64s(ROUNDER);
    let round = |x| simd.sub_f64s(simd.mul_add_e_f64s(x, scale, rounder), rounder);
    for part in 0..parts::<S>() {
        let powers: [Complex<S>; LANES] =
            std::array::from_fn(|t| Complex::<S>::load(&powers[t], part));
        for (lanes, coefficient) in by_lane.iter().zip(&mut *coefficients) {
            let zero = simd.splat_f64s(0.0);
            let mut sums = [[zero; 4]; 2];
            for t in 0..LANES {
                let (re, im) = (simd.splat_f64s(lanes.re[t]), simd.splat_f64s(lanes.im[t]));
                let (power, sums) = (powers[t], &mut sums[t / 4]);
                sums[0] = simd.mul_add_e_f64s(re, power.re, sums[0]);
                sums[1] = simd.mul_add_e_f64s(im, power.im, sums[1]);
                sums[2] = simd.mul_add_e_f64s(re, power.im, sums[2]);
                sums[3] = simd.mul_add_e_f64s(im, power.re, sums[3]);
            }
            let [a, b] = sums;
            let sum = |i: usize| simd.add_f64s(a[i], b[i]);
            let re = simd.sub_f64s(sum(0), sum(1));
            let im = simd.add_f64s(sum(2), sum(3));
            Complex::<S> { re: round(re), im: round(im) }.store(coefficient, part);
        }
    }
}

/// Sums the products' coefficients, and leaves limbs by passing on carries.
#[inline(always)]
fn carry<S: Simd, const PRODUCTS: usize>(
    simd: S,
    sum: &Sum<PRODUCTS>,
    coefficients: &[Tile; PRODUCTS],
    base: Base,
    carries: &mut Lanes,
) -> Tile {
    let mut limbs = [ZERO; TILE];
    let rounder = simd.splat_f64s(ROUNDER);
    let (value, inverse) = (simd.splat_f64s(base.value()), simd.splat_f64s(base.inverse()));
    let middle = simd.splat_f64s(base.middle());
    let release = |x: S::f64s| {
        let centred = simd.sub_f64s(x, middle);
        let carry = simd.sub_f64s(simd.mul_add_e_f64s(centred, inverse, rounder), rounder);
        (carry, simd.negate_mul_add_e_f64s(carry, value, x))
    };
    for part in 0..parts::<S>() {
        let mut carry = Complex::<S>::load(carries, part);
        for (j, limb) in limbs.iter_mut().enumerate() {
            let mut x: Option<Complex<S>> = None;
            for (tile, factor) in coefficients.iter().zip(sum.factors) {
                let (term, factor) = (Complex::<S>::load(&tile[j], part), simd.splat_f64s(factor));
                x = Some(match x {
                    None => Complex {
                        re: simd.mul_f64s(term.re, factor),
                        im: simd.mul_f64s(term.im, factor),
                    },
                    Some(x) => Complex {
                        re: simd.mul_add_e_f64s(term.re, factor, x.re),
                        im: simd.mul_add_e_f64s(term.im, factor, x.im),
                    },
                });
            }
            let x = x.unwrap_or_else(|| Complex::zero(simd));
            let (re, limb_re) = release(simd.add_f64s(x.re, carry.re));
            let (im, limb_im) = release(simd.add_f64s(x.im, carry.im));
            carry = Complex { re, im };
            store::<S>(&mut limb.re, part, limb_re);
            store::<S>(&mut limb.im, part, limb_im);
        }
        carry.store(carries, part);
    }
    limbs
}
