//! The layering of ARCHITECTURE.md as a test: who may name what, and how long a file may be.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines in a file, its unit tests included. What is longer has a room inside that wants its own door.
const FILE_LINES_MAX: usize = 400;

/// The pure core: no socket, file, clock, environment, thread or logger; but for what is in [`SHELL_IN_CORE`].
const CORE: &[&str] = &[
    "http/",
    "app/",
    "fibonacci/",
    "metrics/",
    "server/timers.rs",
    "server/drain.rs",
    "logging/access/lines.rs",
    "logging/access/encoder.rs",
    "logging/access/address.rs",
    "logging/access/backlog.rs",
];
const OUTSIDE: &[&str] = &[
    "mio::",
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "std::os",
    "log::",
    "println!",
    "socket2::",
    "rustix::",
    "nix::",
    "memmap2::",
    "clap::",
    "Instant",
    "SystemTime",
];

/// Where the metrics meet the system.
const SHELL_IN_CORE: &str = "metrics/shared/";

/// For each file, or folder, the modules of this crate that it must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("http/", &["app", "fibonacci", "metrics", "server"]),
    ("fibonacci/", &["http", "app", "metrics", "server"]),
    ("metrics/", &["app", "fibonacci", "server"]),
    ("server/timers.rs", &["http", "app", "fibonacci", "metrics"]),
    ("app/", &["server"]),
    ("logging/", &["app", "fibonacci", "metrics", "server"]),
    ("server/connections.rs", &["app", "fibonacci", "metrics"]),
    ("server/connection.rs", &["fibonacci", "metrics"]),
    ("group/", &["http", "app", "server", "metrics"]),
    ("notify/", &["http", "app", "server", "metrics"]),
    ("server/listeners.rs", &["http", "app", "metrics"]),
    ("", &["start"]), // the top; main.rs alone reaches for it, by another path
];

/// What only one file may name, and which.
const ONLY_IN: &[(&str, &str)] = &[
    ("Instant::now", "sys/clock.rs"),
    ("SystemTime::now", "sys/clock.rs"),
    ("clock_gettime", "sys/clock.rs"),
    ("args_os()", "main.rs"),
    ("env::var", "config/"),
    ("simple_logger", "logging/mod.rs"),
    ("httparse::", "http/request/head.rs"),
    ("clap::", "config/"),
];

/// What no file may name: globals, and what would block or hide.
const NOWHERE: &[&str] = &["static mut", "thread_local!", "OnceLock", "LazyLock", "todo!"];

/// Where `unsafe` may be, each block with its reason.
const UNSAFE_IN: &[&str] = &["sys/mod.rs", SHELL_IN_CORE];

/// Each source file, as its path below `src` and its code without comments and unit tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if !name.ends_with("tests.rs") {
                found.push((name, text));
            }
        }
    }
    assert!(found.len() > 20, "the sources have moved");
    found
}

/// The code of a file as far as layering is concerned.
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = without_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code names a module of this crate, by `crate::module` or inside of `use crate::{...}`.
fn names_module(code: &str, module: &str) -> bool {
    let uses =
        code.split("use crate::").skip(1).map(|rest| rest.split(';').next().unwrap_or_default());
    let in_use = |text: &str| {
        let mut depth = 0;
        let mut word = String::new();
        for letter in text.chars().chain([',']) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ if letter.is_alphanumeric() || letter == '_' => {
                    word.push(letter);
                    continue;
                }
                _ => {}
            }
            let ends_path = matches!(letter, ':' | ',' | '{' | '}' | ' ' | '\n');
            if depth <= 1 && ends_path && word == module {
                return true;
            }
            word.clear();
        }
        false
    };
    uses.into_iter().any(in_use) || code.contains(&format!("crate::{module}::"))
}

fn complaints(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources {
        let code = code(text);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{name} has {lines} lines, more than {FILE_LINES_MAX}"));
        }
        let is_in =
            |place: &str| name.starts_with(place) && (place.ends_with('/') || name == place);
        if CORE.iter().any(|place| is_in(place)) && !is_in(SHELL_IN_CORE) {
            for word in OUTSIDE.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{name} is part of the core and names {word}"));
            }
        }
        for (place, modules) in
            FORBIDDEN.iter().filter(|(place, _)| place.is_empty() || is_in(place))
        {
            for module in modules.iter().filter(|module| names_module(&code, module)) {
                found.push(format!("{name} names crate::{module}, which {place:?} must not"));
            }
        }
        for (word, place) in
            ONLY_IN.iter().filter(|(word, place)| code.contains(word) && !is_in(place))
        {
            found.push(format!("{name} names {word}, which is for {place}"));
        }
        for word in NOWHERE.iter().filter(|word| code.contains(**word)) {
            found.push(format!("{name} names {word}, which nobody may"));
        }
        if code.contains("unsafe ") && !UNSAFE_IN.iter().any(|place| is_in(place)) {
            found.push(format!("{name} has unsafe code, which is for {UNSAFE_IN:?}"));
        }
        if !text.starts_with("//! ") {
            found.push(format!("{name} does not begin with what it is for"));
        }
    }
    found
}

#[test]
fn the_layering_holds() {
    let complaints = complaints(&sources());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_layering_is_checked() {
    let check = |name: &str, line: &str| {
        let text = format!("//! What it is for.\n{line}\n");
        assert_eq!(complaints(&[(name.to_owned(), text)]).len(), 1, "{name}: {line}");
    };
    check("http/request/head.rs", "use std::net::TcpStream;");
    check("http/conn/mod.rs", "use crate::{http::Method, app::route::Route};");
    check("http/conn/mod.rs", "use crate::{\n    http::Method,\n    metrics,\n};");
    check("group/mod.rs", "let x = crate::http::date::LENGTH;");
    check("app/mod.rs", "log::info!();");
    check("server/connection.rs", "let now = SystemTime::now();");
    check("app/route.rs", "unsafe { }");
    check("metrics/mod.rs", "unsafe { }");
    check("metrics/mod.rs", "use std::fs::File;");
    check("metrics/shared/mod.rs", "use crate::app::App;");
    check("app/route.rs", &"\n".repeat(FILE_LINES_MAX));
    assert_eq!(complaints(&[("app/route.rs".to_owned(), "use std::fmt;".to_owned())]).len(), 1);
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    let text =
        "//! Fine.\n// std::net in a comment\nuse crate::{http::conn::{self, Next}, server};\n";
    assert_eq!(complaints(&[("server/connections.rs".to_owned(), text.to_owned())]), [""; 0]);
    let text = "//! Fine.\nuse std::fs::File;\nunsafe { }\n";
    assert_eq!(complaints(&[("metrics/shared/mod.rs".to_owned(), text.to_owned())]), [""; 0]);
}
