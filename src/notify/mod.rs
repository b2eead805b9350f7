//! Who wants to know how this worker fares: its supervisor, a service manager, or nobody.
//!
//! The loop tells it that it serves, that it leaves and, if that is asked for, again and again that it lives. As
//! it is the loop itself that says so, a loop that goes round no more is found out by its silence.

pub mod socket;

use std::{fs::File, io::Write as _, os::fd::OwnedFd};

use crate::notify::socket::{Notification, Notifier};

/// Shortest time between two signs of life: what the poll can tell apart.
const INTERVAL_NS_MIN: u64 = 1_000_000;

/// When there is to be a sign of life again.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    interval_ns: u64,
    due_ns: u64,
}

impl Heartbeat {
    /// For somebody who takes a process for hung that is silent for so long: one in half that time, and one now.
    pub fn for_limit(limit_ns: u64) -> Self {
        Self { interval_ns: (limit_ns / 2).max(INTERVAL_NS_MIN), due_ns: 0 }
    }

    /// Whether it is time; then it will be again in an interval.
    pub const fn beat(&mut self, now_ns: u64) -> bool {
        let is_due = self.due_ns <= now_ns;
        if is_due {
            self.due_ns = now_ns.saturating_add(self.interval_ns);
        }
        is_due
    }

    /// When it is time.
    pub const fn due_ns(&self) -> u64 {
        self.due_ns
    }
}

/// Whoever wants to know.
#[derive(Debug, Default)]
pub struct StatusReporter {
    who: Who,
    heartbeat: Option<Heartbeat>,
}

#[derive(Debug, Default)]
enum Who {
    #[default]
    Nobody,
    Supervisor(File),
    ServiceManager(Notifier),
}

impl StatusReporter {
    /// A supervisor at the other end of a pipe, which takes this process for hung after a silence of `limit_ns`.
    pub fn supervisor(pipe: OwnedFd, limit_ns: Option<u64>) -> Self {
        Self { who: Who::Supervisor(pipe.into()), heartbeat: limit_ns.map(Heartbeat::for_limit) }
    }

    /// A service manager, which takes this process for hung after a silence of `limit_ns`.
    pub fn service_manager(notifier: Notifier, limit_ns: Option<u64>) -> Self {
        Self { who: Who::ServiceManager(notifier), heartbeat: limit_ns.map(Heartbeat::for_limit) }
    }

    /// Tells that this process serves.
    pub fn ready(&mut self, status: &str) {
        self.tell(Notification::Ready(status));
    }

    /// Tells that it leaves.
    pub fn stopping(&mut self, status: &str) {
        self.tell(Notification::Stopping(status));
    }

    /// Tells that it lives, if it is time to.
    pub fn heartbeat(&mut self, now_ns: u64) {
        if self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.beat(now_ns)) {
            self.tell(Notification::Alive);
        }
    }

    /// When it is time to.
    pub fn next_beat_ns(&self) -> Option<u64> {
        self.heartbeat.as_ref().map(Heartbeat::due_ns)
    }

    fn tell(&mut self, news: Notification<'_>) {
        match &mut self.who {
            Who::Nobody => {}
            Who::ServiceManager(notifier) => notifier.tell(news),
            Who::Supervisor(pipe) => match news {
                Notification::Ready(_) | Notification::Alive => {
                    // One that has become another version listens no more, and one that is gone neither; the
                    // kernel tells of that. If it does not read, it has enough unread already.
                    let _nobody_listens = pipe.write(b"!");
                }
                Notification::Reloading(_) | Notification::Stopping(_) => {} // it has told us to
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use super::*;

    #[test]
    fn signs_of_life_come_in_half_the_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut reporter = StatusReporter::supervisor(writer.into(), Some(20_000_000));
        reporter.ready("");
        let due: Vec<_> = (0..100_u64)
            .map(|ms| 1_000_000_000 + ms * 1_000_000)
            .filter(|now_ns| {
                let is_due = reporter.next_beat_ns().unwrap() <= *now_ns;
                reporter.heartbeat(*now_ns);
                is_due
            })
            .collect();
        assert_eq!(due.len(), 10, "{due:?}");
        reporter.stopping("");
        drop(reporter);
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert_eq!(told, "!".repeat(11));
    }

    #[test]
    fn without_a_limit_there_are_none() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        for mut reporter in
            [StatusReporter::supervisor(writer.into(), None), StatusReporter::default()]
        {
            reporter.ready("and nobody reads");
            reporter.heartbeat(u64::MAX);
            assert_eq!(reporter.next_beat_ns(), None);
        }
    }

    #[test]
    fn the_shortest_limit_does_not_keep_the_loop_awake() {
        let mut heartbeat = Heartbeat::for_limit(1);
        assert!(
            heartbeat.beat(0)
                && !heartbeat.beat(INTERVAL_NS_MIN - 1)
                && heartbeat.beat(INTERVAL_NS_MIN)
        );
    }
}
