//! Checks the documentation: generated parts are up to date, names and links exist, and everything is documented.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod architecture;
mod badges;
mod examples;
mod figures;
mod generated;
mod log_messages;
mod names;
mod pages;
mod tour;

use std::{fs, path::PathBuf};

/// The path of a file of the repository.
fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of the repository.
fn read(name: &str) -> String {
    fs::read_to_string(path_of(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The paths of all files below `directory`, of the repository only, whose names end like this, sorted.
fn files(directory: &str, ending: &str) -> Vec<String> {
    let root = path_of("");
    let mut found = Vec::new();
    let mut directories = vec![path_of(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_built =
                ["target", "bin", ".git", "fuzz/target", "fuzz/corpus"].contains(&&*name);
            if path.is_dir() && !path.is_symlink() && !is_built {
                directories.push(path);
            } else if name.ends_with(ending) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

/// Fails with one line for each problem.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
