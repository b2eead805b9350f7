//! The cells that are counted in: atomic integers with a single writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows. It has a single writer and any number of readers.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `n` more. With a second writer counts would be lost: `fetch_add` would prevent that, at the
    /// price of a locked instruction on every request.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. It has a single writer and any number of readers.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// A gauge at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Raises the value by `n`.
    pub fn add(&self, n: u64) {
        self.set(self.get().saturating_add(n));
    }

    /// Lowers the value by `n`, at most to zero: a slip in the bookkeeping must not show as 2^64 - 1.
    pub fn sub(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_never_falls_below_zero() {
        let gauge = Gauge::new();
        gauge.add(2);
        gauge.sub(1);
        assert_eq!(gauge.get(), 1);
        gauge.sub(5);
        assert_eq!(gauge.get(), 0);
    }
}
