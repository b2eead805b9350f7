//! Fibonacci numbers in decimal: a table for small n, computation beyond it.
//!
//! This is part of the pure core: numbers in, digits out. Nothing here touches a clock, a file, the
//! environment or the logger, and nothing here starts a thread.
//!
//! [`Table`] holds small numbers, [`Calculator`] computes larger ones, and [`Cache`] stores computed numbers.
//! The calculator uses `decimal_doubling`, which goes from F(j) to F(2j) in limbs of decimal digits
//! (`decimal`) multiplied by `transform`. `check` verifies every result. If verification fails, the number is
//! recomputed by [`doubling`] in ibig's binary numbers.

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
pub use calculator::{Calculator, Computed, MAX_N};
pub use check::{Mismatch, check};
pub use digits::digit_count;
pub use table::{DEFAULT_LAST, MAX_LAST, Table, TableError};
