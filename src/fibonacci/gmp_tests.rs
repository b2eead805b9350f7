//! Comparison of tens of thousands of numbers with GMP, which shares no code with this module.
//!
//! `cargo test --release --lib --features gmp -- gmp_tests` runs it, for some minutes.

use std::collections::BTreeSet;

use super::*;
use crate::fibonacci::calculator::DECIMAL_FROM;
use crate::fibonacci::large::precision::digits_for;

/// Deterministic numbers.
struct Random(u64);

impl Random {
    /// A number from `low` to `high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        low + (self.0 >> 16) % (high - low + 1)
    }
}

/// Compares each F(n) with GMP, and requires that the first attempt is right.
#[track_caller]
fn compare(ns: impl IntoIterator<Item = u64>) {
    let mut calculator = Calculator::new(Table::new(DEFAULT_LAST).unwrap());
    for n in ns {
        let computed = calculator.compute(n);
        assert_eq!(computed.fallback, None, "F({n})");
        let gmp = rug::Integer::from(rug::Integer::fibonacci(u32::try_from(n).unwrap()));
        assert!(*computed.digits == *gmp.to_string_radix(10).as_bytes(), "F({n})");
    }
}

/// The n at which another method begins: decimal doubling, one step more, limbs of fewer digits.
fn changes() -> BTreeSet<u64> {
    let step = |shift: u32| u64::from(DEFAULT_LAST) << shift;
    let mut changes: BTreeSet<u64> = (0..14).map(step).filter(|n| *n <= MAX_N).collect();
    changes.insert(DECIMAL_FROM);
    let (mut low, mut digits) = (DECIMAL_FROM, digits_for(DECIMAL_FROM));
    while digits > digits_for(MAX_N) {
        let mut high = MAX_N;
        while high - low > 1 {
            let middle = low.midpoint(high);
            *(if digits_for(middle) < digits { &mut high } else { &mut low }) = middle;
        }
        changes.insert(high);
        (low, digits) = (high, digits_for(high));
    }
    changes
}

#[test]
fn random_numbers() {
    let mut random = Random(1);
    compare((0..25_000).map(|_| random.between(10_001, 200_000)));
    compare((0..500).map(|_| random.between(200_001, 3_000_000)));
    compare((0..25).map(|_| random.between(3_000_001, 30_000_000)));
}

#[test]
fn numbers_around_each_change_of_method() {
    for change in changes() {
        // Beyond ten millions GMP takes a second for each.
        let reach = if change > 10_000_000 { 5 } else { 30 };
        compare((change - reach..=change + reach).filter(|n| *n <= MAX_N));
    }
}

#[test]
fn numbers_near_the_maxima() {
    compare(DEFAULT_MAX_N - 39..=DEFAULT_MAX_N);
    compare(MAX_N - 39..=MAX_N);
}
