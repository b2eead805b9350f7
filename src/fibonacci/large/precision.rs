//! How large rounding errors can become, and how many digits a limb may have therefore.
//!
//! `docs/large-numbers.md` derives the bound. In short: all errors are counted in units of u = 2^-53, to first order.
//! Each stage of a transform multiplies the 2-norm of what it transforms by a constant, and so a rounding error counts
//! the same at every stage.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::fibonacci::digits::digit_count;
use crate::fibonacci::large::plan::Shape;

/// The fewest digits of a limb: enough room up to the largest n for any limbs.
pub(in crate::fibonacci) const DIGITS_MIN: u32 = 3;

/// The most digits of a limb: seven would be too many for any length.
pub(super) const DIGITS_MAX: u32 = 6;

/// The error of a correctly rounded root of unity: half a unit in the last place of each part, at most 2^-54.
const ROOT: f64 = FRAC_1_SQRT_2;

/// The error of a complex product (√5, by Brent, Percival and Zimmermann) and of the root in it.
const PRODUCT: f64 = 2.236_068 + ROOT;

/// The error of multiplying by a weight, which is itself a product of two roots.
const WEIGHT: f64 = 2.236_068 + 2.0 * ROOT + 2.236_068;

/// Returns the bound on the error of a coefficient of a product, divided by the norms of the factors.
///
/// Rounding is safe where the bound is below one half.
pub(super) fn error_bound(shape: Shape) -> f64 {
    let odd = f64::from(u32::try_from(shape.odd).unwrap_or(u32::MAX));
    let levels = shape.length.trailing_zeros();
    // A pass has a product and two additions for two levels; an odd level is an addition.
    let passes = f64::from(levels / 2) * (PRODUCT + 2.0) + f64::from(levels % 2);
    // After the product with v: a sum, as many products as there are pairs of terms, and a sum again.
    let rows = if shape.odd == 1 { 0.0 } else { SQRT_2 * ((odd - 1.0) / 2.0 + 4.0) + PRODUCT };
    // On the way there, an error in each of the terms of a sum may count √terms times as much.
    let split = 8_f64.sqrt() * (5.0 + ROOT) + odd.sqrt() * rows + WEIGHT + passes;
    // On the way back, what counts are the roundings that a point meets.
    let join = passes + WEIGHT + rows + SQRT_2 * 6.0 + ROOT + 2.0;
    (2.0 * split + PRODUCT + join) * (f64::EPSILON / 2.0)
}

/// Returns whether coefficients of a product can be rounded, given the sums of the squares of the factors' limbs.
pub(super) fn is_safe(shape: Shape, squares: [f64; 2]) -> bool {
    // The sums themselves are off by less than the last factor.
    error_bound(shape) * (squares[0] * squares[1]).sqrt() * (1.0 + 1e-6) < 0.5
}

/// Returns the most digits that limbs for F(n) may have, if their digits are random.
///
/// Then the squares of limbs have the mean base²/12, and their sum is off by a few times its standard deviation at most.
pub(in crate::fibonacci) fn digits_for(n: u64) -> u32 {
    let fits = |digits: &u32| {
        let base = f64::from(10_u32.pow(*digits));
        let count = (digit_count(n) / 2).div_ceil(*digits as usize);
        let limbs = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let squares = limbs * base * base / 12.0 * (1.0 + 4.0 / limbs.sqrt());
        is_safe(Shape::for_limbs(count), [squares; 2])
    };
    (DIGITS_MIN..=DIGITS_MAX).rev().find(fits).unwrap_or(DIGITS_MIN)
}
