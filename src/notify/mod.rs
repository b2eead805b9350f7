//! Status reports of a worker to its supervisor, or of a single process to the service manager.
//!
//! The event loop reports that it is ready, that it is stopping and, with a watchdog, a heartbeat at
//! intervals. The loop itself sends the heartbeats. They stop if it hangs, and the receiver detects that.

pub mod socket;

use std::{fs::File, io::Write as _};

use crate::notify::socket::{Notification, Notifier};

/// Shortest interval between two heartbeats: the resolution of the poll timeout.
const INTERVAL_NS_MIN: u64 = 1_000_000;

/// Schedule of the heartbeats.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    interval_ns: u64,
    due_ns: u64,
}

impl Heartbeat {
    /// Returns a schedule of `count` heartbeats within `limit_ns`. The first one is due at once.
    pub fn new(limit_ns: u64, count: u64) -> Self {
        Self { interval_ns: (limit_ns / count.max(1)).max(INTERVAL_NS_MIN), due_ns: 0 }
    }

    /// Returns whether a heartbeat is due. If so, schedules the next one in an interval.
    pub const fn beat(&mut self, now_ns: u64) -> bool {
        let is_due = self.due_ns <= now_ns;
        if is_due {
            self.due_ns = now_ns.saturating_add(self.interval_ns);
        }
        is_due
    }

    /// Returns when the next heartbeat is due.
    pub const fn due_ns(&self) -> u64 {
        self.due_ns
    }
}

/// Sends status reports to the supervisor or the service manager, if there is one.
#[derive(Debug, Default)]
pub struct StatusReporter {
    recipient: Recipient,
    heartbeat: Option<Heartbeat>,
}

/// The receiver of status reports.
#[derive(Debug, Default)]
pub enum Recipient {
    /// There is none.
    #[default]
    None,
    /// A supervisor that reads the other end of this channel, a byte for each report.
    Supervisor(File),
    /// A service manager.
    ServiceManager(Notifier),
}

impl StatusReporter {
    /// Returns a reporter to `recipient`, which considers this process hung after `limit_ns` without a heartbeat. It
    /// gets four in that time: each of two checks finds one.
    pub fn new(recipient: Recipient, limit_ns: Option<u64>) -> Self {
        Self { recipient, heartbeat: limit_ns.map(|limit_ns| Heartbeat::new(limit_ns, 4)) }
    }

    /// Sends a heartbeat if one is due.
    pub fn heartbeat(&mut self, now_ns: u64) {
        if self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.beat(now_ns)) {
            self.send(Notification::Alive);
        }
    }

    /// Returns when the next heartbeat is due, if there are any.
    pub fn next_beat_ns(&self) -> Option<u64> {
        self.heartbeat.as_ref().map(Heartbeat::due_ns)
    }

    /// Sends a report.
    pub fn send(&mut self, notification: Notification<'_>) {
        match &mut self.recipient {
            Recipient::None => {}
            Recipient::ServiceManager(notifier) => notifier.send(notification),
            Recipient::Supervisor(channel) => match notification {
                Notification::Ready(_) | Notification::Alive => {
                    // The channel has no reader if the supervisor has exited, which the group detects. If the
                    // channel is full, the supervisor has enough unread reports already.
                    let _unread = channel.write(b"!");
                }
                Notification::Reloading(_) | Notification::Stopping(_) => {} // the supervisor requested it
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read as _},
        os::fd::OwnedFd,
    };

    use super::*;

    #[test]
    fn four_heartbeats_are_sent_within_the_limit() {
        let (mut reader, writer) = io::pipe().unwrap();
        let recipient = Recipient::Supervisor(File::from(OwnedFd::from(writer)));
        let mut reporter = StatusReporter::new(recipient, Some(40_000_000));
        reporter.send(Notification::Ready(""));
        let due: Vec<_> = (0..100_u64)
            .map(|ms| 1_000_000_000 + ms * 1_000_000)
            .filter(|now_ns| {
                let is_due = reporter.next_beat_ns().unwrap() <= *now_ns;
                reporter.heartbeat(*now_ns);
                is_due
            })
            .collect();
        assert_eq!(due.len(), 10, "{due:?}");
        reporter.send(Notification::Stopping(""));
        drop(reporter);
        let mut sent = String::new();
        reader.read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "!".repeat(11));
    }

    #[test]
    fn without_a_limit_there_are_no_heartbeats() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let recipient = Recipient::Supervisor(File::from(OwnedFd::from(writer)));
        for mut reporter in [StatusReporter::new(recipient, None), StatusReporter::default()] {
            reporter.send(Notification::Ready("no reader"));
            reporter.heartbeat(u64::MAX);
            assert_eq!(reporter.next_beat_ns(), None);
        }
    }

    #[test]
    fn the_shortest_limit_does_not_keep_the_loop_awake() {
        let mut heartbeat = Heartbeat::new(1, 4);
        assert!(
            heartbeat.beat(0)
                && !heartbeat.beat(INTERVAL_NS_MIN - 1)
                && heartbeat.beat(INTERVAL_NS_MIN)
        );
    }
}
