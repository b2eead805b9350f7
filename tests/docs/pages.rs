//! Every page: links, code blocks, names of flags, variables, statuses and alerts.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use fibsrv::{config, http::Status, metrics::FAMILIES};

use crate::{assert_none, files, generated::sample_name, path_of, read};

const README_LINES_MAX: usize = 120;

/// Languages of code blocks. Output of a terminal is `console`, a drawing or a protocol `text`.
const LANGUAGES: &[&str] =
    &["sh", "console", "text", "rust", "yaml", "toml", "json", "ini", "http", "nginx"];

/// A history of changes, which names what no longer exists.
pub(crate) const HISTORY: &str = "CHANGELOG.md";

/// Every page of the repository.
pub(crate) fn pages() -> Vec<String> {
    let found = files("", ".md");
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The text of a page without its fenced code blocks.
pub(crate) fn prose(text: &str) -> String {
    let fences = text.split("\n```");
    fences.step_by(2).collect::<Vec<_>>().join("\n")
}

/// The fenced code blocks of a page: language and content.
pub(crate) fn code_blocks(text: &str) -> Vec<(String, String)> {
    let fences = text.split("\n```").skip(1).step_by(2);
    fences
        .map(|block| block.split_once('\n').unwrap_or((block, "")))
        .map(|(language, code)| (language.to_owned(), code.to_owned() + "\n"))
        .collect()
}

/// The texts between backquotes, outside of code blocks.
pub(crate) fn code_spans(text: &str) -> Vec<String> {
    let prose = prose(text);
    let lines = prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    lines.map(str::to_owned).collect()
}

/// The fragment by which a heading is linked.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn slugs(text: &str) -> BTreeSet<String> {
    let prose = prose(&format!("\n{text}"));
    prose.lines().filter(|line| line.starts_with('#')).map(slug).collect()
}

/// The targets of all links and images, also in HTML.
pub(crate) fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let forms = [("](", ')'), (" src=\"", '"'), (" srcset=\"", '"'), (" href=\"", '"')];
    let targets = forms.iter().flat_map(|(start, end)| {
        prose.split(start).skip(1).filter_map(|rest| rest.split_once(*end))
    });
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Resolves `..` without the file system.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

fn problem_of_link(page: &str, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (path, fragment) = target.split_once('#').map_or((target, None), |(p, f)| (p, Some(f)));
    let here = Path::new(page).parent().unwrap();
    let file = if path.is_empty() { PathBuf::from(page) } else { normal(&here.join(path)) };
    if !path_of(file.to_str().unwrap()).exists() {
        return Some(format!("{page}: {target}: no such file"));
    }
    let known = fragment.is_none_or(|f| slugs(&read(file.to_str().unwrap())).contains(f));
    (!known).then(|| format!("{page}: {target}: no such heading"))
}

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        for target in links(&read(&page)) {
            count += 1;
            problems.extend(problem_of_link(&page, &target));
        }
    }
    assert_none(&problems);
    assert!(count > 50, "{count} links");
}

/// Why a code block is wrong, if its language can be checked here.
fn problem_of_code(language: &str, code: &str) -> Option<String> {
    match language {
        "json" => serde_json::from_str::<serde_json::Value>(code).err().map(|e| e.to_string()),
        "sh" => {
            let mut shell = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            shell.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
            let output = shell.wait_with_output().unwrap();
            (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
        }
        "console" if !code.starts_with("$ ") => Some("no command after $".to_owned()),
        language if LANGUAGES.contains(&language) => None,
        language => Some(format!("language {language:?}")),
    }
}

#[test]
pub(crate) fn code_blocks_are_valid() {
    let mut problems = Vec::new();
    for page in pages() {
        let text = read(&page);
        assert_eq!(format!("\n{text}").matches("\n```").count() % 2, 0, "{page}: an open block");
        for (language, code) in code_blocks(&text) {
            let problem = problem_of_code(&language, &code);
            problems.extend(problem.map(|problem| format!("{page}: {problem}\n{code}")));
        }
    }
    assert_none(&problems);
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

/// Words of `text` made of these characters that begin like this.
pub(crate) fn words<'t>(text: &'t str, start: &str, is_part: fn(char) -> bool) -> Vec<&'t str> {
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with(start) && word.len() > start.len()).collect()
}

/// Variables that are no flags: of the build, of tests, of compose and between processes.
const OTHER_VARIABLES: &[&str] =
    &["FIBSRV_REVISION", "FIBSRV_RUSTC", "FIBSRV_TEST_CACHE", "FIBSRV_VERSION"];

#[test]
fn flags_and_variables_exist() {
    let command = config::command();
    let flags: BTreeSet<_> = command.get_arguments().filter_map(|a| a.get_long()).collect();
    let variables = command.get_arguments().filter_map(|a| a.get_env()?.to_str());
    let variables: BTreeSet<_> = variables.chain(OTHER_VARIABLES.iter().copied()).collect();
    let of_users = |page: &&String| page.starts_with("docs/") || *page == "README.md";
    let mut problems = Vec::new();
    for page in pages().iter().filter(|page| *page != HISTORY) {
        let text = read(page);
        let named = words(&text, "FIBSRV_", |c| c.is_ascii_alphanumeric() || c == '_');
        let unknown = named.iter().filter(|name| !variables.contains(*name));
        problems.extend(unknown.map(|name| format!("{page}: no variable {name}")));
    }
    for page in pages().iter().filter(of_users) {
        for span in code_spans(&read(page)) {
            let Some(flag) = span.strip_prefix("--").filter(|flag| !flag.starts_with('-')) else {
                continue;
            };
            let name = flag.split([' ', '=']).next().unwrap_or_default();
            if !flags.contains(name) && !["help", "version"].contains(&name) {
                problems.push(format!("{page}: no flag --{name}"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn statuses_are_documented() {
    let page = read("docs/api.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.get(..3));
    let documented: BTreeSet<_> = rows.filter(|cell| cell.parse::<u16>().is_ok()).collect();
    // 100 is an interim response, and no status of a final one.
    let existing: BTreeSet<_> = Status::ALL.map(Status::code).into_iter().chain(["100"]).collect();
    assert_eq!(documented, existing);
}

/// The suffixes of the samples of a histogram or a summary.
const SUFFIXES: &[&str] = &["_bucket", "_sum", "_count"];

#[test]
fn metrics_exist() {
    let known: BTreeSet<_> = FAMILIES.iter().map(sample_name).collect();
    let mut problems = Vec::new();
    for page in pages().iter().filter(|page| page.starts_with("docs/") || *page == "README.md") {
        for name in words(&read(page), "fibsrv_", |c| c.is_ascii_lowercase() || c == '_') {
            let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
            if !known.contains(name) && !family.is_some_and(|family| known.contains(family)) {
                problems.push(format!("{page}: no metric {name}"));
            }
        }
    }
    assert_none(&problems);
}

/// The alert of the dead man's switch, which no rule has.
const ALERT_WITHOUT_RULE: &str = "DeadMansSwitch";

/// The names of all alerts.
pub(crate) fn alerts() -> BTreeSet<String> {
    let rules = [files("prometheus", ".yml"), files("deploy", ".yml")].concat();
    let texts: Vec<_> =
        rules.iter().filter(|name| !name.contains("test")).map(|n| read(n)).collect();
    let alerts = texts.iter().flat_map(|text| text.lines());
    let alerts = alerts.filter_map(|line| line.trim_start().strip_prefix("- alert: "));
    alerts.chain([ALERT_WITHOUT_RULE]).map(str::to_owned).collect()
}

#[test]
fn alerts_have_a_section_each() {
    let runbooks = read("docs/runbooks.md");
    let sections = runbooks.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.map(str::to_owned).collect::<BTreeSet<_>>(), alerts());
}
