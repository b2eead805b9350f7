//! Sets `FIBSRV_REVISION` and `FIBSRV_RUSTC`, which `--version` and `fibsrv_build_info` report.

#![expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]

use std::{env, path::Path, process::Command};

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
