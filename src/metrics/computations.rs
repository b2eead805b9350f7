//! What is counted about numbers that are computed: how many, how long it took, and what was kept.

use crate::metrics::{
    Counter, Gauge, add, add_each, add_gauge,
    durations::{DurationTotals, Histogram},
};

/// What one worker counts about computing.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Computations {
    /// Numbers computed by the compute thread.
    pub by_thread: Counter,
    /// Numbers computed at once, by the event loop.
    pub by_loop: Counter,
    /// How long those of the compute thread took.
    pub durations: Histogram,
    /// Numbers whose fast computation failed its check, and that were computed the plain way.
    pub fallbacks: Counter,
    /// Requests refused because too many numbers were being computed.
    pub rejected_queue: Counter,
    /// Requests refused because the numbers being sent took all the memory.
    pub rejected_memory: Counter,
    /// Requests refused because no thread could be had.
    pub rejected_thread: Counter,
    /// Numbers being computed, or waiting for it.
    pub queued: Gauge,
    /// Requests answered with a number that was kept.
    pub cache_hits: Counter,
    /// Requests for a number that was not.
    pub cache_misses: Counter,
    /// Bytes of numbers that are kept, or reserved for those being computed.
    pub cache_bytes: Gauge,
}

impl Computations {
    /// The values of the label `reason`, in the order of [`ComputationTotals::rejected`].
    pub const REJECTIONS: [&str; 3] = ["queue", "memory", "thread"];

    pub(super) const fn new() -> Self {
        Self {
            by_thread: Counter::new(),
            by_loop: Counter::new(),
            durations: Histogram::new(),
            fallbacks: Counter::new(),
            rejected_queue: Counter::new(),
            rejected_memory: Counter::new(),
            rejected_thread: Counter::new(),
            queued: Gauge::new(),
            cache_hits: Counter::new(),
            cache_misses: Counter::new(),
            cache_bytes: Gauge::new(),
        }
    }

    /// Zeroes what belongs to the owner that is gone.
    pub(super) fn claim(&self) {
        self.queued.set(0);
        self.cache_bytes.set(0);
    }
}

/// The same, summed over workers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Computations")]
pub struct ComputationTotals {
    pub by_thread: u64,
    pub by_loop: u64,
    pub durations: DurationTotals,
    pub fallbacks: u64,
    pub rejected: [u64; Computations::REJECTIONS.len()],
    pub queued: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cache_bytes: u64,
}

impl ComputationTotals {
    pub(super) const fn empty() -> Self {
        Self {
            by_thread: 0,
            by_loop: 0,
            durations: DurationTotals::empty(),
            fallbacks: 0,
            rejected: [0; Computations::REJECTIONS.len()],
            queued: 0,
            cache_hits: 0,
            cache_misses: 0,
            cache_bytes: 0,
        }
    }

    pub(super) fn add_counters(&mut self, counted: &Computations) {
        add(&mut self.by_thread, &counted.by_thread);
        add(&mut self.by_loop, &counted.by_loop);
        counted.durations.add_to(&mut self.durations);
        add(&mut self.fallbacks, &counted.fallbacks);
        let rejected =
            [&counted.rejected_queue, &counted.rejected_memory, &counted.rejected_thread];
        add_each(&mut self.rejected, rejected);
        add(&mut self.cache_hits, &counted.cache_hits);
        add(&mut self.cache_misses, &counted.cache_misses);
    }

    pub(super) fn add_gauges(&mut self, counted: &Computations) {
        add_gauge(&mut self.queued, &counted.queued);
        add_gauge(&mut self.cache_bytes, &counted.cache_bytes);
    }
}
