//! What a service manager says in the environment: systemd, or whoever else speaks its protocol.
//!
//! `sd_listen_fds(3)`, `sd_notify(3)` and `sd_watchdog_enabled(3)` describe the variables. Those that are for another
//! process, which this one has inherited them from, say nothing to this one.

use std::{ffi::OsString, os::fd::RawFd, str::FromStr};

use crate::{config::UsageError, sys::activation::Passed};

/// The first descriptor that is passed; the others follow it.
const FIRST_PASSED: RawFd = 3;
/// Most descriptors that are taken.
const PASSED_MAX: usize = 256;

/// The variables that tell of descriptors: once for each process, so that no program which it executes is to
/// find them.
pub const LISTEN_VARIABLES: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];
/// The variables that tell where and how often to notify, for as long as the process lives.
pub const NOTIFY_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What a service manager has said.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    /// What it has opened for this process to accept from.
    pub sockets: Vec<Passed>,
    /// Where it listens to how this process fares, as a path or, behind an `@`, as an abstract name.
    pub notify: Option<OsString>,
    /// When it has not heard for so long that this process lives, it takes it for hung.
    pub watchdog_ns: Option<u64>,
}

impl ServiceManager {
    /// Reads what is meant for the process `pid`.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        pid: u32,
    ) -> Result<Self, UsageError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut said = Self { notify: variable("NOTIFY_SOCKET"), ..Self::default() };
        if number("LISTEN_PID", &variable)? == Some(pid)
            && let Some(count) = number("LISTEN_FDS", &variable)?
        {
            said.sockets = passed(count, variable("LISTEN_FDNAMES"))?;
        }
        // Without a process id it is for whoever reads it.
        if said.notify.is_some()
            && number("WATCHDOG_PID", &variable)?.is_none_or(|whose: u32| whose == pid)
        {
            let limit_us: Option<u64> = number("WATCHDOG_USEC", &variable)?;
            said.watchdog_ns = limit_us.map(|limit_us| limit_us.saturating_mul(1_000));
        }
        Ok(said)
    }
}

fn number<N: FromStr>(
    name: &str,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<N>, UsageError> {
    let Some(value) = variable(name) else { return Ok(None) };
    let number = value.to_str().and_then(|value| value.parse().ok());
    let wrong = || UsageError(format!("{name} is no number: {}", value.display()));
    number.ok_or_else(wrong).map(Some)
}

fn passed(count: usize, names: Option<OsString>) -> Result<Vec<Passed>, UsageError> {
    if count > PASSED_MAX {
        let most = PASSED_MAX;
        return Err(UsageError(format!("LISTEN_FDS is {count}, and at most {most} are taken")));
    }
    let names = names.map(|names| names.to_string_lossy().into_owned());
    let names: Vec<&str> = match &names {
        Some(names) if count > 0 => names.split(':').collect(),
        _ => vec!["unknown"; count], // as `sd_listen_fds_with_names` has it
    };
    if names.len() != count {
        let told = names.len();
        return Err(UsageError(format!("LISTEN_FDS is {count}, but LISTEN_FDNAMES has {told}")));
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

    /// The descriptors with their names.
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
    fn what_is_for_another_process_is_not_ours() {
        check_passed(&[], &[]);
        check_passed(&[("LISTEN_FDS", "1")], &[]);
        check_passed(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")], &[]);
        check_passed(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "many")], &[]);
        check_passed(&[("LISTEN_PID", "7")], &[]);
    }

    #[test]
    fn the_watchdog_is_for_whom_it_names_and_needs_somebody_to_tell() {
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
    fn nonsense_is_told_in_one_line() {
        let ours = ("LISTEN_PID", "7");
        let there = ("NOTIFY_SOCKET", "@there");
        for (variables, text) in [
            (&[("LISTEN_PID", "me")][..], "LISTEN_PID is no number: me"),
            (&[ours, ("LISTEN_FDS", "-1")], "LISTEN_FDS is no number: -1"),
            (&[ours, ("LISTEN_FDS", "257")], "LISTEN_FDS is 257, and at most 256 are taken"),
            (
                &[ours, ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:b")],
                "LISTEN_FDS is 1, but LISTEN_FDNAMES has 2",
            ),
            (&[there, ("WATCHDOG_USEC", "30s")], "WATCHDOG_USEC is no number: 30s"),
        ] {
            assert_eq!(read(variables).unwrap_err().to_string(), text);
        }
    }
}
