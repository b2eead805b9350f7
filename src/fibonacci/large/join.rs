//! From points to limbs: the way back from 8·odd cyclic rings to one, sums of products, rounding and carries.

#![expect(clippy::indexing_slicing, reason = "all indices are bounded by the shape")]

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{
    Complex, LANES, Lanes, ZERO, has_quarters, lane, mul_add, negate_mul_add, odd_transform, parts,
    run, store,
};
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
    pub(super) products: [&'a [Lanes]; PRODUCTS],
    pub(super) sums: [Sum<PRODUCTS>; SUMS],
    pub(super) numbers: [&'a mut Vec<f64>; SUMS],
    pub(super) base: Base,
}

/// Values of consecutive j.
type Tile = [Lanes; TILE];

impl<const PRODUCTS: usize, const SUMS: usize> WithSimd for Join<'_, PRODUCTS, SUMS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, products, sums, mut numbers, base } = self;
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
                for (by_lane, coefficients) in tiles.iter_mut().zip(&mut coefficients) {
                    if has_quarters::<S>() {
                        fold_quarters(simd, &mut by_lane[q]);
                    }
                    let powers = &plan.join[if has_quarters::<S>() { 0 } else { q }];
                    from_lanes(simd, powers, &by_lane[q], points, coefficients);
                }
                let outputs = numbers.iter_mut().zip(&sums).zip(&mut carries);
                for ((number, sum), carries) in outputs {
                    let limbs = carry(simd, sum, &coefficients, base, &mut carries[q]);
                    for lane in 0..LANES {
                        let position = (run(lane) * odd + q) * length + start;
                        put::<TILE>(number, position, limbs.iter().map(|limbs| limbs.re[lane]));
                        put::<TILE>(
                            number,
                            points + position,
                            limbs.iter().map(|limbs| limbs.im[lane]),
                        );
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

/// Limbs of a run to which the carry of the run before is added at the same time as in other runs.
const CARRIED: usize = 4;

/// Adds the carry out of each run to the next run. Carries hardly ever reach beyond [`CARRIED`] limbs.
#[inline(always)]
fn add_carries<S: Simd>(
    simd: S,
    plan: &Plan,
    carries: &[Lanes; ODD_MAX],
    base: Base,
    number: &mut [f64],
) {
    let (odd, length, points) = (plan.shape.odd, plan.shape.length, plan.shape.points());
    let last = carries[odd - 1];
    let top = last.im[lane(LANES - 1)];
    let mut before = Lanes::from_fn(|at| match run(at) {
        0 => [0.0, last.re[lane(LANES - 1)]],
        run => [last.re[lane(run - 1)], last.im[lane(run - 1)]],
    });
    for (q, after) in carries.iter().take(odd).enumerate() {
        let position = |lane: usize| (run(lane) * odd + q) * length;
        let mut tile = [ZERO; CARRIED];
        for (j, limb) in tile.iter_mut().enumerate() {
            *limb = Lanes::from_fn(|lane| {
                [number[position(lane) + j], number[points + position(lane) + j]]
            });
        }
        let sum = Sum { factors: [1.0], constant: 0.0 };
        let limbs = carry(simd, &sum, &[tile], base, &mut before);
        for lane in 0..LANES {
            put::<CARRIED>(number, position(lane), limbs.iter().map(|limbs| limbs.re[lane]));
            put::<CARRIED>(
                number,
                points + position(lane),
                limbs.iter().map(|limbs| limbs.im[lane]),
            );
        }
        for lane in 0..LANES {
            add_at(number, position(lane) + CARRIED, before.re[lane], base);
            add_at(number, points + position(lane) + CARRIED, before.im[lane], base);
        }
        before = *after;
    }
    add_at(number, 2 * points, top, base);
}

/// Copies limbs to consecutive places.
#[inline(always)]
fn put<const COUNT: usize>(number: &mut [f64], position: usize, limbs: impl Iterator<Item = f64>) {
    let places = number.get_mut(position..).and_then(<[f64]>::first_chunk_mut::<COUNT>);
    for (place, limb) in places.into_iter().flatten().zip(limbs) {
        *place = limb;
    }
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
///
/// With wide vectors the factor v(t,0)^(−q) is left for later.
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
                let value = if has_quarters::<S>() {
                    values[q].times_conjugate(simd, Complex::load(&plan.folds[q], part))
                } else {
                    values[q]
                };
                value.store(&mut tiles[q][j], part);
            }
        }
    }
}

/// Sums the lanes' values times y(t)⁻ᵖ over t, for each run p, divides by N, and rounds.
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
    let round = |x| simd.sub_f64s(mul_add(simd, x, scale, rounder), rounder);
    for part in 0..parts::<S>() {
        let powers: [Complex<S>; LANES] =
            std::array::from_fn(|t| Complex::<S>::load(&powers[t], part));
        for (lanes, coefficient) in by_lane.iter().zip(&mut *coefficients) {
            let sum = if has_quarters::<S>() {
                // The lanes hold sums over four lanes each, two for each remainder of p modulo 4.
                let first = part * S::F64_LANES / 2 * 2;
                sum_two(simd, lanes, first, [powers[0], powers[1]])
            } else {
                sum_eight(simd, lanes, powers)
            };
            Complex::<S> { re: round(sum.re), im: round(sum.im) }.store(coefficient, part);
        }
    }
}

/// Sums value(t)·power(t) over all lanes.
#[inline(always)]
fn sum_eight<S: Simd>(simd: S, lanes: &Lanes, powers: [Complex<S>; LANES]) -> Complex<S> {
    let mut sums = [[simd.splat_f64s(0.0); 4]; 2];
    for t in 0..LANES {
        let (re, im) = (simd.splat_f64s(lanes.re[t]), simd.splat_f64s(lanes.im[t]));
        let (power, sums) = (powers[t], &mut sums[t / 4]);
        sums[0] = mul_add(simd, re, power.re, sums[0]);
        sums[1] = mul_add(simd, im, power.im, sums[1]);
        sums[2] = mul_add(simd, re, power.im, sums[2]);
        sums[3] = mul_add(simd, im, power.re, sums[3]);
    }
    let [a, b] = sums;
    let sum = |i: usize| simd.add_f64s(a[i], b[i]);
    Complex { re: simd.sub_f64s(sum(0), sum(1)), im: simd.add_f64s(sum(2), sum(3)) }
}

/// Sums value(t)·power(t) over two lanes.
#[inline(always)]
fn sum_two<S: Simd>(simd: S, lanes: &Lanes, first: usize, powers: [Complex<S>; 2]) -> Complex<S> {
    let [a, b] = [first, first + 1].map(|t| [lanes.re[t], lanes.im[t]]);
    let [a, b] = [Complex::splat(simd, a), Complex::splat(simd, b)];
    a.times(simd, powers[0]).plus(simd, b.times(simd, powers[1]))
}

/// Replaces the values of lanes t, t + 2, t + 4 and t + 6 by their sums times i^(−kr) over lanes t + 2k, for each r.
///
/// As y(t + 2) is i·y(t), runs p with the same remainder r modulo 4 need the same sum. Narrow vectors profit from that.
#[inline(always)]
fn fold_quarters<S: Simd>(simd: S, tile: &mut Tile) {
    let quarter = parts::<S>() / 4;
    for lanes in tile {
        for part in 0..quarter {
            let [y0, y1, y2, y3] =
                std::array::from_fn(|k| Complex::<S>::load(lanes, part + k * quarter));
            let (even, odd) = (y0.plus(simd, y2), y1.plus(simd, y3));
            even.plus(simd, odd).store(lanes, part);
            even.minus(simd, odd).store(lanes, part + 2 * quarter);
            let [plus, minus] = y0.minus(simd, y2).plus_minus_i(simd, y1.minus(simd, y3));
            minus.store(lanes, part + quarter);
            plus.store(lanes, part + 3 * quarter);
        }
    }
}

/// Sums the products' coefficients, and leaves limbs by passing on carries.
#[inline(always)]
fn carry<S: Simd, const PRODUCTS: usize, const COUNT: usize>(
    simd: S,
    sum: &Sum<PRODUCTS>,
    coefficients: &[[Lanes; COUNT]; PRODUCTS],
    base: Base,
    carries: &mut Lanes,
) -> [Lanes; COUNT] {
    let mut limbs = [ZERO; COUNT];
    let rounder = simd.splat_f64s(ROUNDER);
    let (value, inverse) = (simd.splat_f64s(base.value()), simd.splat_f64s(base.inverse()));
    let middle = simd.splat_f64s(base.middle());
    let release = |x: S::f64s| {
        let centred = simd.sub_f64s(x, middle);
        let carry = simd.sub_f64s(mul_add(simd, centred, inverse, rounder), rounder);
        (carry, negate_mul_add(simd, carry, value, x))
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
                        re: mul_add(simd, term.re, factor, x.re),
                        im: mul_add(simd, term.im, factor, x.im),
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
