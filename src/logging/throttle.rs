//! Rate limit for warnings about a condition that persists.

use log::warn;

/// Minimum time between two warnings.
const INTERVAL_NS: u64 = 10_000_000_000;

/// Logs a warning at most once per interval, however often the condition is met.
#[derive(Debug, Default)]
pub struct LogThrottle {
    silent_until_ns: u64,
}

impl LogThrottle {
    /// Logs a warning unless one was logged within the interval. `message` is called only if it is logged.
    pub fn warn(&mut self, now_ns: u64, message: impl FnOnce() -> String) {
        if now_ns >= self.silent_until_ns {
            self.silent_until_ns = now_ns.saturating_add(INTERVAL_NS);
            warn!("{}", message());
        }
    }
}
