//! When a worker is to be started again: at once, unless it keeps dying.

use std::{mem, os::fd::OwnedFd};

use nix::unistd::Pid;

use crate::group::Channel;

/// A worker that lived shorter than this has died early.
const EARLY_NS: u64 = 1_000_000_000;
/// So many early deaths in a row are taken for bad luck.
const EARLY_DEATHS_FREE: u32 = 3;
/// The pause after the first early death that is not, which doubles with each further one.
const PAUSE_NS: u64 = 100_000_000;
/// The longest pause.
const PAUSE_NS_MAX: u64 = 10_000_000_000;

/// A worker that was silent in so many looks in a row hangs.
const SILENT_LOOKS: u32 = 2;

/// One place for a worker, and the process that has it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) state: State,
    pub(super) service: WorkerReadiness,
    /// The way to tell it what has changed on the port.
    pub(super) channel: Option<Channel>,
    early_deaths: u32,
    /// How many workers had this place before.
    pub(super) deaths: u32,
    /// How often in a row it was silent when it was looked after.
    silent_looks: u32,
}

/// Whether a worker serves.
#[derive(Debug)]
pub(super) enum WorkerReadiness {
    /// Not, as far as is known.
    Unknown,
    /// Not yet: it will tell here.
    Pending(OwnedFd),
    /// It has told so, and tells here that it lives, if that is asked for.
    Ready(OwnedFd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is none, and one is to be started at this time.
    Due { at_ns: u64 },
    /// It runs.
    Alive { pid: Pid, since_ns: u64 },
    /// There is none, and none will be.
    Gone,
}

impl Child {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Due { at_ns: 0 },
            service: WorkerReadiness::Unknown,
            channel: None,
            early_deaths: 0,
            deaths: 0,
            silent_looks: 0,
        }
    }

    /// The process that has this place.
    pub(super) const fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Alive { pid, .. } => Some(pid),
            State::Due { .. } | State::Gone => None,
        }
    }

    /// Where it tells that it serves, until it has.
    pub(super) const fn awaited(&self) -> Option<&OwnedFd> {
        match &self.service {
            WorkerReadiness::Pending(pipe) => Some(pipe),
            WorkerReadiness::Unknown | WorkerReadiness::Ready(_) => None,
        }
    }

    /// Takes in that it serves.
    pub(super) fn mark_ready(&mut self) {
        self.service = match mem::replace(&mut self.service, WorkerReadiness::Unknown) {
            WorkerReadiness::Pending(pipe) | WorkerReadiness::Ready(pipe) => {
                WorkerReadiness::Ready(pipe)
            }
            WorkerReadiness::Unknown => WorkerReadiness::Unknown,
        };
    }

    /// Whether it serves.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.service, WorkerReadiness::Ready(_))
    }

    /// Looks whether it has said anything since the last look. One that runs and has been silent through two of
    /// them hangs: looks are counted and not time, so that a machine that was halted takes nobody for hung.
    pub(super) fn is_hung(&mut self) -> Option<Pid> {
        let State::Alive { pid, .. } = self.state else { return None };
        let said = match &self.service {
            WorkerReadiness::Ready(pipe) => rustix::io::read(pipe, &mut [0; 64]),
            WorkerReadiness::Unknown | WorkerReadiness::Pending(_) => Ok(0), // it does not come to serve
        };
        self.silent_looks = if matches!(said, Ok(1..)) { 0 } else { self.silent_looks + 1 };
        (self.silent_looks >= SILENT_LOOKS).then_some(pid)
    }

    /// Takes in that it was started.
    pub(super) const fn born(&mut self, pid: Pid, now_ns: u64) {
        self.silent_looks = 0;
        self.state = State::Alive { pid, since_ns: now_ns };
    }

    /// Takes in that it has died, or could not be started; the next one is due after a pause.
    pub(super) fn died(&mut self, now_ns: u64) {
        let is_early = match self.state {
            State::Alive { since_ns, .. } => now_ns.saturating_sub(since_ns) < EARLY_NS,
            State::Due { .. } | State::Gone => true,
        };
        self.service = WorkerReadiness::Unknown;
        self.channel = None;
        self.deaths += 1;
        self.early_deaths = if is_early { self.early_deaths.saturating_add(1) } else { 0 };
        let pause_ns = match self.early_deaths.checked_sub(EARLY_DEATHS_FREE + 1) {
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

    /// The pauses after lives of these lengths.
    fn pauses_ns(lives_ns: &[u64]) -> Vec<u64> {
        let (mut child, mut now_ns) = (Child::new(), 0);
        lives_ns
            .iter()
            .map(|life_ns| {
                child.born(Pid::from_raw(7), now_ns);
                now_ns += life_ns;
                child.died(now_ns);
                let State::Due { at_ns } = child.state else { panic!("{child:?}") };
                let pause_ns = at_ns - now_ns;
                now_ns = at_ns;
                pause_ns
            })
            .collect()
    }

    #[test]
    fn a_worker_that_lived_is_replaced_at_once() {
        assert_eq!(pauses_ns(&[SECOND_NS; 50]), [0; 50]);
    }

    #[test]
    fn pauses_grow_while_it_keeps_dying_and_no_longer() {
        let mut expected = vec![0; EARLY_DEATHS_FREE as usize];
        expected.extend([1, 2, 4, 8, 16, 32, 64].map(|times| times * PAUSE_NS));
        expected.extend([PAUSE_NS_MAX; 40]);
        let mut lives = vec![SECOND_NS - 1; expected.len()];
        lives.extend([SECOND_NS, 0]);
        expected.extend([0, 0]);
        assert_eq!(pauses_ns(&lives), expected);
    }
}
