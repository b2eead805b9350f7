//! Leaving in order, as a sequence of steps in time.
//!
//! ```text
//! Serving ──told──▶ Announcing ──delay──▶ Draining ──grace──▶ Draining, idle ones closed ──▶ left
//!                       └────────────── told again, nobody left, or out of time ──────────────▲
//! ```
//!
//! First only readiness fails, so that whoever balances the load stops sending new clients. Then accepting
//! stops and every answer is the last one of its connection. Who has not asked anything for a while is
//! closed without an answer. What is to be done at each step is the business of the loop.

/// How long each step takes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From being told to leave until accepting stops.
    pub delay_ns: u64,
    /// From then until idle connections are closed.
    pub grace_ns: u64,
    /// From then until everything is given up.
    pub timeout_ns: u64,
}

impl Times {
    /// From being told to leave until everything is given up.
    pub const fn longest_ns(&self) -> u64 {
        self.delay_ns.saturating_add(self.timeout_ns)
    }

    /// Returns times for a person who waits at a terminal: no delay for load balancers, a second for idle connections
    /// and five seconds for requests in progress, if not less was configured.
    #[must_use]
    pub const fn interactive(self) -> Self {
        const fn at_most(ns: u64, most_ns: u64) -> u64 {
            if ns < most_ns { ns } else { most_ns }
        }
        Self {
            delay_ns: 0,
            grace_ns: at_most(self.grace_ns, 1_000_000_000),
            timeout_ns: at_most(self.timeout_ns, 5_000_000_000),
        }
    }
}

/// Where in leaving a worker stands.
#[derive(Debug)]
pub struct Drain {
    times: Times,
    stage: DrainState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainState {
    Serving,
    /// Readiness fails; all else goes on.
    Announcing {
        until_ns: u64,
    },
    /// Nobody is let in any more; idle connections may still ask once.
    Draining {
        grace_until_ns: u64,
        until_ns: u64,
    },
    /// Idle connections are closed; what is in flight is finished.
    Finishing {
        until_ns: u64,
    },
    Left,
}

/// What it means to be told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// Let readiness fail, and take the steps when their time comes.
    Graceful,
    /// Leave at once.
    Immediate,
}

/// What the loop has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Accept who waits, then nobody any more, and let every answer be a last one.
    StopAccepting,
    /// Close connections on which nothing is under way.
    CloseIdle,
    /// Give up what is left.
    Leave,
}

impl Drain {
    /// Not told to leave.
    pub const fn new(times: Times) -> Self {
        Self { times, stage: DrainState::Serving }
    }

    /// Replaces the times of a shutdown that has not begun by those for a person who waits.
    pub const fn shorten(&mut self) {
        self.times = self.times.interactive();
    }

    /// Takes in that the worker was told to leave; the second time it leaves at once.
    pub const fn tell(&mut self, now_ns: u64) -> StopRequest {
        if matches!(self.stage, DrainState::Serving) {
            self.stage =
                DrainState::Announcing { until_ns: now_ns.saturating_add(self.times.delay_ns) };
            return StopRequest::Graceful;
        }
        self.stage = DrainState::Left;
        StopRequest::Immediate
    }

    /// The step whose time has come. To be asked until there is none.
    pub fn step(&mut self, now_ns: u64) -> Option<Step> {
        let (stage, step) = match self.stage {
            DrainState::Announcing { until_ns } if until_ns <= now_ns => {
                let until_ns = now_ns.saturating_add(self.times.timeout_ns);
                let grace_until_ns = now_ns.saturating_add(self.times.grace_ns);
                (DrainState::Draining { grace_until_ns, until_ns }, Step::StopAccepting)
            }
            DrainState::Draining { until_ns, .. } | DrainState::Finishing { until_ns }
                if until_ns <= now_ns =>
            {
                (DrainState::Left, Step::Leave)
            }
            DrainState::Draining { grace_until_ns, until_ns } if grace_until_ns <= now_ns => {
                (DrainState::Finishing { until_ns }, Step::CloseIdle)
            }
            DrainState::Serving
            | DrainState::Announcing { .. }
            | DrainState::Draining { .. }
            | DrainState::Finishing { .. }
            | DrainState::Left => return None,
        };
        self.stage = stage;
        Some(step)
    }

    /// When the next step is due.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        match self.stage {
            DrainState::Serving | DrainState::Left => None,
            DrainState::Announcing { until_ns } | DrainState::Finishing { until_ns } => {
                Some(until_ns)
            }
            DrainState::Draining { grace_until_ns, until_ns } => Some(grace_until_ns.min(until_ns)),
        }
    }

    /// Whether it is time to end, whatever is left.
    pub const fn has_left(&self) -> bool {
        matches!(self.stage, DrainState::Left)
    }

    /// Whether nobody is let in any more, so that the worker may leave when its connections have.
    pub const fn is_draining(&self) -> bool {
        matches!(
            self.stage,
            DrainState::Draining { .. } | DrainState::Finishing { .. } | DrainState::Left
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { delay_ns: 10, grace_ns: 5, timeout_ns: 20 };

    #[test]
    fn at_a_terminal_the_times_are_short() {
        let long = Times { delay_ns: 10, grace_ns: 5_000_000_000, timeout_ns: 25_000_000_000 };
        let short = long.interactive();
        let found = (short.delay_ns, short.grace_ns, short.timeout_ns);
        assert_eq!(found, (0, 1_000_000_000, 5_000_000_000));
        let mut drain = Drain::new(TIMES);
        drain.shorten();
        drain.tell(0);
        assert_eq!(steps(&mut drain, 0), [Step::StopAccepting], "without the delay");
        assert_eq!(drain.next_deadline_ns(), Some(5), "a shorter grace is kept");
    }

    fn steps(drain: &mut Drain, now_ns: u64) -> Vec<Step> {
        std::iter::from_fn(|| drain.step(now_ns)).collect()
    }

    #[test]
    fn the_steps_come_in_order_and_in_time() {
        let mut drain = Drain::new(TIMES);
        assert_eq!((drain.next_deadline_ns(), steps(&mut drain, 1_000)), (None, vec![]));
        assert_eq!(drain.tell(1_000), StopRequest::Graceful);
        assert_eq!((drain.next_deadline_ns(), drain.is_draining()), (Some(1_010), false));
        assert_eq!(steps(&mut drain, 1_009), []);
        assert_eq!(steps(&mut drain, 1_010), [Step::StopAccepting]);
        assert_eq!((drain.next_deadline_ns(), drain.is_draining()), (Some(1_015), true));
        assert_eq!(steps(&mut drain, 1_020), [Step::CloseIdle]);
        assert_eq!(drain.next_deadline_ns(), Some(1_030));
        assert_eq!(steps(&mut drain, 1_030), [Step::Leave]);
        assert_eq!(steps(&mut drain, 9_999), []);
    }

    #[test]
    fn without_delay_and_grace_it_is_one_step_after_the_other() {
        let mut drain = Drain::new(Times { delay_ns: 0, grace_ns: 0, timeout_ns: 0 });
        drain.tell(7);
        assert_eq!(steps(&mut drain, 7), [Step::StopAccepting, Step::Leave]);
    }

    #[test]
    fn told_twice_it_leaves_at_once() {
        for at_ns in [1_001, 1_012, 1_016] {
            let mut drain = Drain::new(TIMES);
            drain.tell(1_000);
            steps(&mut drain, at_ns);
            assert_eq!(drain.tell(at_ns), StopRequest::Immediate);
            assert_eq!(drain.next_deadline_ns(), None);
        }
    }
}
