//! Writes the manual page and the shell completions from the server's own flag definitions:
//!
//!     cargo run --features manual --bin manual -- DIRECTORY

use std::{env, error::Error, fs, io, path::PathBuf};

use clap::builder::StyledStr;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// The sections that clap does not know, in roff.
const SECTIONS: &str = include_str!("manual-sections.roff");

#[expect(clippy::disallowed_methods, reason = "the directory is an argument")]
fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let mut command = fibsrv::config::command();
    fs::write(directory.join("fibsrv.1"), page(&command)?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "fibsrv", &directory)?;
    }
    Ok(())
}

/// The manual page. The usual rendering refers to a page of its own for each subcommand.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let source = concat!("fibsrv ", env!("CARGO_PKG_VERSION"));
    let manual = Man::new(command.clone()).section("1").source(source).manual("User Commands");
    let mut page = Vec::new();
    manual.render_title(&mut page)?;
    manual.render_name_section(&mut page)?;
    manual.render_synopsis_section(&mut page)?;
    manual.render_description_section(&mut page)?;
    manual.render_options_section(&mut page)?;
    page.extend_from_slice(subcommands(command).as_bytes());
    page.extend_from_slice(environment(command).as_bytes());
    page.extend_from_slice(SECTIONS.as_bytes());
    manual.render_version_section(&mut page)?;
    Ok(page)
}

/// The subcommands with their arguments.
fn subcommands(command: &clap::Command) -> String {
    let text = |styled: Option<&StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let entries = command.get_subcommands().map(|subcommand| {
        let arguments = subcommand.get_positionals().map(|argument| {
            let help = text(argument.get_help());
            (format!(" \\fI{argument}\\fR"), format!("\n.br\n{help}."))
        });
        let (names, helps): (String, String) = arguments.unzip();
        let (name, about) = (subcommand.get_name(), text(subcommand.get_about()));
        format!(".TP\n\\fB{name}\\fR{names}\n{about}.{helps}\n")
    });
    let entries: String = entries.collect();
    format!(".SH SUBCOMMANDS\n{}", entries.replace("--", "\\-\\-"))
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
