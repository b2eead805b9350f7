//! Sets `FIBSRV_REVISION` and `FIBSRV_RUSTC`, which `--version` and `fibsrv_build_info` report, and makes the files of
//! `src/app/assets` what the server sends.

#![expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed build script fails the build"
)]

use std::{env, fmt::Write as _, fs, path::Path, process::Command};

use sha2_const_stable::Sha256;

const ASSETS: &str = "src/app/assets";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FIBSRV_REVISION");
    watch_revision();
    // A build without the repository, as in a container, gets the revision from the environment.
    let revision = env::var("FIBSRV_REVISION")
        .ok()
        .or_else(|| first_line("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let rustc = env::var("RUSTC").ok().and_then(|rustc| first_line(&rustc, &["--version"]));
    println!("cargo::rustc-env=FIBSRV_REVISION={revision}");
    println!("cargo::rustc-env=FIBSRV_RUSTC={}", rustc.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rerun-if-changed={ASSETS}");
    make_page();
    let version = variable("CARGO_PKG_VERSION");
    let description = read("openapi.json").replace("VERSION", &version);
    make_asset("openapi.json", &lines(&description).concat());
    for name in ["robots.txt", "favicon.svg"] {
        make_asset(name, &read(name));
    }
}

/// Makes one file of the page, its style and its script. The content security policy names the hashes of the latter.
fn make_page() {
    let mut style = lines(&read("style.css")).concat();
    for (spaced, dense) in [(": ", ":"), (", ", ","), (" { ", "{"), (" {", "{"), (" }", "}")] {
        style = style.replace(spaced, dense);
    }
    let script = dense_script(&lines(&read("script.js")).join("\n"));
    println!("cargo::rustc-env=FIBSRV_STYLE_HASH=sha256-{}", base64(&sha256(&style)));
    println!("cargo::rustc-env=FIBSRV_SCRIPT_HASH=sha256-{}", base64(&sha256(&script)));
    let page = lines(&read("index.html")).join("\n").replace(">\n<", "><");
    make_asset("index.html", &page.replace("STYLE", &style).replace("SCRIPT", &script));
}

/// The lines without indentation, empty lines and comments.
fn lines(text: &str) -> Vec<&str> {
    let is_comment = |line: &str| ["//", "/*", "<!--"].iter().any(|start| line.starts_with(start));
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line)).collect()
}

/// Removes white space that separates no two words, and semicolons at the end of a block. Strings stay as they are. In
/// regular expressions a space is `\s`.
fn dense_script(script: &str) -> String {
    let is_word = |letter: char| letter.is_alphanumeric() || "_$".contains(letter);
    let mut dense = String::new();
    let mut quote = None;
    let mut letters = script.chars().peekable();
    while let Some(letter) = letters.next() {
        let separates =
            dense.ends_with(is_word) && letters.peek().is_some_and(|next| is_word(*next));
        match quote {
            Some(end) if letter == end => quote = None,
            None if "'\"`".contains(letter) => quote = Some(letter),
            None if letter.is_whitespace() && !separates => continue,
            None if letter == '}' && dense.ends_with(';') => drop(dense.pop()),
            _ => {}
        }
        dense.push(letter);
    }
    dense
}

/// Writes what the server sends, and sets its entity tag: `FIBSRV_TAG_ROBOTS` for `robots.txt`.
fn make_asset(name: &str, content: &str) {
    let path = Path::new(&variable("OUT_DIR")).join(name);
    fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stem = name.split('.').next().unwrap_or_default().to_uppercase();
    let mut tag = String::new();
    for byte in &sha256(content)[..8] {
        write!(tag, "{byte:02x}").expect("a string accepts everything");
    }
    println!("cargo::rustc-env=FIBSRV_TAG_{stem}={tag}");
}

fn read(name: &str) -> String {
    let path = Path::new(ASSETS).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sha256(content: &str) -> [u8; 32] {
    Sha256::new().update(content.as_bytes()).finalize()
}

/// Base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize % 64];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Reruns this script when another commit is checked out. Only files that exist are watched, because a missing one
/// would rerun it every time; in a linked worktree they are not below `.git`.
fn watch_revision() {
    let branch = first_line("git", &["rev-parse", "--symbolic-full-name", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = first_line("git", &["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// Returns the first line of a command's output, if the command succeeds.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
