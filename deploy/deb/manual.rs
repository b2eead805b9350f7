//! Writes the manual page and the shell completions from the server's own flag definitions:
//!
//!     cargo run --features manual --bin manual -- DIRECTORY

use std::{env, error::Error, fs, path::PathBuf};

use clap_complete::{Shell, generate_to};

/// The sections that clap does not know, in roff.
const SECTIONS: &str = include_str!("manual-sections.roff");

#[expect(clippy::disallowed_methods, reason = "the directory is an argument")]
fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let mut command = fibsrv::config::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).section("1").render(&mut page)?;
    page.extend_from_slice(environment(&command).as_bytes());
    page.extend_from_slice(SECTIONS.as_bytes());
    fs::write(directory.join("fibsrv.1"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "fibsrv", &directory)?;
    }
    Ok(())
}

/// The environment variables of the flags.
fn environment(command: &clap::Command) -> String {
    let variables = command.get_arguments().filter_map(|argument| {
        let (variable, flag) = (argument.get_env()?.to_string_lossy(), argument.get_long()?);
        Some(format!(".TP\n.B {variable}\n\\fB\\-\\-{}\\fR\n", flag.replace('-', "\\-")))
    });
    [".SH ENVIRONMENT\nA flag takes precedence over its variable.\n".to_owned()]
        .into_iter()
        .chain(variables)
        .collect()
}
