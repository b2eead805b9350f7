//! What one worker counts: an array of atomic integers with a single writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{
    Process,
    families::{self, CELLS},
    family::{
        Metric,
        kind::{self, Cumulative, Level, MetricKind},
    },
    histogram::bucket_of,
    ids::{SCHEMA, is_gauge},
};

/// Everything that one worker counts.
///
/// It is made to be placed in memory that several processes map: it has no pointers, every value of a cell is
/// valid, and all bytes zero is the empty state.
///
/// Counters belong to the slot: the next owner continues from the values it finds, so totals never fall. Gauges
/// belong to the owner, and are cleared for the next one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot {
    cells: [AtomicU64; CELLS],
}

impl Slot {
    /// A slot without an owner in which nothing is counted.
    pub const fn new() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; CELLS] }
    }

    /// Counts `n` more.
    #[inline]
    pub fn add<K: Cumulative>(&self, counter: Metric<K>, n: u64) {
        self.add_to_cell(counter.start(), n);
    }

    /// Sets a level.
    #[inline]
    pub fn set<K: Level>(&self, gauge: Metric<K>, value: u64) {
        if let Some(cell) = self.cells.get(gauge.start()) {
            cell.store(value, Relaxed);
        }
    }

    /// Raises a level by one.
    #[inline]
    pub fn increment(&self, gauge: Metric<kind::Gauge>) {
        self.set(gauge, self.get(gauge).saturating_add(1));
    }

    /// Lowers a level by one, unless it is zero: an error in the bookkeeping must not show as 2^64 - 1.
    #[inline]
    pub fn decrement(&self, gauge: Metric<kind::Gauge>) {
        self.set(gauge, self.get(gauge).saturating_sub(1));
    }

    /// Counts `times` observations of `duration_ns` nanoseconds each.
    #[inline]
    pub fn observe(&self, histogram: Metric<kind::Histogram>, duration_ns: u64, times: u64) {
        let sum = histogram.start() + kind::Histogram::KIND.cells() - 1;
        self.add_to_cell(histogram.start() + bucket_of(duration_ns), times);
        self.add_to_cell(sum, duration_ns.saturating_mul(times));
    }

    /// Counts `times` observations that add up to `sum`.
    #[inline]
    pub fn summarize(&self, summary: Metric<kind::Summary>, sum: u64, times: u64) {
        self.add_to_cell(summary.start(), sum);
        self.add_to_cell(summary.start() + 1, times);
    }

    /// Records the figures of the owner, which has recorded `cpu_recorded_ns` of its CPU time before.
    pub(super) fn record_process(&self, process: &Process, cpu_recorded_ns: u64) {
        let cpu_time_ns = process.cpu_time_ns.saturating_sub(cpu_recorded_ns);
        self.add(families::PROCESS_CPU, cpu_time_ns);
        self.set(families::PROCESS_OPEN_FDS, process.open_fds);
        self.set(families::PROCESS_MAX_FDS, process.max_fds);
        self.set(families::PROCESS_VIRTUAL_MEMORY, process.virtual_memory_bytes);
        self.set(families::PROCESS_RESIDENT_MEMORY, process.resident_memory_bytes);
        self.set(families::PROCESS_START_TIME, process.start_time_ns);
    }

    /// The value of a single cell.
    #[inline]
    pub fn get<K: MetricKind>(&self, metric: Metric<K>) -> u64 {
        self.cells.get(metric.start()).map_or(0, |cell| cell.load(Relaxed))
    }

    /// All cells.
    pub(super) const fn cells(&self) -> &[AtomicU64; CELLS] {
        &self.cells
    }

    /// The values of all cells.
    pub(super) fn values(&self) -> [u64; CELLS] {
        self.cells.each_ref().map(|cell| cell.load(Relaxed))
    }

    /// Moves all values of another slot, whose gauges are zero or those of the owner of this slot. Call it as the owner
    /// of both.
    pub(super) fn absorb(&self, other: &Self) {
        for ((cell, from), id) in self.cells.iter().zip(&other.cells).zip(SCHEMA.ids) {
            let value = from.swap(0, Relaxed);
            if !is_gauge(*id) {
                cell.store(cell.load(Relaxed).wrapping_add(value), Relaxed);
            } else if value != 0 {
                cell.store(value, Relaxed);
            }
        }
    }

    /// Adds to a cell. A second writer would lose counts: `fetch_add` would prevent that, at the price of a
    /// locked instruction on every request.
    #[inline]
    fn add_to_cell(&self, place: usize, n: u64) {
        if let Some(cell) = self.cells.get(place) {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{BUCKETS, Handler, Snapshot};

    #[test]
    fn a_gauge_never_falls_below_zero() {
        let slot = Slot::new();
        slot.increment(families::CONNECTIONS);
        slot.increment(families::CONNECTIONS);
        slot.decrement(families::CONNECTIONS);
        assert_eq!(slot.get(families::CONNECTIONS), 1);
        slot.decrement(families::CONNECTIONS);
        slot.decrement(families::CONNECTIONS);
        assert_eq!(slot.get(families::CONNECTIONS), 0);
    }

    #[test]
    fn a_batch_is_that_many_observations() {
        let slot = Slot::new();
        let of = |handler| families::REQUEST_DURATION.with(handler);
        slot.observe(of(Handler::Readyz), 2_500, 16);
        slot.observe(of(Handler::Readyz), 2_501, 1);
        slot.observe(of(Handler::None), u64::MAX, 1);
        let snapshot = Snapshot::of([&slot].into_iter());
        let readyz = snapshot.values(of(Handler::Readyz));
        assert_eq!((readyz[1], readyz[2], readyz[BUCKETS.len()]), (16, 1, 42_501));
        assert_eq!(readyz.iter().take(BUCKETS.len()).sum::<u64>(), 17);
        assert_eq!(snapshot.values(of(Handler::None))[BUCKETS.len() - 1], 1);
        assert!(snapshot.values(of(Handler::Fibonacci)).iter().all(|count| *count == 0));
    }

    #[test]
    fn cpu_time_continues_from_owner_to_owner() {
        let slot = Slot::new();
        let record = |cpu_time_ns, recorded_ns| {
            let process = Process { cpu_time_ns, ..Process::default() };
            slot.record_process(&process, recorded_ns);
        };
        record(5, 0);
        record(8, 5);
        assert_eq!(slot.get(families::PROCESS_CPU), 8);
        record(3, 0);
        record(2, 3);
        assert_eq!(
            slot.get(families::PROCESS_CPU),
            11,
            "a clock that goes backwards takes nothing away"
        );
    }
}
