//! State that a supervisor leaves to the program it executes in its place: an in-place upgrade.
//!
//! The old program sets the variables below, the new one reads them; [`crate::supervisor`] has both ends.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    net::SocketAddr,
    os::fd::RawFd,
    str::FromStr,
};

use nix::unistd::Pid;

use crate::{
    config::{LISTEN_VARIABLES, NOTIFY_VARIABLES, UsageError},
    sys::activation::Replaced,
};

/// Variable with the numbers of the listening sockets that the supervisor owns.
pub const INHERITED_SOCKETS: &str = "FIBSRV_INHERITED_SOCKETS";
/// Variable with the numbers of listening sockets that other processes own.
pub const INHERITED_HELD: &str = "FIBSRV_INHERITED_HELD";
/// Variable with the addresses that serve only the admin routes.
pub const INHERITED_ADMIN: &str = "FIBSRV_INHERITED_ADMIN";
/// Variable with the names of the flags that socket activation replaces, or empty.
pub const INHERITED_PASSED: &str = "FIBSRV_INHERITED_PASSED";
/// Variable with the process ID and the channel of each running worker.
pub const INHERITED_WORKERS: &str = "FIBSRV_INHERITED_WORKERS";
/// Variable with the process ID and the channel of each worker that is shutting down.
pub const INHERITED_LEAVING: &str = "FIBSRV_INHERITED_LEAVING";
/// Variable with the descriptor of the shared metrics, or empty.
pub const INHERITED_REGION: &str = "FIBSRV_INHERITED_REGION";
/// Variable with the descriptor of the executable to return to if this one fails, or empty.
pub const INHERITED_PREVIOUS: &str = "FIBSRV_INHERITED_PREVIOUS";
/// Variable with the program as it was started first.
pub const INHERITED_PROGRAM: &str = "FIBSRV_INHERITED_PROGRAM";
/// Variable that is not empty in a rehearsal of an upgrade.
pub const INHERITED_REHEARSAL: &str = "FIBSRV_INHERITED_REHEARSAL";

/// All variables of an upgrade.
pub(super) const INHERITED: [&str; 10] = [
    INHERITED_SOCKETS,
    INHERITED_HELD,
    INHERITED_ADMIN,
    INHERITED_PASSED,
    INHERITED_WORKERS,
    INHERITED_LEAVING,
    INHERITED_REGION,
    INHERITED_PREVIOUS,
    INHERITED_PROGRAM,
    INHERITED_REHEARSAL,
];

/// What a supervisor leaves to the program that it executes in its place.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// Descriptors of the listening sockets that the supervisor owns.
    pub sockets: Vec<RawFd>,
    /// Descriptors of the listening sockets that other processes own.
    pub held: Vec<RawFd>,
    /// The addresses of those that serve only the admin routes.
    pub admin: Vec<SocketAddr>,
    /// The flags that socket activation replaces.
    pub replaced: Replaced,
    /// Workers that are running.
    pub workers: Vec<InheritedWorker>,
    /// Workers that are shutting down.
    pub leaving: Vec<InheritedWorker>,
    /// Descriptor of the shared metrics.
    pub region: Option<RawFd>,
    /// Descriptor of the executable to return to if this one fails.
    pub previous: Option<RawFd>,
    /// Whether the upgrade is real.
    pub purpose: Purpose,
}

/// A worker that the previous program has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedWorker {
    /// Its process ID.
    pub pid: Pid,
    /// Descriptor of the supervisor's end of its channel.
    pub channel: RawFd,
}

/// Why a program was executed with inherited state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To replace the supervisor.
    Upgrade,
    /// To check that it could, in a process of its own.
    Rehearsal,
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
        let workers = |name: &str| -> Result<Vec<InheritedWorker>, UsageError> {
            let numbers = numbers(name)?;
            let (pairs, _) = numbers.as_chunks();
            let pairs = pairs.iter();
            Ok(pairs
                .map(|&[pid, channel]| InheritedWorker { pid: Pid::from_raw(pid), channel })
                .collect())
        };
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        Ok(Some(Self {
            sockets: numbers(INHERITED_SOCKETS)?,
            held: numbers(INHERITED_HELD)?,
            admin: list(
                INHERITED_ADMIN,
                variable(INHERITED_ADMIN).unwrap_or_default(),
                "addresses",
            )?,
            replaced: replaced(variable(INHERITED_PASSED).unwrap_or_default())?,
            workers: workers(INHERITED_WORKERS)?,
            leaving: workers(INHERITED_LEAVING)?,
            region: numbers(INHERITED_REGION)?.first().copied(),
            previous: numbers(INHERITED_PREVIOUS)?.first().copied(),
            purpose: if is_set(INHERITED_REHEARSAL) {
                Purpose::Rehearsal
            } else {
                Purpose::Upgrade
            },
        }))
    }
}

/// Returns the environment in which this program was executed, but for the program to return to.
#[expect(clippy::disallowed_methods, reason = "the whole environment is passed on")]
pub fn environment_of_previous() -> Vec<(OsString, OsString)> {
    env::vars_os().filter(|(name, _)| name != INHERITED_PREVIOUS).collect()
}

/// Returns the environment of a program that is executed for an upgrade: that of this process, with `inherited` in
/// place of inherited state, and without passed sockets, which are inherited from now on, possibly under other numbers.
#[expect(clippy::disallowed_methods, reason = "the whole environment is passed on")]
pub fn upgrade_environment(inherited: &[(&str, OsString)]) -> Vec<(OsString, OsString)> {
    let is_rehearsal = inherited.iter().any(|(name, _)| *name == INHERITED_REHEARSAL);
    let is_dropped = |name: &OsStr| {
        INHERITED.iter().chain(&LISTEN_VARIABLES).any(|dropped| *dropped == name)
            // In a rehearsal the variables of the service manager are for this process alone.
            || (is_rehearsal && NOTIFY_VARIABLES.iter().any(|dropped| *dropped == name))
    };
    let kept = env::vars_os().filter(|(name, _)| !is_dropped(name));
    kept.chain(inherited.iter().map(|(name, value)| (name.into(), value.clone()))).collect()
}

fn replaced(value: OsString) -> Result<Replaced, UsageError> {
    let flags = list(INHERITED_PASSED, value, "flags")?;
    Replaced::from_flags(&flags)
        .ok_or_else(|| not_a_list(INHERITED_PASSED, "flags", &flags.join(",")))
}

fn numbers(name: &str, value: OsString) -> Result<Vec<i32>, UsageError> {
    list(name, value, "numbers")
}

/// Parses values of a kind separated by commas.
fn list<T: FromStr>(name: &str, value: OsString, kind: &str) -> Result<Vec<T>, UsageError> {
    let wrong = |value: &dyn fmt::Display| not_a_list(name, kind, value);
    let text = value.into_string().map_err(|value| wrong(&value.display()))?;
    let values = text.split(',').filter(|value| !value.is_empty()).map(str::parse);
    values.collect::<Result<_, _>>().map_err(|_| wrong(&text))
}

fn not_a_list(name: &str, kind: &str, value: &dyn fmt::Display) -> UsageError {
    UsageError(format!("{name} is not a list of {kind}: {value}"))
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
            (INHERITED_PASSED, "admin-listen"),
            (INHERITED_HELD, "9"),
            (INHERITED_ADMIN, "127.0.0.1:1,[::]:2"),
            (INHERITED_WORKERS, "7,10,8,11"),
            (INHERITED_LEAVING, "6,12"),
            (INHERITED_REGION, "5"),
            (INHERITED_PREVIOUS, "13"),
            (INHERITED_REHEARSAL, "1"),
        ]);
        let found = found.unwrap().unwrap();
        assert_eq!((found.sockets, found.replaced), (vec![3, 4], Replaced::AdminListen));
        let worker = |pid, channel| InheritedWorker { pid: Pid::from_raw(pid), channel };
        assert_eq!(found.workers, [worker(7, 10), worker(8, 11)]);
        assert_eq!((found.leaving, found.region), (vec![worker(6, 12)], Some(5)));
        assert_eq!((found.held, found.previous), (vec![9], Some(13)));
        assert_eq!(found.admin, ["127.0.0.1:1", "[::]:2"].map(|text| text.parse().unwrap()));
        assert_eq!(found.purpose, Purpose::Rehearsal);
    }

    #[test]
    fn empty_variables_are_empty_lists() {
        let found = read(&[(INHERITED_SOCKETS, ""), (INHERITED_WORKERS, "")]).unwrap().unwrap();
        assert_eq!((found.sockets, found.replaced), (vec![], Replaced::Nothing));
        assert_eq!((found.workers, found.leaving, found.region), (vec![], vec![], None));
        assert_eq!((found.previous, found.purpose), (None, Purpose::Upgrade));
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

    #[test]
    fn flags_that_were_replaced_are_named() {
        let read = |value: &str| {
            let variables =
                [(INHERITED_SOCKETS, ""), (INHERITED_WORKERS, ""), (INHERITED_PASSED, value)];
            read(&variables).map(|inherited| inherited.unwrap().replaced)
        };
        for (value, replaced) in [
            ("", Replaced::Nothing),
            ("listen", Replaced::Listen),
            ("admin-listen", Replaced::AdminListen),
            ("listen,admin-listen", Replaced::Both),
        ] {
            assert_eq!(read(value).unwrap(), replaced);
            assert_eq!(replaced.flags().join(","), value);
        }
        for value in ["0", "1", "listen,1", "workers"] {
            let expected = format!("FIBSRV_INHERITED_PASSED is not a list of flags: {value}");
            assert_eq!(read(value).unwrap_err().to_string(), expected);
        }
    }
}
