//! ARCHITECTURE.md is short and its core path is true.

use crate::read;

const ARCHITECTURE_LINES_MAX: usize = 250;
const CORE_PATH_LINES_MAX: usize = 2_000;

#[test]
fn the_architecture_is_short() {
    let lines = read("ARCHITECTURE.md").lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "{lines} lines");
}

/// The rows of the table: order, file, lines without unit tests.
#[test]
fn the_core_path_has_its_lines() {
    let text = read("ARCHITECTURE.md");
    let (_, rest) = text.split_once("\n## Core path\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut total = 0;
    for row in section.lines().filter(|row| row.contains(".rs`")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (file, said) = (cells[2].trim_matches('`'), cells[3].parse::<usize>().unwrap());
        let source = read(&format!("src/{file}"));
        let lines = source.split("#[cfg(test)]").next().unwrap().trim_end().lines().count();
        assert_eq!(said, lines, "{file}");
        total += lines;
    }
    assert!(total > 1_000 && total < CORE_PATH_LINES_MAX, "{total} lines");
}
