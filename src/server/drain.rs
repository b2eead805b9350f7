//! Graceful shutdown, as a sequence of steps in time.
//!
//! ```text
//! Serving ──signal──▶ Announcing ──delay──▶ Draining ──grace──▶ Finishing ──timeout──▶ Done
//!                         └───────────────────── second signal ─────────────────────────▲
//! ```
//!
//! First only readiness fails, so that load balancers send no new clients. Then accepting stops, and each response is
//! the last of its connection. After the grace period idle connections are closed. The loop carries the steps out.

/// How long each step takes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the signal until accepting stops.
    pub delay_ns: u64,
    /// From then until idle connections are closed.
    pub grace_ns: u64,
    /// From then until all remaining connections are closed.
    pub timeout_ns: u64,
}

impl Times {
    /// From the signal until all remaining connections are closed.
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

/// The shutdown of a worker.
#[derive(Debug)]
pub struct Drain {
    times: Times,
    state: DrainState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainState {
    Serving,
    /// Readiness fails; everything else continues.
    Announcing {
        until_ns: u64,
    },
    /// No connection is accepted; idle connections may still send one request.
    Draining {
        grace_until_ns: u64,
        until_ns: u64,
    },
    /// Idle connections are closed; requests in flight are finished.
    Finishing {
        until_ns: u64,
    },
    Done,
}

/// The meaning of a signal to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// The first: readiness fails, and the steps follow in time.
    Graceful,
    /// Any further one: exit at once.
    Immediate,
}

/// A step of the shutdown that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Accept the connections that wait, then no more, and disable keep-alive.
    StopAccepting,
    /// Close idle connections.
    CloseIdle,
    /// Close all remaining connections.
    CloseAll,
}

impl Drain {
    /// Returns a shutdown that has not begun.
    pub const fn new(times: Times) -> Self {
        Self { times, state: DrainState::Serving }
    }

    /// Replaces the times of a shutdown that has not begun by those for a person who waits.
    pub const fn shorten(&mut self) {
        self.times = self.times.interactive();
    }

    /// Handles a signal to stop. A second one ends the shutdown at once.
    pub const fn request_stop(&mut self, now_ns: u64) -> StopRequest {
        if self.has_begun() {
            self.end();
            return StopRequest::Immediate;
        }
        self.begin(now_ns);
        StopRequest::Graceful
    }

    /// Begins the shutdown, unless it has begun.
    pub const fn begin(&mut self, now_ns: u64) {
        if !self.has_begun() {
            let until_ns = now_ns.saturating_add(self.times.delay_ns);
            self.state = DrainState::Announcing { until_ns };
        }
    }

    /// Begins the shutdown of a worker that others have replaced: readiness does not fail, so there is no delay.
    pub const fn begin_without_delay(&mut self, now_ns: u64) {
        if !self.has_begun() {
            self.state = DrainState::Announcing { until_ns: now_ns };
        }
    }

    /// Ends the shutdown at once.
    pub const fn end(&mut self) {
        self.state = DrainState::Done;
    }

    /// Whether the shutdown has begun.
    pub const fn has_begun(&self) -> bool {
        !matches!(self.state, DrainState::Serving)
    }

    /// Returns the step that is due. Call it until there is none.
    pub fn step(&mut self, now_ns: u64) -> Option<Step> {
        let (state, step) = match self.state {
            DrainState::Announcing { until_ns } if until_ns <= now_ns => {
                let until_ns = now_ns.saturating_add(self.times.timeout_ns);
                let grace_until_ns = now_ns.saturating_add(self.times.grace_ns);
                (DrainState::Draining { grace_until_ns, until_ns }, Step::StopAccepting)
            }
            DrainState::Draining { until_ns, .. } | DrainState::Finishing { until_ns }
                if until_ns <= now_ns =>
            {
                (DrainState::Done, Step::CloseAll)
            }
            DrainState::Draining { grace_until_ns, until_ns } if grace_until_ns <= now_ns => {
                (DrainState::Finishing { until_ns }, Step::CloseIdle)
            }
            DrainState::Serving
            | DrainState::Announcing { .. }
            | DrainState::Draining { .. }
            | DrainState::Finishing { .. }
            | DrainState::Done => return None,
        };
        self.state = state;
        Some(step)
    }

    /// When the next step is due.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        match self.state {
            DrainState::Serving | DrainState::Done => None,
            DrainState::Announcing { until_ns } | DrainState::Finishing { until_ns } => {
                Some(until_ns)
            }
            DrainState::Draining { grace_until_ns, until_ns } => Some(grace_until_ns.min(until_ns)),
        }
    }

    /// Whether the worker must exit, whatever is left.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, DrainState::Done)
    }

    /// Whether no connection is accepted any more. The worker exits when the last one is closed.
    pub const fn is_draining(&self) -> bool {
        matches!(
            self.state,
            DrainState::Draining { .. } | DrainState::Finishing { .. } | DrainState::Done
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
        drain.request_stop(0);
        assert_eq!(steps(&mut drain, 0), [Step::StopAccepting], "without the delay");
        assert_eq!(drain.next_deadline_ns(), Some(5), "a shorter grace is kept");
    }

    fn steps(drain: &mut Drain, now_ns: u64) -> Vec<Step> {
        std::iter::from_fn(|| drain.step(now_ns)).collect()
    }

    #[test]
    fn steps_are_due_in_order_and_in_time() {
        let mut drain = Drain::new(TIMES);
        assert_eq!((drain.next_deadline_ns(), steps(&mut drain, 1_000)), (None, vec![]));
        assert_eq!(drain.request_stop(1_000), StopRequest::Graceful);
        assert_eq!((drain.next_deadline_ns(), drain.is_draining()), (Some(1_010), false));
        assert_eq!(steps(&mut drain, 1_009), []);
        assert_eq!(steps(&mut drain, 1_010), [Step::StopAccepting]);
        assert_eq!((drain.next_deadline_ns(), drain.is_draining()), (Some(1_015), true));
        assert_eq!(steps(&mut drain, 1_020), [Step::CloseIdle]);
        assert_eq!(drain.next_deadline_ns(), Some(1_030));
        assert_eq!(steps(&mut drain, 1_030), [Step::CloseAll]);
        assert_eq!(steps(&mut drain, 9_999), []);
    }

    #[test]
    fn without_delay_and_grace_the_steps_follow_at_once() {
        let mut drain = Drain::new(Times { delay_ns: 0, grace_ns: 0, timeout_ns: 0 });
        drain.request_stop(7);
        assert_eq!(steps(&mut drain, 7), [Step::StopAccepting, Step::CloseAll]);
    }

    #[test]
    fn a_replaced_worker_skips_the_delay() {
        let mut drain = Drain::new(TIMES);
        drain.begin_without_delay(1_000);
        assert_eq!(steps(&mut drain, 1_000), [Step::StopAccepting]);
        drain.begin(1_001);
        assert_eq!(drain.next_deadline_ns(), Some(1_005), "it begins once");
        drain.end();
        assert!(drain.is_over());
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        for at_ns in [1_001, 1_012, 1_016] {
            let mut drain = Drain::new(TIMES);
            drain.request_stop(1_000);
            steps(&mut drain, at_ns);
            assert_eq!(drain.request_stop(at_ns), StopRequest::Immediate);
            assert_eq!(drain.next_deadline_ns(), None);
        }
    }
}
