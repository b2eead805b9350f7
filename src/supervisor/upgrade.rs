//! Upgrade in place: this process executes the program on disk, with the listening sockets open and the
//! workers running.
//!
//! The process ID, the sockets and the children stay the same. The new program reads their numbers from the
//! environment.

use std::{
    fmt::Write as _,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use nix::unistd::Pid;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_setfd},
    process::{Pid as ProcessId, PidfdFlags, pidfd_open},
};

use crate::config::{self, Invocation, OpenedBy};

/// How long the program on disk may take to check its configuration.
const CHECK_TIMEOUT_S: i64 = 10;

/// Runs the program on disk with `--check`. Returns an error unless it accepts the flags and the environment.
pub(super) fn check_binary(invocation: &Invocation) -> io::Result<()> {
    let mut check = Command::new(&invocation.program);
    // The variables of the service manager are for this process alone.
    remove_variables(&mut check, &config::LISTEN_VARIABLES);
    remove_variables(&mut check, &config::NOTIFY_VARIABLES);
    let mut check = check
        .args(&invocation.arguments)
        .arg("--check")
        // It is to inherit the sockets, so the check must not open any.
        .env(config::INHERITED_SOCKETS, "")
        .env(config::INHERITED_WORKERS, "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let id = i32::try_from(check.id()).ok().and_then(ProcessId::from_raw);
    let id = id.ok_or_else(|| io::Error::other("no process ID"))?;
    let process = pidfd_open(id, PidfdFlags::empty())?;
    let mut files = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut files, Some(&Timespec { tv_sec: CHECK_TIMEOUT_S, tv_nsec: 0 }))? == 0 {
        check.kill()?;
    }
    let status = check.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("--check failed ({status})")))
    }
}

/// Executes the program on disk in this process. Returns only if that fails.
pub(super) fn execute(
    invocation: &Invocation,
    (sockets, opened_by): (&[BorrowedFd<'_>], OpenedBy),
    (workers, leaving): (&[Pid], &[Pid]),
    region: Option<BorrowedFd<'_>>,
) -> io::Error {
    let descriptors = (inherit(sockets), inherit(region.as_slice()));
    let (Ok(sockets), Ok(region)) = descriptors else {
        return io::Error::other("cannot keep the descriptors open across the upgrade");
    };
    let passed = match opened_by {
        OpenedBy::Us => "",
        OpenedBy::ServiceManager => "1",
    };
    let mut program = Command::new(&invocation.program);
    // Passed sockets are inherited from now on, possibly under other numbers.
    remove_variables(&mut program, &config::LISTEN_VARIABLES);
    program
        .args(&invocation.arguments)
        .env(config::INHERITED_SOCKETS, sockets)
        .env(config::INHERITED_PASSED, passed)
        .env(config::INHERITED_WORKERS, comma_separated(workers.iter().map(|pid| pid.as_raw())))
        .env(config::INHERITED_LEAVING, comma_separated(leaving.iter().map(|pid| pid.as_raw())))
        .env(config::INHERITED_REGION, region)
        .exec()
}

/// Removes variables from the environment of a program.
fn remove_variables(program: &mut Command, variables: &[&str]) {
    for variable in variables {
        program.env_remove(variable);
    }
}

/// Keeps descriptors open when another program is executed. Returns their numbers.
fn inherit(descriptors: &[BorrowedFd<'_>]) -> io::Result<String> {
    for descriptor in descriptors {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(comma_separated(descriptors.iter().map(AsRawFd::as_raw_fd)))
}

/// Returns the numbers, separated by commas.
fn comma_separated(numbers: impl Iterator<Item = i32>) -> String {
    let mut text = String::new();
    for number in numbers {
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _infallible = write!(text, "{separator}{number}");
    }
    text
}
