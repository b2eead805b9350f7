//! Checks the documentation: generated parts are up to date, names and links exist, and everything is documented.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod architecture;
mod generated;

use std::{fs, path::PathBuf};

/// The path of a file of the repository.
fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of the repository.
fn read(name: &str) -> String {
    fs::read_to_string(path_of(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
