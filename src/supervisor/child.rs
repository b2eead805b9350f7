//! State of a worker process, and its restart policy.
//!
//! A worker is restarted at once, or after a growing pause if it keeps exiting early.

use std::{mem, os::fd::OwnedFd};

use nix::unistd::Pid;

use crate::group::Channel;

/// A worker that exits within this time has exited early.
const EARLY_NS: u64 = 1_000_000_000;
/// Number of early exits in a row after which the worker is still restarted without a pause.
const EARLY_EXITS_FREE: u32 = 3;
/// Pause before a restart after the next early exit. It doubles with each further one.
const PAUSE_NS: u64 = 100_000_000;
/// Longest pause before a restart.
const PAUSE_NS_MAX: u64 = 10_000_000_000;

/// Number of checks in a row without a heartbeat after which a worker is considered hung.
const MISSED_HEARTBEATS_MAX: u32 = 2;

/// A worker with a fixed number, and the process that runs it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) state: State,
    pub(super) readiness: WorkerReadiness,
    /// Sends the worker the changes on the port.
    pub(super) channel: Option<Channel>,
    early_exits: u32,
    /// How often its process has exited or could not be started.
    pub(super) exits: u32,
    /// Number of checks in a row that found no heartbeat.
    missed_heartbeats: u32,
}

/// Whether a worker is ready to serve.
#[derive(Debug)]
pub(super) enum WorkerReadiness {
    /// Not ready; it has no pipe to report readiness on.
    Unknown,
    /// Not ready yet. The worker will write to this pipe.
    Pending(OwnedFd),
    /// Ready. With a watchdog, the worker writes its heartbeats to this pipe.
    Ready(OwnedFd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no process. One is started at this time.
    Due { at_ns: u64 },
    /// The process runs.
    Running { pid: Pid, since_ns: u64 },
    /// There is no process, and none will be started.
    Stopped,
}

impl Child {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Due { at_ns: 0 },
            readiness: WorkerReadiness::Unknown,
            channel: None,
            early_exits: 0,
            exits: 0,
            missed_heartbeats: 0,
        }
    }

    /// Returns the process ID, if the process runs.
    pub(super) const fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            State::Due { .. } | State::Stopped => None,
        }
    }

    /// Returns the pipe on which the worker reports that it is ready, until it has done so.
    pub(super) const fn pending_pipe(&self) -> Option<&OwnedFd> {
        match &self.readiness {
            WorkerReadiness::Pending(pipe) => Some(pipe),
            WorkerReadiness::Unknown | WorkerReadiness::Ready(_) => None,
        }
    }

    /// Records that the worker is ready.
    pub(super) fn mark_ready(&mut self) {
        self.readiness = match mem::replace(&mut self.readiness, WorkerReadiness::Unknown) {
            WorkerReadiness::Pending(pipe) | WorkerReadiness::Ready(pipe) => {
                WorkerReadiness::Ready(pipe)
            }
            WorkerReadiness::Unknown => WorkerReadiness::Unknown,
        };
    }

    /// Returns whether the worker is ready.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.readiness, WorkerReadiness::Ready(_))
    }

    /// Checks for a heartbeat since the last check. Returns the process ID if the worker runs and has missed
    /// `MISSED_HEARTBEATS_MAX` checks in a row, which means that it hangs.
    ///
    /// Checks are counted and not time, so that no worker is considered hung after the machine was halted.
    pub(super) fn is_hung(&mut self) -> Option<Pid> {
        let State::Running { pid, .. } = self.state else { return None };
        let received = match &self.readiness {
            WorkerReadiness::Ready(pipe) => rustix::io::read(pipe, &mut [0; 64]),
            WorkerReadiness::Unknown | WorkerReadiness::Pending(_) => Ok(0), // it has not become ready
        };
        self.missed_heartbeats =
            if matches!(received, Ok(1..)) { 0 } else { self.missed_heartbeats + 1 };
        (self.missed_heartbeats >= MISSED_HEARTBEATS_MAX).then_some(pid)
    }

    /// Records that the process was started.
    pub(super) const fn mark_started(&mut self, pid: Pid, now_ns: u64) {
        self.missed_heartbeats = 0;
        self.state = State::Running { pid, since_ns: now_ns };
    }

    /// Records that the process has exited or could not be started. The next one is due after the pause.
    pub(super) fn mark_exited(&mut self, now_ns: u64) {
        let is_early = match self.state {
            State::Running { since_ns, .. } => now_ns.saturating_sub(since_ns) < EARLY_NS,
            State::Due { .. } | State::Stopped => true,
        };
        self.readiness = WorkerReadiness::Unknown;
        self.channel = None;
        self.exits += 1;
        self.early_exits = if is_early { self.early_exits.saturating_add(1) } else { 0 };
        let pause_ns = match self.early_exits.checked_sub(EARLY_EXITS_FREE + 1) {
            None => 0,
            Some(doublings) => PAUSE_NS.saturating_mul(1 << doublings.min(20)).min(PAUSE_NS_MAX),
        };
        self.state = State::Due { at_ns: now_ns.saturating_add(pause_ns) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Returns the pauses after processes that ran for these times.
    fn pauses_ns(run_times_ns: &[u64]) -> Vec<u64> {
        let (mut child, mut now_ns) = (Child::new(), 0);
        run_times_ns
            .iter()
            .map(|run_time_ns| {
                child.mark_started(Pid::from_raw(7), now_ns);
                now_ns += run_time_ns;
                child.mark_exited(now_ns);
                let State::Due { at_ns } = child.state else { panic!("{child:?}") };
                let pause_ns = at_ns - now_ns;
                now_ns = at_ns;
                pause_ns
            })
            .collect()
    }

    #[test]
    fn a_worker_that_does_not_exit_early_is_restarted_at_once() {
        assert_eq!(pauses_ns(&[SECOND_NS; 50]), [0; 50]);
    }

    #[test]
    fn pauses_grow_with_early_exits_and_end_with_the_next_long_run() {
        let mut expected = vec![0; EARLY_EXITS_FREE as usize];
        expected.extend([1, 2, 4, 8, 16, 32, 64].map(|times| times * PAUSE_NS));
        expected.extend([PAUSE_NS_MAX; 40]);
        let mut run_times_ns = vec![SECOND_NS - 1; expected.len()];
        run_times_ns.extend([SECOND_NS, 0]);
        expected.extend([0, 0]);
        assert_eq!(pauses_ns(&run_times_ns), expected);
    }
}
