//! Enforces the structure that ARCHITECTURE.md describes: layers, purity of the core, no cycles, short files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Maximum lines of a file, unit tests included. A longer file has a module inside that should be split off.
const FILE_LINES_MAX: usize = 400;

/// Maximum entries of `src/`.
const SRC_ENTRIES_MAX: usize = 15;

/// Each module of `src/` with the modules that it may name, from the bottom layer to the top.
const LAYERS: &[(&str, &[&str])] = &[
    // Pure: no I/O. Time and bytes are arguments.
    ("fibonacci", &[]),
    ("http", &[]),
    ("metrics", &["http"]),
    ("app", &["fibonacci", "http", "logging", "metrics"]), // of logging only what makes lines
    // The shell.
    ("sys", &["http"]), // the clock renders dates
    ("health", &["sys"]),
    ("logging", &["http", "sys"]),
    ("notify", &["sys"]),
    ("group", &["sys"]),
    ("server", &["app", "fibonacci", "group", "http", "logging", "metrics", "notify", "sys"]),
    ("config", &["app", "fibonacci", "http", "logging", "server", "sys"]),
    ("supervisor", &["config", "group", "notify", "sys"]),
    (
        "start",
        &[
            "app",
            "config",
            "fibonacci",
            "group",
            "http",
            "logging",
            "metrics",
            "notify",
            "server",
            "supervisor",
            "sys",
        ],
    ),
    ("main", &["config", "health", "logging", "start"]),
    ("lib", &[]),
];

/// Dependencies inside a layer that would make it less than what it is for.
const FORBIDDEN: &[(&str, &str)] = &[
    ("http/request/", "http/conn/"),
    ("http/render.rs", "http/conn/"),
    ("app/", "logging/mod.rs"),
    ("app/", "logging/throttle.rs"),
    ("app/", "logging/access/mod.rs"),
    ("app/", "logging/access/destination.rs"),
    ("server/timers.rs", "server/connection/mod.rs"),
    ("server/drain.rs", "server/connection/mod.rs"),
];

/// The pure core, apart from [`SHELL_IN_CORE`].
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
    "logging/access/request_fields.rs",
    "logging/access/trace_context.rs",
];

/// What the core must not name: sockets, files, clocks, environment, threads, loggers.
const IMPURE: &[&str] = &[
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

/// The memory that several processes map, below the metrics.
const SHELL_IN_CORE: &str = "metrics/shared/";

/// What only one file or directory may name.
const ONLY_IN: &[(&str, &str)] = &[
    ("Instant::now", "sys/clock.rs"),
    ("SystemTime::now", "sys/clock.rs"),
    ("clock_gettime", "sys/clock.rs"),
    ("args_os()", "main.rs"),
    ("env::var", "config/"),
    ("simple_logger", "logging/"),
    ("httparse::", "http/request/head.rs"),
    ("clap::", "config/"),
];

/// What no file may name: globals, and leftovers.
const NOWHERE: &[&str] = &["static mut", "thread_local!", "OnceLock", "LazyLock", "todo!"];

/// Where `unsafe` may be.
const UNSAFE_IN: &[&str] = &["sys/mod.rs", SHELL_IN_CORE];

/// Each source file by its path below `src`.
type Sources = BTreeMap<String, String>;

/// Whether `name` is `place`, or inside of it if that is a directory.
fn is_in(name: &str, place: &str) -> bool {
    name == place || (place.ends_with('/') && name.starts_with(place))
}

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Sources::new();
    let mut directories: Vec<PathBuf> = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if is_source && !name.ends_with("tests.rs") {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "the sources have moved");
    found
}

/// The code of a file without comments and unit tests.
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = without_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The module path of a file: `http/request/head.rs` is `[http, request, head]`.
fn module_of(name: &str) -> Vec<String> {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let name = name.strip_suffix("/mod").unwrap_or(name);
    name.split('/').map(str::to_owned).collect()
}

/// The paths of a `use` tree such as `a::{b, c::{self, d}}`.
fn flatten(tree: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, rest)| {
        (head, Some(rest.trim_end().strip_suffix('}').unwrap_or(rest)))
    });
    let mut path = prefix.to_vec();
    let segments = head.split("::").map(|segment| segment.split(" as ").next().unwrap_or_default());
    path.extend(
        segments.map(str::trim).filter(|s| !s.is_empty() && *s != "self").map(str::to_owned),
    );
    let Some(group) = group else { return found.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let element = group.get(start..at).unwrap().trim();
                if !element.is_empty() {
                    flatten(element, &path, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The `use` declarations of `code`, as trees; those of `pub use` apart, as they are no dependencies.
fn uses(code: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut private, mut public) = (Vec::new(), Vec::new());
    for (at, _) in code.match_indices("use ") {
        let before = code.get(..at).unwrap();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let tree = code.get(at + 4..).and_then(|rest| rest.split(';').next()).unwrap_or_default();
        match line.trim() {
            "" => private.push(tree),
            visibility if visibility.starts_with("pub") => public.push(tree),
            _ => {}
        }
    }
    (private, public)
}

/// A path as one from the root of the crate, if it leads into this crate.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "super" => {
            let parent = module.split_last().map_or(&[][..], |(_, parent)| parent);
            match rest.first().map(String::as_str) {
                Some("super") => absolute(rest, parent),
                _ => Some([parent, rest].concat()),
            }
        }
        _ => None,
    }
}

/// The file that a path leads to: that of its longest prefix that is a module, or where that module re-exports
/// the next segment from.
fn resolve(path: &[String], sources: &Sources) -> Option<String> {
    for length in (1..=path.len()).rev() {
        let (module, rest) = path.split_at(length);
        let joined = module.join("/");
        for name in [format!("{joined}.rs"), format!("{joined}/mod.rs")] {
            let Some(text) = sources.get(&name) else { continue };
            let code = code(text);
            let mut exported = Vec::new();
            for tree in uses(&code).1 {
                flatten(tree, module, &mut exported);
            }
            let exported = exported.into_iter().find(|export| {
                rest.first().is_some_and(|item| export.last() == Some(item)) && *export != *path
            });
            return exported.and_then(|export| resolve(&export, sources)).or(Some(name));
        }
    }
    None
}

/// The files that each file depends on.
fn dependencies(sources: &Sources) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for (name, text) in sources {
        let (code, module) = (code(text), module_of(name));
        let mut paths = Vec::new();
        for tree in uses(&code).0 {
            flatten(tree, &[], &mut paths);
        }
        for (at, _) in code.match_indices("crate::") {
            let rest = code.get(at..).unwrap();
            let end =
                rest.find(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
            let path = rest.get(..end.unwrap_or(rest.len())).unwrap().trim_end_matches(':');
            paths.push(path.split("::").map(str::to_owned).collect());
        }
        let files = paths.iter().filter_map(|path| absolute(path, &module));
        let mut files: BTreeSet<_> = files.filter_map(|path| resolve(&path, sources)).collect();
        files.remove(name);
        found.insert(name.clone(), files);
    }
    found
}

/// A cycle of files, if there is one.
fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'e>(
        name: &'e str,
        edges: &'e BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<&'e str>,
        done: &mut BTreeSet<&'e str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|on_path| *on_path == name) {
            return Some(path.iter().skip(start).map(|name| (*name).to_owned()).collect());
        }
        if !done.insert(name) {
            return None;
        }
        path.push(name);
        let found =
            edges.get(name).into_iter().flatten().find_map(|next| visit(next, edges, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|name| visit(name, edges, &mut Vec::new(), &mut done))
}

/// The violations of one file's own rules.
fn check_text(name: &str, text: &str, found: &mut Vec<String>) {
    let code = code(text);
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{name} has {lines} lines, more than {FILE_LINES_MAX}"));
    }
    if CORE.iter().any(|place| is_in(name, place)) && !is_in(name, SHELL_IN_CORE) {
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            found.push(format!("{name} is part of the pure core and names {word}"));
        }
    }
    for (word, place) in ONLY_IN {
        if code.contains(word) && !is_in(name, place) {
            found.push(format!("{name} names {word}, which belongs to {place}"));
        }
    }
    for word in NOWHERE.iter().filter(|word| code.contains(**word)) {
        found.push(format!("{name} names {word}"));
    }
    if code.contains("unsafe ") && !UNSAFE_IN.iter().any(|place| is_in(name, place)) {
        found.push(format!("{name} has unsafe code, which belongs to {UNSAFE_IN:?}"));
    }
    if !text.starts_with("//! ") {
        found.push(format!("{name} does not begin with a module comment"));
    }
}

/// The violations of layering.
fn check_layers(edges: &BTreeMap<String, BTreeSet<String>>, found: &mut Vec<String>) {
    for (name, files) in edges {
        let layer = module_of(name).remove(0);
        let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == layer) else {
            found.push(format!("{name} is in no layer"));
            continue;
        };
        for file in files {
            let other = module_of(file).remove(0);
            if other != layer && !allowed.contains(&other.as_str()) {
                found.push(format!("{name} names {file}, but {layer} must not depend on {other}"));
            }
            if FORBIDDEN.iter().any(|(from, to)| is_in(name, from) && is_in(file, to)) {
                found.push(format!("{name} must not depend on {file}"));
            }
        }
    }
    found.extend(cycle(edges).map(|files| format!("a cycle: {}", files.join(" -> "))));
}

/// The name of the type that a line at the top level defines.
fn defined_type(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
    let rest = rest.trim_start_matches("pub ");
    let rest = ["struct ", "enum ", "trait "].iter().find_map(|word| rest.strip_prefix(*word))?;
    rest.split(|c: char| !c.is_alphanumeric()).next().filter(|name| !name.is_empty())
}

/// The type names with more than one definition.
fn check_type_names(sources: &Sources, found: &mut Vec<String>) {
    let mut defined: BTreeMap<String, &str> = BTreeMap::new();
    for (name, text) in sources {
        for line in code(text).lines() {
            let Some(type_name) = defined_type(line) else { continue };
            if let Some(other) = defined.insert(type_name.to_owned(), name) {
                found.push(format!("{name} defines {type_name}, as {other} does"));
            }
        }
    }
}

fn violations(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources {
        check_text(name, text, &mut found);
    }
    check_type_names(sources, &mut found);
    check_layers(&dependencies(sources), &mut found);
    found
}

#[test]
fn the_sources_keep_to_the_structure() {
    let violations = violations(&sources());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn src_has_few_entries() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().count();
    assert!(entries <= SRC_ENTRIES_MAX, "{entries} entries");
}

/// Sources that consist of the given files; each `use` leads to an empty module.
fn made_of(files: &[(&str, &str)]) -> Sources {
    let empty = ["http/mod.rs", "http/date.rs", "app/mod.rs", "app/route.rs", "metrics/mod.rs"];
    let empty = empty.map(|name| (name, ""));
    let files = empty.iter().chain(files);
    files.map(|(name, code)| ((*name).to_owned(), format!("//! A module.\n{code}\n"))).collect()
}

#[track_caller]
fn check(name: &str, code: &str, expected: usize) {
    let found = violations(&made_of(&[(name, code)]));
    assert_eq!(found.len(), expected, "{name}: {code}: {found:?}");
}

#[test]
fn violations_are_found() {
    check("http/request/head.rs", "use std::net::TcpStream;", 1);
    check("http/conn/mod.rs", "use crate::{http::date, app::route::Route};", 1);
    check("http/conn/mod.rs", "use crate::{\n    http::date,\n    metrics,\n};", 1);
    check("http/conn/mod.rs", "use super::super::app::route;", 1);
    check("group/mod.rs", "let x = crate::http::date::LENGTH;", 1);
    check("app/mod.rs", "log::info!();", 1);
    check("server/connection/mod.rs", "let now = SystemTime::now();", 1);
    check("app/route.rs", "unsafe { }", 1);
    check("metrics/mod.rs", "use std::fs::File;", 1);
    check("metrics/shared/mod.rs", "use crate::app::App;", 1);
    check("unknown.rs", "", 1);
    check("app/route.rs", &"\n".repeat(FILE_LINES_MAX), 1);
    let mut sources = made_of(&[]);
    sources.insert("app/route.rs".to_owned(), "use std::fmt;".to_owned());
    assert_eq!(violations(&sources).len(), 1);
}

#[test]
fn type_names_with_two_definitions_are_found() {
    let both = [("http/a.rs", "pub struct Entry;"), ("app/b.rs", "enum Entry {}\nstruct Entries;")];
    assert_eq!(violations(&made_of(&both)), ["http/a.rs defines Entry, as app/b.rs does"]);
}

#[test]
fn cycles_are_found_also_through_a_re_export() {
    let direct = [("http/a.rs", "use super::b::B;"), ("http/b.rs", "use crate::http::a::A;")];
    assert_eq!(violations(&made_of(&direct)).len(), 1);
    let exported = [
        ("http/mod.rs", "mod a;\npub use a::A;"),
        ("http/a.rs", "use super::date::Date;"),
        ("http/date.rs", "use crate::http::A;"),
    ];
    assert_eq!(violations(&made_of(&exported)).len(), 1);
}

#[test]
fn what_is_allowed_is_not_reported() {
    check(
        "server/connection/mod.rs",
        "// std::net in a comment\nuse crate::http::date::{self, X};",
        0,
    );
    check("metrics/shared/mod.rs", "use std::fs::File;\nunsafe { }", 0);
    check("http/date.rs", "#[cfg(test)]\nmod tests { use crate::app::App; }", 0);
    let exported =
        [("http/mod.rs", "mod a;\npub use a::A;"), ("http/a.rs", "use crate::http::date;")];
    assert_eq!(violations(&made_of(&exported)), [""; 0]);
}
