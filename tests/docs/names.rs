//! What the pages name outside of tables and links: files, statuses, alerts, error messages and commands.

use std::{collections::BTreeSet, path::Path};

use fibsrv::{config, http::Status};

use crate::{
    assert_none,
    log_messages::{literals, sources},
    pages::{HISTORY, alerts, code_blocks, code_spans, pages, prose, words},
    path_of, read,
};

/// Directories that a path in a page may be relative to, beside its own.
const BASES: &[&str] = &["", "src", "src/fibonacci", "src/metrics", "prometheus"];

/// Spans that look like paths and are none of the repository: media types, and what a build or a user makes.
const NO_PATHS: &[&str] = &["text/plain", "application/json", "fuzz/artifacts", "site/"];

fn is_path(span: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    span.contains('/')
        && span.chars().all(is_part)
        && !span.starts_with('/')
        && !span.starts_with("target/")
        && !NO_PATHS.contains(&span)
}

fn exists(page: &str, path: &str) -> bool {
    let beside = Path::new(page).parent().and_then(Path::to_str);
    let bases = BASES.iter().copied().chain(beside);
    bases.into_iter().any(|base| path_of(base).join(path).exists())
}

#[test]
fn paths_exist() {
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in pages().iter().filter(|page| *page != HISTORY) {
        for span in code_spans(&read(page)).iter().filter(|span| is_path(span)) {
            count += 1;
            if !exists(page, span) {
                problems.push(format!("{page}: no file {span}"));
            }
        }
    }
    assert_none(&problems);
    assert!(count > 150, "{count} paths");
}

/// Words after which a number of three digits is a status.
const BEFORE_STATUS: &[&str] =
    &["is", "are", "get", "gets", "status", "a", "an", "its", "receives", "returns", "sends"];

/// Pages about the server itself. The proxy has statuses of its own.
fn is_about_the_server(page: &str) -> bool {
    page.starts_with("docs/") || !page.contains('/')
}

/// The statuses that a text names: numbers after certain words, and those joined to them.
fn statuses(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_next = false;
    for word in text.split_whitespace() {
        let number = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        let is_status = number.len() == 3 && matches!(number.parse(), Ok(100..600));
        if is_next && is_status {
            found.push(number);
        }
        let joins = is_next && (is_status && word.ends_with(',') || matches!(word, "or" | "and"));
        is_next = BEFORE_STATUS.contains(&word) || joins || is_next && is_status;
    }
    found
}

#[test]
fn statuses_exist() {
    let existing: BTreeSet<_> = Status::ALL.map(Status::code).into_iter().chain(["100"]).collect();
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in pages().iter().filter(|page| *page != HISTORY && is_about_the_server(page)) {
        for status in statuses(&prose(&read(page))) {
            count += 1;
            if !existing.contains(status) {
                problems.push(format!("{page}: no status {status}"));
            }
        }
    }
    assert_none(&problems);
    assert!(count > 20, "{count} statuses");
}

#[test]
fn alerts_exist() {
    let alerts = alerts();
    let mut problems = Vec::new();
    for page in pages().iter().filter(|page| *page != HISTORY) {
        let text = read(page);
        for start in ["Fibsrv", "Front"] {
            let named = words(&text, start, |letter| letter.is_ascii_alphanumeric());
            let unknown = named.iter().filter(|name| !alerts.contains(**name));
            problems.extend(unknown.map(|name| format!("{page}: no alert {name}")));
        }
    }
    assert_none(&problems);
}

/// Messages of the parser of flags and of the build, which are no literals of the source.
const FOREIGN_MESSAGES: &[&str] =
    &["unexpected argument", "invalid value", "linker 'cc' not found", "edition2024 is required"];

/// The first part of a message between its values, which are in capitals or left out.
fn constant_part(message: &str) -> String {
    let is_value = |word: &str| {
        let letters = word.trim_matches(['-', ':']);
        word == "…" || letters.len() > 2 && letters.chars().all(|c| c.is_ascii_uppercase())
    };
    let words: Vec<_> = message.split(' ').collect();
    let first = words.split(|word| is_value(word)).find(|run| !run.is_empty());
    first.unwrap_or_default().join(" ")
}

#[test]
fn error_messages_exist() {
    let sources = sources();
    let literals = literals(&sources);
    let page = read("docs/troubleshooting.md");
    let (mut problems, mut count) = (Vec::new(), 0);
    for table in page.split("\n| message |").skip(1) {
        let rows = table.lines().skip(2).take_while(|row| row.starts_with("| "));
        let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
        for message in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            count += 1;
            let part = constant_part(message);
            let is_known = FOREIGN_MESSAGES.contains(&message)
                || literals.iter().any(|literal| literal.contains(&*part));
            if !is_known {
                problems.push(format!("no message {message:?}"));
            }
        }
    }
    assert_none(&problems);
    assert!(count > 8, "{count} messages");
}

#[test]
fn commands_have_existing_flags() {
    let command = config::command();
    let flags: BTreeSet<_> = command.get_arguments().filter_map(|a| a.get_long()).collect();
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in pages().iter().filter(|page| *page != HISTORY) {
        let blocks = code_blocks(&read(page));
        for line in blocks.iter().flat_map(|(_, code)| code.lines()) {
            let line = line.split(" #").next().unwrap_or_default();
            let mut after = line
                .split_whitespace()
                .skip_while(|word| *word != "fibsrv" && !word.ends_with("bin/fibsrv"));
            after.next();
            for word in after.filter_map(|word| word.strip_prefix("--")) {
                count += 1;
                let name = word.split('=').next().unwrap_or_default();
                if !flags.contains(name) && !["help", "version"].contains(&name) {
                    problems.push(format!("{page}: no flag --{name}: {line}"));
                }
            }
        }
    }
    assert_none(&problems);
    assert!(count > 5, "{count} flags");
}

#[test]
fn targets_of_make_exist() {
    let makefile = read("Makefile");
    let rules = makefile.lines().filter_map(|line| line.split_once(':'));
    let targets: BTreeSet<_> = rules.map(|(target, _)| target).collect();
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = read(&page);
        let blocks = code_blocks(&text);
        let lines = blocks.iter().flat_map(|(_, code)| code.lines()).map(str::to_owned);
        for command in code_spans(&text).into_iter().chain(lines) {
            let Some(target) = command.strip_prefix("make ").and_then(|c| c.split(' ').next())
            else {
                continue;
            };
            count += 1;
            if !targets.contains(target) {
                problems.push(format!("{page}: no target {target}"));
            }
        }
    }
    assert_none(&problems);
    assert!(count > 40, "{count} commands");
}
