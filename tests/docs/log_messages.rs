//! docs/log-messages.md has every message that the server logs, and no other.

use std::collections::BTreeSet;

use crate::{assert_none, files, read};

const PAGE: &str = "docs/log-messages.md";

/// Messages of these levels need an explanation; others are for developers.
const MACROS: &[&str] = &["info!(", "warn!(", "error!("];

/// Replaces every placeholder by `{}`, whatever its name.
fn without_names(text: &str) -> String {
    let mut parts = text.split('{');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        normal.push_str("{}");
        normal.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
    }
    normal
}

/// The string literal at the front of `code`, after white space.
fn literal(code: &str) -> Option<String> {
    let text = code.trim_start().strip_prefix('"')?;
    let mut literal = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some(literal),
            '\\' => match letters.next()? {
                '\n' => letters = letters.as_str().trim_start().chars(),
                letter => literal.push(letter),
            },
            letter => literal.push(letter),
        }
    }
}

/// The source without tests.
pub(crate) fn sources() -> String {
    let names = files("src", ".rs").into_iter().filter(|name| !name.ends_with("tests.rs"));
    names.map(|name| read(&name).split("#[cfg(test)]").next().unwrap().to_owned()).collect()
}

/// The messages that are literals of a macro.
fn logged(sources: &str) -> BTreeSet<String> {
    MACROS.iter().flat_map(|name| logged_by(sources, name)).collect()
}

fn logged_by(sources: &str, name: &str) -> BTreeSet<String> {
    let calls = sources.split(name).skip(1);
    let messages = calls.filter_map(literal).map(|text| without_names(&text));
    messages.filter(|text| !text.replace("{}", "").trim().is_empty()).collect()
}

/// All string literals, placeholders as `{}`.
pub(crate) fn literals(sources: &str) -> BTreeSet<String> {
    let all = sources.match_indices('"').filter_map(|(at, _)| literal(sources.get(at..)?));
    all.map(|text| without_names(&text)).collect()
}

/// The messages in the tables of the page, as written there.
fn documented() -> Vec<String> {
    let rows = read(PAGE);
    let cells = rows.lines().filter_map(|row| row.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(message, _)| message.to_owned()).collect()
}

#[test]
fn every_message_is_documented() {
    let sources = sources();
    let documented = documented();
    let normal: BTreeSet<_> = documented.iter().map(|text| without_names(text)).collect();
    let mut problems: Vec<_> = logged(&sources)
        .difference(&normal)
        .map(|text| format!("{PAGE}: not documented: {text}"))
        .collect();
    // Some messages are made by functions; a part of each is a literal somewhere.
    let literals = literals(&sources);
    let unknown = documented.iter().filter(|text| !literals.contains(&without_names(text)));
    problems.extend(unknown.map(|text| format!("{PAGE}: no such message: {text}")));
    assert_none(&problems);
}

#[test]
fn the_levels_are_those_of_the_macros() {
    let sources = sources();
    let page = read(PAGE);
    let mut problems = Vec::new();
    for name in MACROS {
        let level = name.trim_end_matches("!(");
        for message in logged_by(&sources, name) {
            let rows = page.lines().filter(|row| {
                let cell = row.strip_prefix("| `").and_then(|rest| rest.split_once("` | "));
                cell.is_some_and(|(text, rest)| {
                    without_names(text) == message && !rest.starts_with(&format!("{level} |"))
                })
            });
            problems.extend(rows.map(|row| format!("{PAGE}: the level is {level}: {row}")));
        }
    }
    assert_none(&problems);
}
