//! How long a connection lingers after its last response, while the client goes on sending.
//!
//! A client that uploads without `Expect` reads the response only after it has sent everything, and a reset meanwhile
//! would destroy the response (RFC 9112 section 9.6). So the time depends on whether bytes arrive.

/// Bytes that a client must send in a period for another one. At the default of 5 s this is 13 KB/s.
pub const LINGER_BYTES_MIN: usize = 64 * 1024;

/// Bytes after which no other period begins. A client that sends faster than a network gets one.
pub const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Maximum number of periods.
pub const LINGER_PERIODS_MAX: u32 = 24;

/// The periods of a lingering connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lingering {
    /// Completed ones.
    periods: u32,
    /// Bytes received in the current one.
    bytes: usize,
    /// Bytes received in the completed ones.
    total_bytes: usize,
}

impl Lingering {
    /// Records bytes that are discarded.
    pub(super) const fn receive(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Ends a period. Returns whether another one begins.
    pub(super) const fn end_period(&mut self) -> bool {
        let is_sending = self.bytes >= LINGER_BYTES_MIN;
        self.periods += 1;
        self.total_bytes = self.total_bytes.saturating_add(self.bytes);
        self.bytes = 0;
        is_sending && self.periods < LINGER_PERIODS_MAX && self.total_bytes < LINGER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_sends_gets_further_periods_up_to_the_limit() {
        let mut lingering = Lingering::default();
        for _ in 1..LINGER_PERIODS_MAX {
            lingering.receive(LINGER_BYTES_MIN - 1);
            lingering.receive(1);
            assert!(lingering.end_period());
        }
        lingering.receive(LINGER_BYTES_MIN);
        assert!(!lingering.end_period());
    }

    #[test]
    fn a_client_that_sends_too_much_gets_none() {
        let mut lingering = Lingering::default();
        lingering.receive(LINGER_BYTES_MAX - LINGER_BYTES_MIN - 1);
        assert!(lingering.end_period());
        lingering.receive(LINGER_BYTES_MIN);
        assert!(lingering.end_period());
        lingering.receive(LINGER_BYTES_MIN);
        assert!(!lingering.end_period());
        lingering.receive(usize::MAX);
        assert!(!lingering.end_period());
    }

    #[test]
    fn a_client_that_sends_less_than_the_minimum_gets_none() {
        let mut slow = Lingering::default();
        slow.receive(LINGER_BYTES_MIN);
        assert!(slow.end_period());
        slow.receive(LINGER_BYTES_MIN - 1);
        assert!(!slow.end_period(), "each period counts its own bytes");
        assert!(!Lingering::default().end_period());
    }
}
