//! The drawings and the table of patterns in docs/tour.md name what exists, in its order.

use crate::{assert_none, path_of, read};

/// The texts of a drawing with this class.
fn texts(drawing: &str, class: &str) -> Vec<String> {
    let text = read(drawing);
    let start = format!("<text class=\"{class}\"");
    let texts = text.split(&start).skip(1);
    texts.map(|rest| rest.split(['>', '<']).nth(1).unwrap().to_owned()).collect()
}

/// The texts of a drawing that are names of the source.
fn names(drawing: &str) -> Vec<String> {
    texts(drawing, "name")
}

#[test]
fn the_drawing_of_the_modules_names_those_that_exist() {
    let mut problems = Vec::new();
    let titles = texts("docs/architecture.svg", "title");
    for title in titles.iter().filter(|title| *title != "kernel") {
        let mut directory = "";
        for name in title.split(", ") {
            // After `server/accept`, `listeners` is in `server/` too.
            let end = name.rfind('/').map_or(0, |slash| slash + 1);
            if end > 0 {
                directory = &name[..end];
            }
            let path = format!("src/{directory}{}", &name[end..]);
            if !path_of(&path).is_dir() && !path_of(&format!("{path}.rs")).exists() {
                problems.push(format!("no {path}"));
            }
        }
    }
    assert_none(&problems);
    assert!(titles.len() > 15, "{titles:?}");
}

#[test]
fn the_drawing_of_the_loop_has_its_steps_in_order() {
    let source = read("src/server/mod.rs");
    let (_, run) = source.split_once("pub fn run(").unwrap();
    let (run, _) = run.split_once("\n    }\n").unwrap();
    let mut rest = run;
    for name in names("docs/loop.svg") {
        let call = format!(".{name}(");
        rest = rest.split_once(&call).unwrap_or_else(|| panic!("{name} is not called next")).1;
    }
    assert!(names("docs/loop.svg").len() > 8);
}

#[test]
fn the_drawing_of_states_has_all_of_them() {
    let source = read("src/http/conn/phase.rs");
    let (_, phase) = source.split_once("enum Phase {").unwrap();
    let (phase, _) = phase.split_once("\n}\n").unwrap();
    let variants = phase.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let variants = variants.map(|line| line.split([' ', '(', ',', '{']).next().unwrap());
    let mut existing: Vec<_> = variants.filter(|name| !name.is_empty()).collect();
    let mut drawn = names("docs/connection-states.svg");
    existing.sort_unstable();
    drawn.sort_unstable();
    assert_eq!(drawn, existing);
}

#[test]
fn patterns_have_a_file_and_a_test() {
    let text = read("docs/tour.md");
    let (_, section) = text.split_once("\n## Patterns\n").unwrap();
    let mut problems = Vec::new();
    let rows: Vec<_> = section.lines().filter(|row| row.contains(".rs`")).collect();
    for row in &rows {
        let names: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        let [file, place, function] = names[..] else { panic!("{row}") };
        if !path_of(&format!("src/{file}")).exists() {
            problems.push(format!("no src/{file}"));
        }
        if !path_of(place).exists() || !read(place).contains(&format!("fn {function}(")) {
            problems.push(format!("no test {function} in {place}"));
        }
    }
    assert_none(&problems);
    assert!(rows.len() >= 15, "{} patterns", rows.len());
}
