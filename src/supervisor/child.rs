//! State of a worker process, and its restart policy.
//!
//! A worker is restarted at once, or after a growing pause if it keeps exiting early.

use std::mem;

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

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: Pid,
    /// Carries changes on the port and requests to stop in one direction, and status reports in the other.
    pub(super) channel: Channel,
}

/// The place of a worker, and the process that has it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) state: ProcessState,
    early_exits: u32,
    /// How often its process has exited or could not be started.
    pub(super) exits: u32,
    /// Number of checks in a row that found no heartbeat.
    missed_heartbeats: u32,
}

#[derive(Debug)]
pub(super) enum ProcessState {
    /// There is no process. One is started at this time.
    Due { at_ns: u64 },
    /// The process runs.
    Running { worker: Worker, since_ns: u64, readiness: Readiness },
    /// There is no process, and none will be started.
    Stopped,
}

/// Whether a worker is ready to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It has not reported that it is ready.
    Pending,
    Ready,
}

impl Child {
    pub(super) const fn new() -> Self {
        Self {
            state: ProcessState::Due { at_ns: 0 },
            early_exits: 0,
            exits: 0,
            missed_heartbeats: 0,
        }
    }

    /// Returns the process, if it runs.
    pub(super) const fn worker(&self) -> Option<&Worker> {
        match &self.state {
            ProcessState::Running { worker, .. } => Some(worker),
            ProcessState::Due { .. } | ProcessState::Stopped => None,
        }
    }

    /// Removes the process, if it runs. No other is started in its place.
    pub(super) fn take_worker(&mut self) -> Option<Worker> {
        match mem::replace(&mut self.state, ProcessState::Stopped) {
            ProcessState::Running { worker, .. } => Some(worker),
            ProcessState::Due { .. } | ProcessState::Stopped => None,
        }
    }

    /// Returns whether the worker is ready.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, ProcessState::Running { readiness: Readiness::Ready, .. })
    }

    /// Records that the worker is ready, if it has reported so since the last call. Returns its channel in that case.
    pub(super) fn update_readiness(&mut self) -> Option<&Channel> {
        let ProcessState::Running { worker, readiness, .. } = &mut self.state else { return None };
        let has_changed = *readiness == Readiness::Pending && worker.channel.take_reports();
        if has_changed {
            *readiness = Readiness::Ready;
            self.missed_heartbeats = 0;
        }
        has_changed.then_some(&worker.channel)
    }

    /// Checks for a heartbeat since the last check. Returns the process ID if the worker runs and has missed
    /// `MISSED_HEARTBEATS_MAX` checks in a row, which means that it hangs.
    ///
    /// Checks are counted and not time, so that no worker is considered hung after the machine was halted.
    pub(super) fn is_hung(&mut self) -> Option<Pid> {
        let worker = self.worker()?;
        let (pid, is_alive) = (worker.pid, self.is_ready() && worker.channel.take_reports());
        self.missed_heartbeats = if is_alive { 0 } else { self.missed_heartbeats + 1 };
        (self.missed_heartbeats >= MISSED_HEARTBEATS_MAX).then_some(pid)
    }

    /// Records that the process was started.
    pub(super) fn mark_started(&mut self, worker: Worker, now_ns: u64) {
        self.missed_heartbeats = 0;
        self.state =
            ProcessState::Running { worker, since_ns: now_ns, readiness: Readiness::Pending };
    }

    /// Records that the process has exited or could not be started. The next one is due after the pause.
    pub(super) fn mark_exited(&mut self, now_ns: u64) {
        let is_early = match self.state {
            ProcessState::Running { since_ns, .. } => now_ns.saturating_sub(since_ns) < EARLY_NS,
            ProcessState::Due { .. } | ProcessState::Stopped => true,
        };
        self.exits += 1;
        self.early_exits = if is_early { self.early_exits.saturating_add(1) } else { 0 };
        let pause_ns = match self.early_exits.checked_sub(EARLY_EXITS_FREE + 1) {
            None => 0,
            Some(doublings) => PAUSE_NS.saturating_mul(1 << doublings.min(20)).min(PAUSE_NS_MAX),
        };
        self.state = ProcessState::Due { at_ns: now_ns.saturating_add(pause_ns) };
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
                let worker = Worker { pid: Pid::from_raw(7), channel: Channel::open().unwrap().0 };
                child.mark_started(worker, now_ns);
                now_ns += run_time_ns;
                child.mark_exited(now_ns);
                let ProcessState::Due { at_ns } = child.state else { panic!("{child:?}") };
                let pause_ns = at_ns - now_ns;
                now_ns = at_ns;
                pause_ns
            })
            .collect()
    }

    #[test]
    fn a_worker_is_hung_after_two_checks_without_a_heartbeat() {
        let (channel, worker_end) = Channel::open().unwrap();
        let report = || rustix::io::write(&worker_end, b"!").unwrap();
        let pid = Pid::from_raw(7);
        let mut child = Child::new();
        child.mark_started(Worker { pid, channel }, 0);
        assert_eq!(child.is_hung(), None, "it starts");
        report();
        assert!(child.update_readiness().is_some() && child.is_ready());
        assert_eq!(child.is_hung(), None, "it has just become ready");
        report();
        assert_eq!([child.is_hung(), child.is_hung(), child.is_hung()], [None, None, Some(pid)]);
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
