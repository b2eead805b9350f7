//! Tests of the parts together: exact products, real errors against the bound, all kinds of vectors, all digits.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "limbs and coefficients are integers below 2^53"
)]

use super::*;
use crate::fibonacci::doubling;
use crate::fibonacci::large::precision::{DIGITS_MAX, DIGITS_MIN, digits_for, error_bound};

/// Limbs that the carries of the largest coefficients may need.
const ROOM: usize = 8;

/// Deterministic limbs from −`largest` to `largest`, many of them at the ends.
fn random_limbs(count: usize, largest: i32, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut limb = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let limb = i32::try_from(state >> 40).unwrap() % (4 * largest) - 2 * largest;
        f64::from(limb.clamp(-largest, largest))
    };
    (0..count).map(|_| limb()).collect()
}

/// The coefficients of a product, by the schoolbook method.
fn exact_product(x: &[f64], y: &[f64]) -> Vec<i128> {
    let mut product = vec![0_i64; x.len() + y.len() + 1];
    for (i, x) in x.iter().enumerate() {
        for (sum, y) in product[i..].iter_mut().zip(y) {
            *sum += (x * y) as i64;
        }
    }
    product.into_iter().map(i128::from).collect()
}

/// The balanced limbs with these coefficients.
fn carried(coefficients: &[i128], base: i128) -> Vec<f64> {
    let mut carry = 0;
    let limb = |coefficient: &i128| {
        let sum = coefficient + carry;
        carry = (sum + base / 2).div_euclid(base);
        (sum - carry * base) as f64
    };
    let mut limbs: Vec<_> = coefficients.iter().map(limb).collect();
    assert_eq!(carry, 0);
    limbs::trim(&mut limbs);
    limbs
}

/// Squares two rows of limbs up to `largest` and compares a combination of the squares with exact arithmetic.
#[track_caller]
fn check_squares(vectors: Vectors, shape: Shape, digits: u32, largest: i32) {
    let base = 10_i32.pow(digits);
    let mut doubling = Doubling::new(Table::default(), vectors);
    let count = shape.points() - 1;
    let [x, y] = [1, 2].map(|seed| {
        let mut limbs = random_limbs(count, largest, seed);
        if largest > base / 2 {
            limbs[count - ROOM..].fill(0.0);
        }
        limbs
    });
    doubling.memory.numbers = [x.clone(), y.clone()];
    let sums =
        [Sum { factors: [-3.0, 2.0], constant: 2.0 }, Sum { factors: [5.0, 0.0], constant: -2.0 }];
    assert!(doubling.double(sums, digits).is_some());

    let (xx, yy) = (exact_product(&x, &x), exact_product(&y, &y));
    for (number, sum) in doubling.memory.numbers.iter_mut().zip(sums) {
        let [a, b] = sum.factors.map(|factor| factor as i128);
        let mut want: Vec<_> = xx.iter().zip(&yy).map(|(xx, yy)| a * xx + b * yy).collect();
        want[0] += sum.constant as i128;
        let seen: Vec<_> = number.iter().map(|&limb| limb as i128).collect();
        // Compared as balanced limbs: exactly half a base may be written in two ways.
        let base = i128::from(base);
        assert!(carried(&want, base) == carried(&seen, base), "{vectors} {shape:?} {digits}");
    }
}

#[test]
fn squares_are_exact_for_all_shapes_and_vectors() {
    for vectors in Vectors::available() {
        for odd in [1, 3, 5, 7, 9] {
            for length in [8, 16, 32, 64] {
                let shape = Shape { odd, length };
                if Shape::for_limbs(shape.points() - 1) == shape {
                    check_squares(vectors, shape, 3, 500);
                    check_squares(vectors, shape, 4, 5_000);
                    check_squares(vectors, shape, 3, largest_safe(shape));
                }
            }
        }
    }
}

/// The largest limbs for which the bound on errors allows rounding, if two thirds of them are as [`random_limbs`].
fn largest_safe(shape: Shape) -> i32 {
    let count = shape.points() as f64;
    (0.49 / (error_bound(shape) * 0.7 * count)).sqrt() as i32
}

#[test]
fn blocks_longer_than_the_cache_are_exact() {
    for vectors in Vectors::available() {
        check_squares(vectors, Shape { odd: 1, length: 512 }, 4, 5_000);
        check_squares(vectors, Shape { odd: 1, length: 1024 }, 3, 500);
    }
}

#[test]
fn any_digits_table_and_vectors_give_the_same_numbers() {
    let large = [9_999, 10_001, 12_345, 19_999, 20_001, 40_000, 65_536, 100_000, 222_222];
    let numbers = (2_000..2_100).chain(large).map(|n| (n, doubling::digits(n)));
    let numbers: Vec<_> = numbers.collect();
    for vectors in Vectors::available() {
        for last in [0, 186, 300, 10_000] {
            let mut doubling = Doubling::new(Table::new(last).unwrap(), vectors);
            for digits in DIGITS_MIN..=DIGITS_MAX {
                for (n, want) in numbers.iter().filter(|(n, _)| digits <= digits_for(*n)) {
                    let seen = doubling.compute(*n, digits);
                    assert!(seen.as_deref() == Some(want), "F({n}), {digits}, {last}, {vectors}");
                }
            }
        }
    }
}

#[test]
fn the_error_bound_decides_at_its_edge() {
    let shape = Shape { odd: 1, length: 1024 };
    let edge = 0.5 / error_bound(shape);
    assert!(is_safe(shape, [edge * 0.99; 2]));
    assert!(!is_safe(shape, [edge; 2]));
    // The factors' norms count, not their largest limbs.
    assert!(is_safe(shape, [edge * 1e3, edge * 0.98e-3]));
}

#[test]
fn limbs_that_are_too_large_are_refused() {
    let mut doubling = Doubling::new(Table::default(), Vectors::widest());
    assert!(doubling.compute(300_000, 5).is_some());
    assert_eq!(doubling.compute(300_000, DIGITS_MAX), None);
    assert!(doubling.compute(300_000, 4).is_some(), "it goes on with fewer digits");
}

#[test]
fn digits_are_as_many_as_the_bound_allows() {
    assert_eq!([2_000, 10_001].map(digits_for), [6, 6]);
    assert_eq!([100_000, 1_000_000].map(digits_for), [5, 5]);
    assert_eq!([10_000_000, 100_000_000].map(digits_for), [4, 4]);
    // Three digits are safe at the cap even if all limbs are the largest.
    let count = digit_count(100_000_000).div_ceil(2 * 3);
    assert!(is_safe(Shape::for_limbs(count), [count as f64 * 500.0 * 500.0; 2]));
}
