//! Fibonacci numbers in decimal: a table for small n, computation beyond it.
//!
//! This is part of the pure core: numbers in, digits out. Nothing here touches a clock, a file, the
//! environment or the logger, and nothing here starts a thread.
//!
//! [`Table`] holds small numbers, [`Calculator`] computes larger ones, and [`Cache`] stores computed numbers.
//! The calculator doubles in decimal with `large`, starting from the table. `check` verifies every result. If
//! verification fails, the number is computed again, by smaller limbs and finally by [`doubling`] in ibig's binary
//! numbers. `docs/large-numbers.md` explains `large`.

mod cache;
mod calculator;
mod check;
mod digits;
pub mod doubling;
#[cfg(all(test, feature = "gmp"))]
mod gmp_tests;
mod gzip;
mod large;
mod table;

pub use cache::{Cache, CacheKey, CachedForm};
pub use calculator::{Calculator, Computed, DEFAULT_MAX_N, MAX_N};
pub use check::{Mismatch, check};
pub use digits::digit_count;
pub use gzip::{gzip, gzip_bytes_max};
pub use large::Vectors;
pub use table::{DEFAULT_LAST, MAX_LAST, Prefixed, Table, TableError};
