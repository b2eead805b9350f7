//! Generates the manual page and shell completions from the definitions of the flags:
//!
//!     cargo run --example manual -- DIRECTORY

use std::{env, error::Error, fs, path::PathBuf};

use clap_complete::{Shell, generate_to};

#[expect(clippy::disallowed_methods, reason = "the directory is an argument")]
fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let mut command = fibsrv::config::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).section("1").render(&mut page)?;
    fs::write(directory.join("fibsrv.1"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "fibsrv", &directory)?;
    }
    Ok(())
}
