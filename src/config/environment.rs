//! Environment variables of the flags: empty ones are unset, unknown ones are reported, and errors name theirs.

use std::{env, ffi::OsString};

use clap::{
    ArgMatches, Command,
    builder::Resettable,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};

use crate::config::{UsageError, command as definitions, inherited::INHERITED};

const PREFIX: &str = "FIBSRV_";

/// Variables that cargo sets when it runs a binary that it has built.
const OF_CARGO: [&str; 2] = ["FIBSRV_REVISION", "FIBSRV_RUSTC"];

/// Returns the definitions of all flags. A flag whose variable is empty has none, because clap would take the empty
/// text as its value.
pub(super) fn command_without_empty_variables() -> Command {
    definitions().mut_args(|flag| {
        let value = flag.get_env().and_then(env::var_os);
        if value.is_some_and(|value| value.is_empty()) { flag.env(Resettable::Reset) } else { flag }
    })
}

/// Returns a warning for each variable that looks like one of ours and is none, given the names of all variables.
pub(super) fn warnings(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = definitions();
    let known: Vec<_> = command.get_arguments().filter_map(|flag| flag.get_env()).collect();
    let names = names.filter_map(|name| name.into_string().ok());
    let unknown = names.filter(|name| {
        name.strip_prefix(PREFIX).is_some_and(|rest| !is_service_link(rest))
            && !known.iter().any(|known| *known == name.as_str())
            && !INHERITED.iter().chain(&OF_CARGO).any(|internal| *internal == name.as_str())
    });
    let mut unknown: Vec<String> = unknown.collect();
    unknown.sort();
    unknown.iter().map(|name| format!("unknown environment variable {name} is ignored")).collect()
}

/// Returns the names of all variables.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub(super) fn names() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name)
}

/// Returns whether Kubernetes or Docker sets this variable for a service named `fibsrv` or `fibsrv-admin`.
fn is_service_link(rest: &str) -> bool {
    let rest = rest.strip_prefix("ADMIN_").unwrap_or(rest);
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// Turns an error of clap into one line: its message, possible values and suggestions, and the variable that the value
/// came from.
pub(super) fn parse_error(error: &clap::Error, arguments: &[OsString]) -> UsageError {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for line in lines {
        if line.starts_with("[possible values") {
            message = format!("{message} {line}");
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            message = format!("{message}; {tip}");
        }
    }
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.split(' ').next(),
        _ => None,
    };
    // clap does not say where the value came from. A flag among the arguments takes precedence.
    let is_given = |flag: &str| {
        let arguments = arguments.iter().filter_map(|argument| argument.to_str());
        arguments.into_iter().any(|argument| {
            argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    usage_error(&message, flag.filter(|flag| !is_given(flag)).and_then(variable))
}

/// Completes an error that begins with the flag it is about.
pub(super) fn validation_error(message: &str, matches: &ArgMatches) -> UsageError {
    let flag = message.split(' ').next().filter(|flag| flag.starts_with("--"));
    let id = flag.map(|flag| flag.trim_start_matches('-').replace('-', "_"));
    let source = id.and_then(|id| matches.value_source(&id));
    let is_from_variable = source == Some(ValueSource::EnvVariable);
    usage_error(message, flag.filter(|_| is_from_variable).and_then(variable))
}

fn usage_error(message: &str, variable: Option<String>) -> UsageError {
    UsageError(match variable {
        Some(variable) => format!("{message} (from {variable}; see --help)"),
        None => format!("{message} (see --help)"),
    })
}

/// Returns the variable of a flag.
fn variable(flag: &str) -> Option<String> {
    let command = definitions();
    let name = flag.strip_prefix("--")?;
    let found = command.get_arguments().find(|flag| flag.get_long() == Some(name))?;
    found.get_env().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_reported() {
        let names = [
            "FIBSRV_MAX_HAED",
            "FIBSRV_MAX_HEAD",
            "FIBSRV_INHERITED_SOCKETS",
            "FIBSRV_REVISION",
            "FIBSRV_PORT_3000_TCP",
            "FIBSRV_SERVICE_HOST",
            "FIBSRV_ADMIN_SERVICE_HOST",
            "FIBSRV_A",
            "PATH",
        ];
        assert_eq!(
            warnings(names.into_iter().map(OsString::from)),
            [
                "unknown environment variable FIBSRV_A is ignored",
                "unknown environment variable FIBSRV_MAX_HAED is ignored"
            ]
        );
    }

    #[test]
    fn a_flag_has_its_variable() {
        assert_eq!(variable("--max-head").as_deref(), Some("FIBSRV_MAX_HEAD"));
        assert_eq!((variable("--check"), variable("--none"), variable("max")), (None, None, None));
    }
}
