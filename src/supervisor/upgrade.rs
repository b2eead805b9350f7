//! Upgrades, step by step. While any of them fails, the workers of this version keep serving.
//!
//! 1. SIGHUP is recorded. Requests that arrive during an upgrade lead to one later upgrade, which begins when all workers
//!    of the previous version have exited: there are never more than twice the workers.
//! 2. The program on disk is rehearsed in a process of its own, with a time limit, while this loop goes on.
//! 3. This process executes the program ([`super::execute`]). The workers keep running.
//! 4. The new version starts workers. Once all are ready, those of the previous version are stopped. If they are not
//!    ready in time, this process executes the previous program again.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
};

use log::{error, info, warn};
use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    config::Inherited,
    group::Stop,
    notify::socket::Notification,
    supervisor::{
        Supervisor, SupervisorState,
        child::Child,
        execute::{execute, execute_finally, failure_of_rehearsal, path_of, spawn_rehearsal},
        stop::{send_signal, stop_all},
    },
    sys,
};

/// Time limit for a rehearsal.
const REHEARSAL_TIMEOUT_NS: u64 = 10_000_000_000;
/// Time limit for the workers of a new version to become ready.
const READY_TIMEOUT_NS: u64 = 10_000_000_000;

/// Maximum number of bytes that are read of what a rehearsal prints.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// The state of upgrades.
pub(super) struct Upgrade {
    /// Whether a SIGHUP has been received that no upgrade has handled yet.
    is_requested: bool,
    rehearsal: Option<Rehearsal>,
    /// What to return to if the workers of this version do not become ready.
    trial: Option<Trial>,
}

/// A rehearsal in progress.
struct Rehearsal {
    pid: Pid,
    /// What it prints.
    output: fs::File,
    until_ns: u64,
    executable: Executable,
}

/// The path of an executable, and what identifies its file and its contents.
type Executable = (PathBuf, [u64; 3], i64);

/// The time in which the workers of this version must become ready.
struct Trial {
    previous: OwnedFd,
    until_ns: u64,
}

impl Upgrade {
    /// Returns the state at the start of this process, which an upgrade may have executed.
    pub(super) fn new(inherited: Option<&Inherited>, now_ns: u64) -> io::Result<Self> {
        let previous = inherited.and_then(|inherited| inherited.previous);
        let previous = previous.map(sys::adopt).transpose()?;
        let until_ns = now_ns.saturating_add(READY_TIMEOUT_NS);
        let trial = previous.map(|previous| Trial { previous, until_ns });
        Ok(Self { is_requested: false, rehearsal: None, trial })
    }

    /// Returns when [`Supervisor::advance_upgrade`] is due, if it is not due to an event.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let rehearsal = self.rehearsal.as_ref().map(|rehearsal| rehearsal.until_ns);
        rehearsal.into_iter().chain(self.trial.as_ref().map(|trial| trial.until_ns)).min()
    }

    /// Records that the workers of this version are ready.
    pub(super) fn complete(&mut self) {
        self.trial = None;
    }
}

impl Supervisor<'_> {
    /// Records a request for an upgrade.
    pub(super) fn request_upgrade(&mut self) {
        if self.is_stopping() {
            return;
        }
        let program = self.config.invocation.program.display();
        if self.is_upgrading() {
            info!("received SIGHUP; upgrading to {program} after the upgrade in progress");
        } else {
            info!("received SIGHUP; upgrading to {program}");
            self.notifier.send(Notification::Reloading("upgrading"));
        }
        self.upgrade.is_requested = true;
    }

    /// Performs the step that is due.
    pub(super) fn advance_upgrade(&mut self) {
        let now_ns = self.clock.now_ns();
        if self.upgrade.is_requested && !self.is_upgrading() && !self.is_stopping() {
            self.upgrade.is_requested = false;
            self.begin_rehearsal();
        }
        if let Some(rehearsal) = &self.upgrade.rehearsal
            && rehearsal.until_ns <= now_ns
        {
            send_signal(rehearsal.pid, Signal::SIGKILL);
            self.upgrade.rehearsal = None;
            let seconds = REHEARSAL_TIMEOUT_NS / 1_000_000_000;
            self.fail_upgrade(&format!("the rehearsal took more than {seconds} s"));
        }
        if let Some(trial) = self.upgrade.trial.take_if(|trial| trial.until_ns <= now_ns) {
            self.return_to(&trial.previous);
        }
    }

    /// Whether an upgrade is in progress. If a previous one has failed with workers that cannot start, a new one may
    /// help.
    fn is_upgrading(&self) -> bool {
        self.upgrade.rehearsal.is_some() || self.upgrade.trial.is_some() || !self.leaving.is_empty()
    }

    fn begin_rehearsal(&mut self) {
        match self.rehearse() {
            Ok(rehearsal) => self.upgrade.rehearsal = Some(rehearsal),
            Err(error) => self.fail_upgrade(&format!("cannot start the rehearsal: {error}")),
        }
    }

    fn rehearse(&self) -> io::Result<Rehearsal> {
        let (invocation, executable) = (&self.config.invocation, self.find_executable()?);
        let state = self.inheritance_of_rehearsal();
        let (pid, output) = spawn_rehearsal(&executable.0, invocation, &state)?;
        let until_ns = self.clock.now_ns().saturating_add(REHEARSAL_TIMEOUT_NS);
        Ok(Rehearsal { pid, output, until_ns, executable })
    }

    fn find_executable(&self) -> io::Result<Executable> {
        let path = self.config.invocation.resolve()?;
        let found = fs::metadata(&path)?;
        Ok((path, [found.dev(), found.ino(), found.size()], found.mtime()))
    }

    /// Handles the exit of a rehearsal. Returns whether the process was one.
    pub(super) fn end_rehearsal(&mut self, pid: Pid, how: &str) -> bool {
        let Some(mut rehearsal) = self.upgrade.rehearsal.take_if(|rehearsal| rehearsal.pid == pid)
        else {
            return false;
        };
        match failure_of_rehearsal(&read_available(&mut rehearsal.output)) {
            None => self.execute_rehearsed(&rehearsal),
            Some(reason) => self.fail_upgrade(&format!("the rehearsal {how}: {reason}")),
        }
        true
    }

    /// Executes the program that was rehearsed. Returns only if that fails.
    fn execute_rehearsed(&mut self, rehearsal: &Rehearsal) {
        match self.find_executable() {
            Ok(executable) if executable == rehearsal.executable => {
                let error = execute(&executable.0, &self.config.invocation, self.inheritance());
                self.fail_upgrade(&format!("cannot execute it: {error}"));
            }
            Ok(_) => {
                info!("the program has changed since its rehearsal, which begins again");
                self.begin_rehearsal();
            }
            Err(error) => self.fail_upgrade(&format!("cannot find it: {error}")),
        }
    }

    /// Executes the previous program again, because the workers of this version have not become ready.
    fn return_to(&mut self, previous: &OwnedFd) {
        let ready = self.children.iter().filter(|child| child.is_ready()).count();
        let count = self.children.len();
        error!(
            "upgrade failed: {ready} of {count} workers became ready in time; returning to the previous version"
        );
        let started: Vec<_> = self.children.iter_mut().filter_map(Child::take_worker).collect();
        stop_all(&started, Stop::Replaced);
        self.leaving.extend(started);
        let path = path_of(previous.as_raw_fd());
        let error = execute_finally(&path, &self.config.invocation, &self.inheritance());
        error!("cannot return to the previous version: {error}; this version keeps trying");
        let count = self.children.len();
        self.children = (0..count).map(|_| Child::new()).collect();
    }

    fn fail_upgrade(&mut self, reason: &str) {
        let program = self.config.invocation.program.display();
        error!("cannot upgrade to {program}: {reason}; this version keeps running");
        // The protocol has no message for a failed reload, so only the status text reports it.
        self.report_ready("; an upgrade failed");
    }

    /// Kills a rehearsal in progress, because the supervisor stops.
    pub(super) fn cancel_upgrade(&mut self) {
        self.upgrade.is_requested = false;
        self.upgrade.trial = None;
        if let Some(rehearsal) = self.upgrade.rehearsal.take() {
            warn!("the upgrade in progress is cancelled");
            send_signal(rehearsal.pid, Signal::SIGKILL);
        }
    }

    /// Stops the workers of the previous version once all of this one are ready.
    pub(super) fn complete_upgrade(&mut self) {
        self.state = SupervisorState::Serving;
        self.upgrade.complete();
        stop_all(&self.old, Stop::Replaced);
        self.leaving.append(&mut self.old);
        self.leaving_until_ns = Some(self.exit_deadline_ns());
    }
}

/// Reads what a rehearsal has printed.
fn read_available(output: &mut fs::File) -> String {
    let mut bytes = Vec::new();
    // The pipe does not block, and a child of the rehearsal may still have it open. Whatever was read counts.
    let _would_block = output.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
