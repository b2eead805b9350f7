//! Multiplication of sequences of small integers by a floating-point transform.
//!
//! Limbs and carries are in [`decimal`](super::decimal), the doubling in [`decimal_doubling`](super::decimal_doubling).

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// One point of a transform.
pub(super) type Point = Complex<f64>;

/// The transform of one length N, with everything that depends on N only.
///
/// The product of two sequences of N integers has 2N coefficients, so a cyclic convolution would need
/// 2N points, half of them zeros. Instead point j is weighted with e^(iπj/2N), which makes the
/// convolution of N points wrap round with a factor of i: coefficient j of the product comes out as
/// the real part of point j, and coefficient j + N as its imaginary part. (Crandall and Fagin,
/// "Discrete weighted transforms and large-integer arithmetic", Math. Comp. 62, 1994.)
///
/// # Error
///
/// When sequences x and y are multiplied, each computed coefficient is off by less than
///
/// ‖x‖·‖y‖·(57·⌈log2 N⌉ + 41)·u, with u = 2^-53 and ‖·‖ the root of the sum of squares.
///
/// This is the theorem of Percival ("Rapid multiplication modulo the sum and difference of highly
/// composite numbers", Math. Comp. 72, 2003) to first order, with √5·u for the error of a complex
/// product (Brent, Percival and Zimmermann, "Error bounds on complex floating-point multiplication",
/// Math. Comp. 76, 2007). In units of u, each level of each of the three transforms in a product
/// counts an addition (1), a product (√5), and its twiddle factor (15.6): `rustfft` takes sine and
/// cosine of an angle up to 2π which was rounded three times. Beside the levels there are the
/// products of the transforms and with the weights (6.5) and three weights' own errors (34.5).
///
/// The count is for a radix of two with a product at each level. The lengths used here have the prime
/// factors 2, 3, 5 and 7 and are split into radices from 3 to 16 and larger blocks, with fewer products.
///
/// What was seen is smaller by four orders of magnitude: with F(3,000,000) in limbs of four digits the
/// bound for the last product is 0.22 and the largest error was 6·10⁻⁶; with F(10,000,000) in limbs of
/// three they are 0.011 and 2·10⁻⁷. Rounding is safe below 0.5.
pub(super) struct Transform {
    fft: Arc<dyn Fft<f64>>,
    /// e^(iπj/2N)·N^(−1/3) for each point j: three weights meet in a coefficient, where they leave the
    /// factor 1/N of an inverse transform.
    weights: Box<[Point]>,
}

impl Transform {
    /// Prepares for sequences of up to `length` integers.
    pub(super) fn new(length: u32) -> Self {
        Self {
            fft: FftPlanner::new().plan_fft_forward(length as usize),
            weights: weights(length).into_boxed_slice(),
        }
    }

    /// How many points it has.
    pub(super) fn length(&self) -> usize {
        self.weights.len()
    }

    /// Puts the transform of `sequence`, which is no longer than the length, into `points`.
    pub(super) fn forward(
        &self,
        sequence: &[i32],
        points: &mut Vec<Point>,
        scratch: &mut Vec<Point>,
    ) {
        points.clear();
        points.extend(sequence.iter().zip(&self.weights).map(|(&x, w)| w * f64::from(x)));
        points.resize(self.length(), Point::ZERO);
        self.run(points, scratch);
    }

    /// Turns the transform of a sequence into the product of the sequence with itself.
    pub(super) fn square(&self, points: &mut [Point], scratch: &mut Vec<Point>) {
        for point in &mut *points {
            *point = (*point * *point).conj();
        }
        self.run(points, scratch);
    }

    /// Turns the transforms of two sequences into their product, in the place of the first.
    pub(super) fn multiply(&self, points: &mut [Point], by: &[Point], scratch: &mut Vec<Point>) {
        for (point, by) in points.iter_mut().zip(by) {
            *point = (*point * by).conj();
        }
        self.run(points, scratch);
    }

    /// The coefficients of a product in pairs: the first with the Nth, the next with the one after it.
    pub(super) fn coefficients(
        &self,
        product: &[Point],
    ) -> impl ExactSizeIterator<Item = [i64; 2]> {
        self.unrounded(product).map(|point| [nearest(point.re), nearest(point.im)])
    }

    /// Conjugating before and after makes the inverse transform of the forward one, and undoes the
    /// weights on the way.
    fn unrounded(&self, product: &[Point]) -> impl ExactSizeIterator<Item = Point> {
        let points = product.iter().zip(&self.weights);
        points.map(|(point, weight)| (point * weight).conj())
    }

    fn run(&self, points: &mut [Point], scratch: &mut Vec<Point>) {
        scratch.resize(scratch.len().max(self.fft.get_inplace_scratch_len()), Point::ZERO);
        self.fft.process_with_scratch(points, scratch);
    }
}

/// The weights of a transform: see [`Transform`].
///
/// Sines and cosines of all would take several times as long as a transform. One in a row is computed,
/// and the rest of its row is the first row multiplied by it.
fn weights(length: u32) -> Vec<Point> {
    const ROW: u32 = 1024;
    let step = FRAC_PI_2 / f64::from(length);
    let scale = f64::from(length).cbrt().recip();
    let first_row: Vec<_> = (0..ROW.min(length)).map(|j| Point::cis(step * f64::from(j))).collect();

    let mut weights = Vec::with_capacity(length.next_multiple_of(ROW) as usize);
    for start in (0..length).step_by(ROW as usize) {
        let rotation = Point::from_polar(scale, step * f64::from(start));
        weights.extend(first_row.iter().map(|weight| weight * rotation));
    }
    weights.truncate(length as usize);
    weights
}

/// The integer nearest to `x`, which is below 2^51 in magnitude.
fn nearest(x: f64) -> i64 {
    /// 1.5·2^52: what is added to it loses its fraction, and fills its low bits as an integer would.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    (x + ROUNDER).to_bits().cast_signed() - ROUNDER.to_bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the docs of [`Transform`] promise for sequences of `count` integers up to `largest`.
    fn error_bound(count: u32, largest: f64, length: usize) -> f64 {
        let levels = f64::from(length.next_power_of_two().ilog2());
        f64::from(count) * largest * largest * (57.0 * levels + 41.0) * f64::EPSILON / 2.0
    }

    /// Deterministic numbers from −`largest` to `largest`, many of them at the ends.
    fn sequence(count: u32, largest: i32, seed: u64) -> Vec<i32> {
        let mut state = seed;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = i32::try_from(state >> 40).unwrap() % (4 * largest) - 2 * largest;
            number.clamp(-largest, largest)
        };
        (0..count).map(|_| number()).collect()
    }

    /// Multiplies two full sequences, compares with exact integers, and the error with the promise.
    #[track_caller]
    fn check(count: u32, largest: i32) {
        let transform = Transform::new(count);
        let (x, y) = (sequence(count, largest, 1), sequence(count, largest, 2));
        let (mut left, mut right, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        transform.forward(&x, &mut left, &mut scratch);
        transform.forward(&y, &mut right, &mut scratch);
        transform.multiply(&mut left, &right, &mut scratch);

        let length = transform.length();
        let mut exact = vec![0; 2 * length];
        for (i, &x) in x.iter().enumerate() {
            for (sum, &y) in exact[i..].iter_mut().zip(&y) {
                *sum += i64::from(x) * i64::from(y);
            }
        }
        let (low, high) = exact.split_at(length);
        for (j, seen) in transform.coefficients(&left).enumerate() {
            assert_eq!(seen, [low[j], high[j]], "coefficients {j} and {j} + {length}");
        }
        let off = transform.unrounded(&left).flat_map(|point| [point.re, point.im]);
        let error = off.map(|x| (x - x.round()).abs()).fold(0.0, f64::max);
        assert!(error < error_bound(count, largest.into(), length), "length {length}: {error}");
    }

    #[test]
    fn products_are_exact() {
        for length in [9, 10, 12, 14, 16, 72, 1_000, 1_536, 4_096] {
            check(length, 5_000);
            check(length, 500);
        }
    }

    #[test]
    fn the_error_stays_below_one_half() {
        // The factors of F(3,000,000) in four digits a limb, and of F(10,000,000) in three.
        assert!(error_bound(78_372, 5_000.0, 81_920) < 0.22);
        assert!(error_bound(348_314, 500.0, 393_216) < 0.011);
    }
}
