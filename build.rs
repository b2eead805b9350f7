//! Tells the program what it was built from: `FIBSRV_REVISION` and `FIBSRV_RUSTC`.

#![expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs");
    println!("cargo::rerun-if-env-changed=FIBSRV_REVISION");
    // A build without the repository, as in a container, is told its revision by the environment.
    let revision = env::var("FIBSRV_REVISION")
        .ok()
        .or_else(|| first_line("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let rustc = env::var("RUSTC").ok().and_then(|rustc| first_line(&rustc, &["--version"]));
    println!("cargo::rustc-env=FIBSRV_REVISION={revision}");
    println!("cargo::rustc-env=FIBSRV_RUSTC={}", rustc.unwrap_or_else(|| "unknown".to_owned()));
}

/// The first line that a command prints, if it succeeds.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
