//! State that a supervisor leaves to the program it executes in its place: an in-place upgrade.
//!
//! The old program sets the variables below, the new one reads them; [`crate::supervisor`] has both ends.

use std::{ffi::OsString, os::fd::RawFd};

use nix::unistd::Pid;

use crate::config::UsageError;

/// Variable with the numbers of the inherited listening sockets.
pub const INHERITED_SOCKETS: &str = "FIBSRV_INHERITED_SOCKETS";
/// Variable that is not empty if a service manager opened these sockets.
pub const INHERITED_PASSED: &str = "FIBSRV_INHERITED_PASSED";
/// Variable with the process ids of running workers.
pub const INHERITED_WORKERS: &str = "FIBSRV_INHERITED_WORKERS";
/// Variable with the process ids of workers that are shutting down.
pub const INHERITED_LEAVING: &str = "FIBSRV_INHERITED_LEAVING";
/// Variable with the descriptor of the shared metrics, or empty.
pub const INHERITED_REGION: &str = "FIBSRV_INHERITED_REGION";

/// What a supervisor leaves to the program that it executes in its place.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// Descriptors of the listening sockets.
    pub sockets: Vec<RawFd>,
    /// Who opened them.
    pub opened_by: OpenedBy,
    /// Workers that are running.
    pub workers: Vec<Pid>,
    /// Workers that are shutting down.
    pub leaving: Vec<Pid>,
    /// Descriptor of the shared metrics.
    pub region: Option<RawFd>,
}

/// Who opened the listening sockets and keeps them open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// This program, at the addresses of its flags.
    Us,
    /// A service manager, at the addresses of its own configuration.
    ServiceManager,
}

impl Inherited {
    /// Reads the variables; none of them is set unless this program was executed for an upgrade.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, UsageError> {
        if variable(INHERITED_SOCKETS).is_none() || variable(INHERITED_WORKERS).is_none() {
            return Ok(None);
        }
        let numbers = |name: &str| numbers(name, variable(name).unwrap_or_default());
        let pids = |name: &str| -> Result<Vec<Pid>, UsageError> {
            Ok(numbers(name)?.into_iter().map(Pid::from_raw).collect())
        };
        let is_passed = variable(INHERITED_PASSED).is_some_and(|value| !value.is_empty());
        Ok(Some(Self {
            sockets: numbers(INHERITED_SOCKETS)?,
            opened_by: if is_passed { OpenedBy::ServiceManager } else { OpenedBy::Us },
            workers: pids(INHERITED_WORKERS)?,
            leaving: pids(INHERITED_LEAVING)?,
            region: numbers(INHERITED_REGION)?.first().copied(),
        }))
    }
}

/// Parses numbers separated by commas.
fn numbers(name: &str, value: OsString) -> Result<Vec<i32>, UsageError> {
    let wrong = |value: &dyn std::fmt::Display| {
        UsageError(format!("{name} is not a list of numbers: {value}"))
    };
    let text = value.into_string().map_err(|value| wrong(&value.display()))?;
    let numbers = text.split(',').filter(|number| !number.is_empty()).map(str::parse);
    numbers.collect::<Result<_, _>>().map_err(|_| wrong(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Inherited>, UsageError> {
        Inherited::read(|name| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn all_variables_are_read() {
        let found = read(&[
            (INHERITED_SOCKETS, "3,4"),
            (INHERITED_PASSED, "1"),
            (INHERITED_WORKERS, "7,8"),
            (INHERITED_LEAVING, "6"),
            (INHERITED_REGION, "5"),
        ]);
        let found = found.unwrap().unwrap();
        assert_eq!((found.sockets, found.opened_by), (vec![3, 4], OpenedBy::ServiceManager));
        assert_eq!(found.workers, [Pid::from_raw(7), Pid::from_raw(8)]);
        assert_eq!((found.leaving, found.region), (vec![Pid::from_raw(6)], Some(5)));
    }

    #[test]
    fn empty_variables_are_empty_lists() {
        let found = read(&[(INHERITED_SOCKETS, ""), (INHERITED_WORKERS, "")]).unwrap().unwrap();
        assert_eq!((found.sockets, found.opened_by), (vec![], OpenedBy::Us));
        assert_eq!((found.workers, found.leaving, found.region), (vec![], vec![], None));
    }

    #[test]
    fn without_an_upgrade_there_is_nothing() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(INHERITED_SOCKETS, "3")]).unwrap().is_none());
    }

    #[test]
    fn an_error_names_the_variable() {
        let error = read(&[(INHERITED_SOCKETS, "3,x"), (INHERITED_WORKERS, "")]).unwrap_err();
        let expected = "FIBSRV_INHERITED_SOCKETS is not a list of numbers: 3,x";
        assert_eq!(error.to_string(), expected);
    }
}
