//! The badges of README.md, generated from the files whose content they show. `make docs` writes them.

use std::{env, fs};

use crate::{assert_none, files, path_of, read};

const README: &str = "README.md";

/// A statement, and the file that a reader of it wants to see.
struct Badge {
    name: &'static str,
    label: &'static str,
    value: String,
    target: &'static str,
}

fn badges() -> [Badge; 4] {
    let toolchain = read("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let rust = channel.split('"').next().unwrap().to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let licence = env!("CARGO_PKG_LICENSE").to_owned();
    let gate = read(".github/workflows/ci.yml");
    let (_, command) = gate.split_once("- name: Gate\n        run: ").unwrap();
    let checks = command.trim().to_owned();
    [
        Badge { name: "version", label: "version", value: version, target: "CHANGELOG.md" },
        Badge { name: "licence", label: "licence", value: licence, target: "LICENSE" },
        Badge { name: "rust", label: "Rust", value: rust, target: "rust-toolchain.toml" },
        Badge {
            name: "checks",
            label: "checks",
            value: checks,
            target: ".github/workflows/ci.yml",
        },
    ]
}

/// The width of a text of this font size with some space around it.
fn width(text: &str) -> usize {
    7 * text.chars().count() + 14
}

fn drawing(badge: &Badge) -> String {
    let Badge { label, value, .. } = badge;
    let (left, right) = (width(label), width(value));
    let text = |text: &str, start: usize| {
        let length = 7 * text.chars().count();
        let x = start + 7;
        format!("<text x=\"{x}\" y=\"14\" textLength=\"{length}\">{text}</text>\n")
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\">\n\
         <title>{label} {value}</title>\n\
         <rect width=\"{left}\" height=\"20\" fill=\"#4b5563\"/>\n\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"#0b5cad\"/>\n\
         <g fill=\"#ffffff\" font-family=\"Verdana, DejaVu Sans, sans-serif\" font-size=\"11\">\n\
         {}{}</g>\n</svg>\n",
        text(label, 0),
        text(value, left),
        all = left + right,
    )
}

#[test]
fn the_badges_are_current() {
    for badge in badges() {
        let path = format!("docs/badges/{}.svg", badge.name);
        if env::var_os("UPDATE").is_some() {
            fs::write(path_of(&path), drawing(&badge)).unwrap();
        }
        assert_eq!(read(&path), drawing(&badge), "{path} is out of date: run make docs");
        let Badge { label, value, target, .. } = badge;
        let link = format!("[![{label} {value}]({path})]({target})");
        assert!(read(README).contains(&link), "{README}: no {link}");
    }
    assert!(read("LICENSE").starts_with(env!("CARGO_PKG_LICENSE")));
}

/// Files that name the address of the repository may have one of these endings, or this name.
const WITH_ADDRESS: &[&str] = &[".md", ".toml", ".json", ".yml", ".yaml", ".rs", "Dockerfile"];

#[test]
fn the_address_of_the_repository_is_that_of_the_manifest() {
    let address = env!("CARGO_PKG_REPOSITORY");
    let host = address.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let (mut problems, mut count) = (Vec::new(), 0);
    for name in WITH_ADDRESS.iter().flat_map(|ending| files("", ending)) {
        let text = read(&name);
        for (at, _) in text.match_indices(&format!("https://{host}")) {
            count += 1;
            if !text[at..].starts_with(address) {
                problems.push(format!("{name}: another address than {address}"));
            }
        }
    }
    assert_none(&problems);
    assert!(count >= 2, "{count} addresses");
    let clone = format!("git clone {address}\n");
    assert!(read(README).contains(&clone), "{README}: no {clone}");
}
