//! Writes the manual page and the completions of shells, from the same definitions of flags that the server reads:
//!
//!     cargo run --example manual -- FOLDER

use std::{env, error::Error, fs, path::PathBuf};

use clap_complete::{Shell, generate_to};

#[expect(clippy::disallowed_methods, reason = "the folder is its argument")]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("manual FOLDER")?);
    fs::create_dir_all(&folder)?;
    let mut command = fibsrv::config::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).section("1").render(&mut page)?;
    fs::write(folder.join("fibsrv.1"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "fibsrv", &folder)?;
    }
    Ok(())
}
