//! The delivery of batches that a client does not accept at once: how fast it must accept them, and how much of them
//! the kernel may hold.
//!
//! Most sockets have a small send buffer, because the kernel holds it for every client that does not read. It also
//! limits a connection to one such buffer per round trip, so the send buffer of a connection that makes progress may
//! grow with its congestion window. What all of them may hold together is the [`SendBudget`].

use std::{cell::Cell, mem, rc::Rc, time::Duration};

/// Periods into which the write timeout is divided. After each the client's progress is measured.
pub const PERIODS_PER_TIMEOUT: u64 = 8;

/// Maximum number of consecutive periods without progress. With the one before, which may have begun with some, they
/// are the write timeout.
const STALLED_PERIODS_MAX: u64 = PERIODS_PER_TIMEOUT - 1;

/// Bytes per second that a client must accept on average.
const RATE_MIN: u64 = 1024;

/// What is left of a batch, in bytes, from which a large send buffer is of use.
const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Bytes of responses that large send buffers may hold, all connections of a worker together.
const SEND_BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// What large send buffers may still hold.
#[derive(Clone, Debug)]
pub struct SendBudget(Rc<Cell<u64>>);

impl Default for SendBudget {
    fn default() -> Self {
        Self(Rc::new(Cell::new(SEND_BUDGET_BYTES)))
    }
}

/// The part of the budget that one connection has. Dropping it returns it.
#[derive(Debug)]
struct BudgetShare {
    budget: SendBudget,
    bytes: u64,
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        let left = &self.budget.0;
        left.set(left.get() + self.bytes);
    }
}

/// The delivery of one batch.
#[derive(Debug, Default)]
pub struct Delivery {
    /// When the kernel last accepted bytes, or the socket was first full.
    progress_ns: u64,
    /// Bytes passed to the kernel since the last period ended.
    sent: u64,
    /// Bytes that the kernel held when it ended.
    held: Option<u64>,
    /// Bytes acknowledged since the first period ended.
    acknowledged: u64,
    periods: u64,
    /// Length of all periods that have ended.
    elapsed_ns: u64,
    /// Periods since the last one with progress.
    stalled_periods: u64,
    share: Option<BudgetShare>,
}

impl Delivery {
    /// Returns the delivery of a batch that has just filled the socket.
    pub fn new(now_ns: u64) -> Self {
        Self { progress_ns: now_ns, ..Self::default() }
    }

    /// Records that the kernel has accepted `count` more bytes.
    pub const fn advance(&mut self, count: usize, now_ns: u64) {
        self.sent += count as u64;
        if count > 0 {
            self.progress_ns = now_ns;
        }
    }

    /// When the kernel last accepted bytes, or the socket was first full.
    pub const fn progress_ns(&self) -> u64 {
        self.progress_ns
    }

    /// Length of all periods that have ended.
    pub const fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns)
    }

    /// Takes `left` bytes from the budget, which are those left of the batch, for a large send buffer. Returns whether
    /// the send buffer should now be made large.
    pub fn claim(&mut self, left: usize, budget: &SendBudget) -> bool {
        if left < LARGE_BYTES_MIN || self.share.is_some() {
            return false;
        }
        let bytes = left as u64;
        let Some(rest) = budget.0.get().checked_sub(bytes) else { return false };
        budget.0.set(rest);
        self.share = Some(BudgetShare { budget: budget.clone(), bytes });
        true
    }

    /// Returns what [`Self::claim`] has taken. Returns whether the send buffer should now be made small.
    pub fn release(&mut self) -> bool {
        self.share.take().is_some()
    }

    /// Ends a period, after which the kernel holds `held` bytes that the client has not acknowledged. Returns whether
    /// the client is fast enough: it accepts something within the write timeout, and after the first such time
    /// `RATE_MIN` on average. Less would be wrong: a receive window may open in steps as large as the receive buffer.
    pub fn end_period(&mut self, held: u64, period_ns: u64) -> bool {
        let sent = mem::take(&mut self.sent);
        let is_stalled = match self.held.replace(held) {
            // Bytes that the receive buffer of the client accepts at once.
            None => false,
            Some(before) => {
                let acknowledged = (before + sent).saturating_sub(held);
                self.acknowledged += acknowledged;
                acknowledged == 0
            }
        };
        self.stalled_periods = if is_stalled { self.stalled_periods + 1 } else { 0 };
        self.periods += 1;
        self.elapsed_ns = self.elapsed_ns.saturating_add(period_ns);
        let counted = self.periods.saturating_sub(PERIODS_PER_TIMEOUT);
        let counted_ms = counted.saturating_mul(period_ns) / 1_000_000;
        let least = counted_ms.saturating_mul(RATE_MIN) / 1_000;
        self.stalled_periods < STALLED_PERIODS_MAX && self.acknowledged >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_NS: u64 = 1_000_000_000;

    fn budget(bytes: usize) -> SendBudget {
        SendBudget(Rc::new(Cell::new(bytes as u64)))
    }

    /// The period after which a client is too slow that accepts `bytes` in every `nth` period, if there is one.
    fn too_slow_after(bytes: u64, nth: u64) -> Option<u64> {
        let mut delivery = Delivery::default();
        (1..=200).find(|period| {
            delivery.sent += if period % nth == 0 { bytes } else { 0 };
            !delivery.end_period(20_000, PERIOD_NS)
        })
    }

    #[test]
    fn a_client_must_accept_something_within_the_timeout_and_1_kib_per_second_on_average() {
        assert_eq!(too_slow_after(0, 1), Some(PERIODS_PER_TIMEOUT));
        assert_eq!(too_slow_after(7 * RATE_MIN, STALLED_PERIODS_MAX), None);
        assert_eq!(too_slow_after(80 * RATE_MIN, STALLED_PERIODS_MAX + 1), Some(15));
        assert_eq!(too_slow_after(RATE_MIN, 1), None);
        assert_eq!(too_slow_after(1, 1), Some(PERIODS_PER_TIMEOUT + 1));
        assert_eq!(too_slow_after(RATE_MIN / 2, 1), Some(2 * PERIODS_PER_TIMEOUT));
    }

    #[test]
    fn acknowledgements_of_earlier_bytes_are_progress() {
        let mut delivery = Delivery::default();
        for left in (0..10).rev() {
            assert!(delivery.end_period(left * 3_000, PERIOD_NS));
        }
        let stalled = (1..100).find(|_| !delivery.end_period(0, PERIOD_NS));
        assert_eq!(stalled, Some(STALLED_PERIODS_MAX));
    }

    #[test]
    fn a_large_send_buffer_takes_its_bytes_from_the_budget_and_returns_them() {
        let budget = budget(10 * LARGE_BYTES_MIN);
        let (mut one, mut other) = (Delivery::default(), Delivery::default());
        assert!(!one.claim(LARGE_BYTES_MIN - 1, &budget), "a small one is enough");
        assert!(one.claim(6 * LARGE_BYTES_MIN, &budget));
        assert!(!one.claim(5 * LARGE_BYTES_MIN, &budget), "it is large already");
        assert!(!other.claim(4 * LARGE_BYTES_MIN + 1, &budget), "the budget is used up");
        assert!(other.claim(4 * LARGE_BYTES_MIN, &budget), "at the bound");
        assert_eq!(budget.0.get(), 0);
        assert!(other.release() && !other.release());
        assert_eq!(budget.0.get(), 4 * LARGE_BYTES_MIN as u64);
        drop(one);
        assert_eq!(budget.0.get(), 10 * LARGE_BYTES_MIN as u64, "of a closed connection");
    }
}
