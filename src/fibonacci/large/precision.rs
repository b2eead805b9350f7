//! How large rounding errors can become, and how many digits a limb may have therefore.
//!
//! `docs/large-numbers.md` derives the bound. In short: all errors are counted in units of u = 2^-53, to first order.
//! Each stage of a transform multiplies the 2-norm of what it transforms by a constant, and so a rounding error counts
//! the same at every stage.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::fibonacci::digits::digit_count;
use crate::fibonacci::large::plan::{ODD_MAX, Shape};

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

/// The error of the sums that split into lanes.
const LANES_SPLIT: f64 = 12.1;

/// The error of an odd transform on the way there, by the number of pairs of terms, apart from its first and last sums.
const ODD_SPLIT: [f64; ODD_MAX.div_ceil(2)] = [0.0, 2.58, 4.40, 6.36, 8.63];

/// Returns the bound on the error of a coefficient of a product, divided by the norms of the factors.
///
/// Rounding is safe where the bound is below one half.
pub(super) fn error_bound(shape: Shape) -> f64 {
    let levels = shape.length.trailing_zeros();
    // A pass has a product and two additions for two levels; an odd level is an addition.
    let passes = f64::from(levels / 2) * (PRODUCT + 2.0) + f64::from(levels % 2);
    let (rows_split, rows_join) = match shape.odd / 2 {
        0 => (0.0, 0.0),
        pairs => {
            // After the product with v: a sum, as many products as there are pairs of terms, and a sum again.
            let roundings = f64::from(u32::try_from(pairs).unwrap_or(u32::MAX)) + 4.0;
            let split = ODD_SPLIT.get(pairs).copied().unwrap_or(f64::INFINITY);
            (PRODUCT + split + 2.0, PRODUCT + SQRT_2 * roundings)
        }
    };
    let split = LANES_SPLIT + rows_split + WEIGHT + passes;
    // On the way back, what counts are the roundings that a point meets.
    let join = passes + WEIGHT + rows_join + 6.0 + ROOT + 2.0;
    (2.0 * split + PRODUCT + join) * (f64::EPSILON / 2.0)
}

/// Returns whether coefficients of a product can be rounded, given the sums of the squares of the factors' limbs.
pub(super) fn is_safe(shape: Shape, squares: [f64; 2]) -> bool {
    // The sums themselves are off by less than the last factor.
    error_bound(shape) * (squares[0] * squares[1]).sqrt() * (1.0 + 1e-6) < 0.5
}

/// Returns the most digits that limbs for F(n) may have, if their digits are random.
///
/// Then the squares of limbs have the mean base²/12, and their sum is off by a few times its standard deviation at
/// most.
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

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// Returns the largest factor by which a matrix makes a vector longer, by iteration.
    fn norm(rows: &[Vec<f64>]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut vector = vec![1.0; rows[0].len()];
        let mut norm = 0.0;
        for _ in 0..200 {
            let image: Vec<f64> = rows.iter().map(|row| dot(row, &vector)).collect();
            let column = |j: usize| rows.iter().map(|row| row[j]).collect::<Vec<_>>();
            vector = (0..vector.len()).map(|j| dot(&column(j), &image)).collect();
            let square = dot(&vector, &vector).sqrt();
            for x in &mut vector {
                *x /= square;
            }
            norm = square.sqrt();
        }
        norm
    }

    /// Each term of a sum meets some roundings, and its root of unity is off by half a unit in each part.
    fn term(roundings: usize, root: f64) -> f64 {
        roundings as f64 * root.abs() + 0.5
    }

    /// The error of lanes if terms meet so many roundings, and if the root of the first one is off by so much.
    fn lanes_error(roundings: [usize; 8], first_root: f64) -> f64 {
        let row = |t: usize, part: fn(f64) -> f64| {
            let angle = |p: usize| TAU * (0.25 + t as f64) / 8.0 * p as f64;
            let mut row: Vec<_> = (0..8).map(|p| term(roundings[p], part(angle(p)))).collect();
            row[0] += first_root - 0.5;
            row
        };
        let rows: Vec<_> = (0..8).flat_map(|t| [row(t, f64::cos), row(t, f64::sin)]).collect();
        norm(&rows) / 8_f64.sqrt()
    }

    #[test]
    fn the_error_of_lanes_is_a_norm() {
        // By the order of additions without fused operations, for one row of wide vectors and for narrow ones.
        let [wide, narrow] = [[4, 5, 4, 3, 4, 4, 4, 4], [3, 4, 4, 4, 4, 4, 4, 4]];
        let largest = lanes_error(wide, 0.0).max(lanes_error(narrow, 0.0));
        assert!((0.99 * LANES_SPLIT..LANES_SPLIT).contains(&largest), "{largest}");
        // With several rows, wide vectors have no product with a power of v.
        assert!(lanes_error([5, 5, 4, 3, 4, 4, 4, 4], 0.5) < LANES_SPLIT + PRODUCT);
    }

    #[test]
    fn the_error_of_odd_transforms_is_a_norm() {
        for (pairs, bound) in ODD_SPLIT.into_iter().enumerate().skip(1) {
            let odd = (2 * pairs + 1) as f64;
            let root = |u: usize, k: usize, part: fn(f64) -> f64| part(TAU * (u * k) as f64 / odd);
            // The vector is √2·x(0) and the sums of pairs. An error of `even` or `odd` counts in two results.
            let first = pairs as f64 / SQRT_2;
            let even = |u: usize| {
                let terms = (1..=pairs).map(|k| term(pairs - k + 2, root(u, k, f64::cos)));
                [first].into_iter().chain(terms).map(|error| SQRT_2 * error).collect()
            };
            let sums = [first].into_iter().chain((1..=pairs).map(|k| (pairs - k + 1) as f64));
            let even: Vec<Vec<f64>> = (1..=pairs).map(even).chain([sums.collect()]).collect();
            let minus = |u: usize| {
                let terms = (1..=pairs).map(|k| term(pairs - k + 2, root(u, k, f64::sin)));
                terms.map(|error| SQRT_2 * error).collect()
            };
            let minus: Vec<Vec<f64>> = (1..=pairs).map(minus).collect();
            let relative = norm(&even).max(norm(&minus)) * SQRT_2 / odd.sqrt();
            assert!((0.99 * bound..bound).contains(&relative), "{odd}: {relative}");
        }
    }
}
