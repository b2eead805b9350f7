//! Becoming another version: the program on disk is executed in this process, with the listening sockets open
//! and the workers running.
//!
//! Process id, sockets and children are the same afterwards. What the new program has to know about them it
//! reads from the environment.

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
const TRIAL_S: i64 = 10;

/// Whether the program on disk starts: it has to check the flags and the environment, and to end well.
pub(super) fn check_binary(invocation: &Invocation) -> io::Result<()> {
    let mut trial = Command::new(&invocation.program);
    // What the service manager says is for this process alone.
    forget(&mut trial, &config::LISTEN_VARIABLES);
    forget(&mut trial, &config::NOTIFY_VARIABLES);
    let mut trial = trial
        .args(&invocation.arguments)
        .arg("--check")
        // It would inherit the sockets, so it does not open any.
        .env(config::INHERITED_SOCKETS, "")
        .env(config::INHERITED_WORKERS, "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let id = i32::try_from(trial.id()).ok().and_then(ProcessId::from_raw);
    let id = id.ok_or_else(|| io::Error::other("no process id"))?;
    let process = pidfd_open(id, PidfdFlags::empty())?;
    let mut files = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut files, Some(&Timespec { tv_sec: TRIAL_S, tv_nsec: 0 }))? == 0 {
        trial.kill()?;
    }
    let status = trial.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("--check ended with {status}")))
    }
}

/// Executes the program on disk in this process. Returns only if that failed.
pub(super) fn execute(
    invocation: &Invocation,
    (sockets, opened_by): (&[BorrowedFd<'_>], OpenedBy),
    (workers, leaving): (&[Pid], &[Pid]),
    region: Option<BorrowedFd<'_>>,
) -> io::Error {
    let numbers = (inherit(sockets), inherit(region.as_slice()));
    let (Ok(sockets), Ok(region)) = numbers else {
        return io::Error::other("the descriptors cannot be handed on");
    };
    let passed = match opened_by {
        OpenedBy::Us => "",
        OpenedBy::ServiceManager => "1",
    };
    let mut program = Command::new(&invocation.program);
    // What was passed is inherited from now on, under other numbers perhaps.
    forget(&mut program, &config::LISTEN_VARIABLES);
    program
        .args(&invocation.arguments)
        .env(config::INHERITED_SOCKETS, sockets)
        .env(config::INHERITED_PASSED, passed)
        .env(config::INHERITED_WORKERS, joined(workers.iter().map(|pid| pid.as_raw())))
        .env(config::INHERITED_LEAVING, joined(leaving.iter().map(|pid| pid.as_raw())))
        .env(config::INHERITED_REGION, region)
        .exec()
}

fn forget(program: &mut Command, variables: &[&str]) {
    for variable in variables {
        program.env_remove(variable);
    }
}

/// Has descriptors stay open when another program is executed; returns their numbers.
fn inherit(descriptors: &[BorrowedFd<'_>]) -> io::Result<String> {
    for descriptor in descriptors {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(joined(descriptors.iter().map(AsRawFd::as_raw_fd)))
}

fn joined(numbers: impl Iterator<Item = i32>) -> String {
    let mut text = String::new();
    for number in numbers {
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _infallible = write!(text, "{separator}{number}");
    }
    text
}
