//! The command line: options with a value each, and names of scenarios.

use std::str::FromStr;

/// The executable of this build. It is `bin/fibsrv` if Cargo does not set the variable.
pub(crate) const EXECUTABLE: &str = match option_env!("CARGO_BIN_EXE_fibsrv") {
    Some(path) => path,
    None => "bin/fibsrv",
};

/// Passes options to `set` and returns the names of scenarios. `--bench`, which Cargo adds, is ignored.
pub(crate) fn parse(
    args: impl Iterator<Item = String>,
    mut set: impl FnMut(&str, String) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut args = args.filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        if arg.starts_with("--") {
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            set(&arg, value)?;
        } else {
            names.push(arg);
        }
    }
    Ok(names)
}

pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// The error for an unknown option.
pub(crate) fn unknown(option: &str) -> Result<(), String> {
    Err(format!("unknown option {option}"))
}
