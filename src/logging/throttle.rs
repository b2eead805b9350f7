//! Warnings about states that last.

use log::warn;

/// The least time between two complaints.
const PAUSE_NS: u64 = 10_000_000_000;

/// Complains about a state that lasts, a line now and then and not one for each time it is met.
#[derive(Debug, Default)]
pub struct LogThrottle {
    silent_until_ns: u64,
}

impl LogThrottle {
    /// Complains, unless that was done a short while ago. `message` is asked for only if it is told.
    pub fn tell(&mut self, now_ns: u64, message: impl FnOnce() -> String) {
        if now_ns >= self.silent_until_ns {
            self.silent_until_ns = now_ns.saturating_add(PAUSE_NS);
            warn!("{}", message());
        }
    }
}
