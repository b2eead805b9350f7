//! Pictures: each is shown, has a description, and suits both colour schemes. Tables of figures agree.

use std::collections::BTreeSet;

use crate::{
    assert_none, files,
    pages::{links, normal, pages},
    path_of, read,
};

/// The drawings.
fn drawings() -> Vec<String> {
    files("docs", ".svg").into_iter().filter(|name| !name.starts_with("docs/badges/")).collect()
}

#[test]
fn every_picture_is_shown() {
    let mut shown = BTreeSet::new();
    for page in pages() {
        let here = path_of(&page);
        let targets = links(&read(&page));
        shown.extend(targets.iter().map(|target| normal(&here.parent().unwrap().join(target))));
    }
    let pictures = [files("docs", ".svg"), files("docs", ".png")].concat();
    let lost = pictures.iter().filter(|name| !shown.contains(&path_of(name)));
    assert_none(&lost.map(|name| format!("{name}: on no page")).collect::<Vec<_>>());
    assert!(pictures.len() > 8, "{pictures:?}");
}

#[test]
fn every_picture_has_a_description() {
    let mut problems = Vec::new();
    for page in pages() {
        let text = read(&page);
        for tag in text.split("<img ").skip(1).filter_map(|rest| rest.split('>').next()) {
            if !tag.contains("alt=\"") || tag.contains("alt=\"\"") {
                problems.push(format!("{page}: <img {tag}>"));
            }
        }
        if text.contains("![](") {
            problems.push(format!("{page}: a picture without a description"));
        }
    }
    for drawing in drawings() {
        if !read(&drawing).contains("<title") {
            problems.push(format!("{drawing}: no title"));
        }
    }
    assert_none(&problems);
}

#[test]
fn drawings_suit_both_colour_schemes() {
    let is_plain = |name: &&String| !read(name).contains("prefers-color-scheme: dark");
    let plain: Vec<_> = drawings().iter().filter(is_plain).cloned().collect();
    assert_none(&plain);
}

/// What is wrong with the tags of an XML document without comments and sections.
fn problem_of_xml(text: &str) -> Option<String> {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else { return Some(format!("<{tag}: no end")) };
        let name = tag.split([' ', '\n', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        if tag.matches('"').count() % 2 == 1 {
            return Some(format!("<{tag}>: an open quote"));
        }
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Some(format!("<{tag}> closes another element"));
            }
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.pop().map(|name| format!("<{name}> is open"))
}

#[test]
fn drawings_are_well_formed() {
    for good in ["<a b=\"c\"><d/>e</a>", "<a>\n<b\nc=\"d\"></b></a>"] {
        assert_eq!(problem_of_xml(good), None);
    }
    for bad in ["<a>", "<a></b>", "<a b=\"c></a>", "<a"] {
        assert!(problem_of_xml(bad).is_some(), "{bad}");
    }
    let all = files("docs", ".svg");
    let problems = all.iter().filter_map(|name| Some((name, problem_of_xml(&read(name))?)));
    assert_none(&problems.map(|(name, problem)| format!("{name}: {problem}")).collect::<Vec<_>>());
}

/// The rows of the table that begins with `first`, as cells.
fn table(text: &str, first: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(first));
    let rows =
        lines.take_while(|line| line.starts_with('|')).filter(|line| !line.starts_with("|-"));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn the_table_of_speed_is_that_of_the_page_about_performance() {
    let shown = table(&read("README.md"), "| | keep-alive");
    let measured = table(&read("docs/performance.md"), "| CPU per request");
    let find = |row: &str| measured.iter().find(|cells| cells[0] == row).unwrap();
    for cells in &shown[1..] {
        for (column, cell) in shown[0].iter().zip(cells).skip(1) {
            // There are several columns with keep-alive; the first is the one with fewer connections.
            let place = measured[0].iter().position(|name| name.split(',').next() == Some(column));
            assert_eq!(*cell, find(&cells[0])[place.unwrap()], "{}: {column}", cells[0]);
        }
    }
    assert!(shown.len() > 3, "{shown:?}");
}
