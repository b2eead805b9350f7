//! Fibonacci numbers in decimal: a table for small n, computation beyond it.
//!
//! This is part of the pure core: numbers in, digits out. Nothing here touches a clock, a file, the
//! environment or the logger, and nothing here starts a thread.

mod digits;
mod table;

pub use digits::digit_count;
pub use table::{DEFAULT_LAST, MAX_LAST, Table, TableError};
