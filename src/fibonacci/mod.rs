//! Fibonacci numbers in decimal: a table for small n, computation beyond it.
//!
//! This is part of the pure core: numbers in, digits out. Nothing here touches a clock, a file, the
//! environment or the logger, and nothing here starts a thread.
//!
//! [`Table`] is looked up, [`Calculator`] computes, [`Cache`] keeps what was computed. What the calculator stands on, from the top down:
//! `decimal_doubling` goes from F(j) to F(2j) in limbs of decimal digits (`decimal`), which `transform`
//! multiplies; `check` has the last word on every answer; and [`doubling`], in ibig's binary numbers,
//! is the plain way it falls back on.

mod cache;
mod calculator;
mod check;
mod decimal;
mod decimal_doubling;
mod digits;
pub mod doubling;
mod table;
mod transform;
mod transform_cache;

pub use cache::{Cache, Rejection};
pub use calculator::{Calculator, Computed, MAX_N, Way};
pub use check::{Mismatch, check};
pub use digits::digit_count;
pub use table::{DEFAULT_LAST, MAX_LAST, Table, TableError};
