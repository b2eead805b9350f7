//! Environment variables of a service manager: systemd, or another that implements its protocol.
//!
//! `sd_listen_fds(3)`, `sd_notify(3)` and `sd_watchdog_enabled(3)` describe the variables. Variables addressed to
//! another process id, inherited by accident, are ignored.

use std::{ffi::OsString, os::fd::RawFd, str::FromStr};

use crate::{config::UsageError, sys::activation::Passed};

/// Number of the first passed descriptor (`SD_LISTEN_FDS_START`); the others follow it.
const FIRST_PASSED: RawFd = 3;
/// Maximum number of passed descriptors.
const PASSED_MAX: usize = 256;

/// Variables that describe passed descriptors. They are valid for one process only, so a program that this one
/// executes must not inherit them.
pub const LISTEN_VARIABLES: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];
/// Variables that say where and how often to send notifications. They are valid for the life of the process.
pub const NOTIFY_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What the environment says about the service manager.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    /// Listening sockets passed to this process.
    pub sockets: Vec<Passed>,
    /// Address of the notification socket: a path or, after an `@`, an abstract name.
    pub notify: Option<OsString>,
    /// Time without a heartbeat after which it considers this process hung.
    pub watchdog_ns: Option<u64>,
}

impl ServiceManager {
    /// Reads the variables that are addressed to the process `pid`.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        pid: u32,
    ) -> Result<Self, UsageError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut found = Self { notify: variable("NOTIFY_SOCKET"), ..Self::default() };
        if number("LISTEN_PID", &variable)? == Some(pid)
            && let Some(count) = number("LISTEN_FDS", &variable)?
        {
            found.sockets = passed(count, variable("LISTEN_FDNAMES"))?;
        }
        // Without a process id it is addressed to every process.
        if found.notify.is_some()
            && number("WATCHDOG_PID", &variable)?.is_none_or(|addressee: u32| addressee == pid)
        {
            let limit_us: Option<u64> = number("WATCHDOG_USEC", &variable)?;
            found.watchdog_ns = limit_us.map(|limit_us| limit_us.saturating_mul(1_000));
        }
        Ok(found)
    }
}

fn number<N: FromStr>(
    name: &str,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<N>, UsageError> {
    let Some(value) = variable(name) else { return Ok(None) };
    let number = value.to_str().and_then(|value| value.parse().ok());
    let wrong = || UsageError(format!("{name} is not a number: {}", value.display()));
    number.ok_or_else(wrong).map(Some)
}

fn passed(count: usize, names: Option<OsString>) -> Result<Vec<Passed>, UsageError> {
    if count > PASSED_MAX {
        let most = PASSED_MAX;
        return Err(UsageError(format!("LISTEN_FDS is {count}; at most {most} are accepted")));
    }
    let names = names.map(|names| names.to_string_lossy().into_owned());
    let names: Vec<&str> = match &names {
        Some(names) if count > 0 => names.split(':').collect(),
        _ => vec!["unknown"; count], // like sd_listen_fds_with_names(3)
    };
    if names.len() != count {
        let found = names.len();
        let text = format!("LISTEN_FDS is {count}, but LISTEN_FDNAMES has {found} names");
        return Err(UsageError(text));
    }
    let passed = (FIRST_PASSED..).zip(names);
    Ok(passed.map(|(descriptor, name)| Passed { descriptor, name: name.to_owned() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 7;

    fn read(variables: &[(&str, &str)]) -> Result<ServiceManager, UsageError> {
        let find = |name: &str| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| OsString::from(value))
        };
        ServiceManager::read(find, PID)
    }

    /// Checks the descriptors and their names.
    fn check_passed(variables: &[(&str, &str)], expected: &[(RawFd, &str)]) {
        let found = read(variables).unwrap().sockets;
        let found: Vec<_> = found.iter().map(|passed| (passed.descriptor, &*passed.name)).collect();
        assert_eq!(found, expected, "{variables:?}");
    }

    #[test]
    fn descriptors_follow_the_standard_streams() {
        let ours = ("LISTEN_PID", "7");
        check_passed(&[ours, ("LISTEN_FDS", "1")], &[(3, "unknown")]);
        check_passed(
            &[ours, ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:")],
            &[(3, "web"), (4, "")],
        );
        check_passed(&[ours, ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")], &[]);
        let most = read(&[ours, ("LISTEN_FDS", "256")]).unwrap().sockets;
        assert_eq!(most.last().map(|passed| passed.descriptor), Some(258));
    }

    #[test]
    fn variables_for_another_process_are_ignored() {
        check_passed(&[], &[]);
        check_passed(&[("LISTEN_FDS", "1")], &[]);
        check_passed(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")], &[]);
        check_passed(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "many")], &[]);
        check_passed(&[("LISTEN_PID", "7")], &[]);
    }

    #[test]
    fn the_watchdog_applies_to_the_named_process_and_needs_a_socket() {
        let check = |variables: &[(&str, &str)], expected| {
            assert_eq!(read(variables).unwrap().watchdog_ns, expected, "{variables:?}");
        };
        let there = ("NOTIFY_SOCKET", "@there");
        check(&[there, ("WATCHDOG_USEC", "20"), ("WATCHDOG_PID", "7")], Some(20_000));
        check(&[there, ("WATCHDOG_USEC", "20")], Some(20_000));
        check(&[there, ("WATCHDOG_USEC", &u64::MAX.to_string())], Some(u64::MAX));
        check(&[there, ("WATCHDOG_USEC", "20"), ("WATCHDOG_PID", "8")], None);
        check(&[there], None);
        check(&[("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "20")], None);
    }

    #[test]
    fn invalid_values_are_errors_of_one_line() {
        let ours = ("LISTEN_PID", "7");
        let there = ("NOTIFY_SOCKET", "@there");
        for (variables, text) in [
            (&[("LISTEN_PID", "me")][..], "LISTEN_PID is not a number: me"),
            (&[ours, ("LISTEN_FDS", "-1")], "LISTEN_FDS is not a number: -1"),
            (&[ours, ("LISTEN_FDS", "257")], "LISTEN_FDS is 257; at most 256 are accepted"),
            (
                &[ours, ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:b")],
                "LISTEN_FDS is 1, but LISTEN_FDNAMES has 2 names",
            ),
            (&[there, ("WATCHDOG_USEC", "30s")], "WATCHDOG_USEC is not a number: 30s"),
        ] {
            assert_eq!(read(variables).unwrap_err().to_string(), text);
        }
    }
}
