//! What is counted about connections beyond their number: why this server closed them of its own accord, and
//! why it stopped accepting.

use crate::metrics::Counter;

/// Connections that this server has closed because something did not happen in time, or to make room.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ConnectionsClosed {
    /// No request came.
    pub head_timeout: Counter,
    /// No further request came on a kept connection.
    pub idle_timeout: Counter,
    /// The peer did not take its answers.
    pub write_timeout: Counter,
    /// The peer did not close after its last answer.
    pub linger_timeout: Counter,
    /// All places were taken, and somebody else had come.
    pub evicted: Counter,
}

impl ConnectionsClosed {
    /// The values of the label `reason`, in the order of [`Self::counters`].
    pub const REASONS: [&str; 5] =
        ["head_timeout", "idle_timeout", "write_timeout", "linger_timeout", "evicted"];

    pub(super) const fn new() -> Self {
        Self {
            head_timeout: Counter::new(),
            idle_timeout: Counter::new(),
            write_timeout: Counter::new(),
            linger_timeout: Counter::new(),
            evicted: Counter::new(),
        }
    }

    /// The counters, in the order of [`Self::REASONS`].
    pub const fn counters(&self) -> [&Counter; Self::REASONS.len()] {
        [
            &self.head_timeout,
            &self.idle_timeout,
            &self.write_timeout,
            &self.linger_timeout,
            &self.evicted,
        ]
    }
}

/// How often accepting has paused, which leaves new connections in the kernel's queue.
#[derive(Debug, Default)]
#[repr(C)]
pub struct AcceptPauses {
    /// All places were taken.
    pub full: Counter,
    /// The system could not give a connection.
    pub error: Counter,
}

impl AcceptPauses {
    /// The values of the label `reason`, in the order of [`Self::counters`].
    pub const REASONS: [&str; 2] = ["full", "error"];

    pub(super) const fn new() -> Self {
        Self { full: Counter::new(), error: Counter::new() }
    }

    /// The counters, in the order of [`Self::REASONS`].
    pub const fn counters(&self) -> [&Counter; Self::REASONS.len()] {
        [&self.full, &self.error]
    }
}
