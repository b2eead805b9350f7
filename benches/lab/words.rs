//! The words of a command line: options, each with a value, and names of scenarios.

use std::str::FromStr;

/// The executable of this build; beside its sources when it is built without tests of its own.
pub(crate) const EXECUTABLE: &str = match option_env!("CARGO_BIN_EXE_fibsrv") {
    Some(path) => path,
    None => "bin/fibsrv",
};

/// Separates options, which are handed to `set`, from names. `--bench`, which cargo adds, means nothing.
pub(crate) fn sort(
    words: impl Iterator<Item = String>,
    mut set: impl FnMut(&str, String) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut words = words.filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        if word.starts_with("--") {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            set(&word, value)?;
        } else {
            names.push(word);
        }
    }
    Ok(names)
}

pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// What is said about an option that there is not.
pub(crate) fn unknown(word: &str) -> Result<(), String> {
    Err(format!("there is no option {word}"))
}
