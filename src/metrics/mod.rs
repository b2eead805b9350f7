//! What the server counts, and the sum of it over all workers.
//!
//! One worker owns one [`Slot`] and is the only one to write it, so a counter is a plain load and a plain
//! store, never a locked instruction. Whoever answers a scrape takes a [`Snapshot`] over the slots of all
//! workers, and [`exposition`] renders it. Label values are enums and enums are array indices: no string
//! keys, no hashing, and a cardinality that is fixed when the program is compiled.
//!
//! Where the slots live, in private or in shared memory, is the business of [`shared`], the one part of this
//! module that knows the system. Not here: who calls the clock, and what the operating system counts for us
//! ([`Process`] is handed in as plain data).
//!
//! To add a metric: a field at the end of [`Slot`], one in [`Snapshot`], and a family in [`exposition`].

pub mod computations;
pub mod connections;
mod counter;
pub mod durations;
pub mod exposition;
pub mod format;
pub mod process;
pub mod requests;
pub mod shared;
mod text;

pub use {
    counter::Counter, counter::Gauge, durations::Durations, format::Format, process::Process,
    requests::Handler, requests::Requests, shared::Counters,
};

use std::sync::atomic::AtomicU64;

use crate::http::Reject;
use {
    computations::{ComputationTotals, Computations},
    connections::{AcceptPauses, ConnectionsClosed},
    durations::DurationTotals,
    process::ProcessGauges,
    requests::SERIES,
};

/// Room for one [`Slot`], in bytes: a page, so that two workers never write to the same cache line, less a word
/// that [`shared`] needs.
pub const SLOT_BYTES_MAX: usize = 4096 - size_of::<AtomicU64>();

const _: () = assert!(size_of::<Slot>() <= SLOT_BYTES_MAX);
const _: () = assert!(align_of::<Slot>() == align_of::<AtomicU64>());

/// Everything that one worker counts.
///
/// It is made to lie in memory shared by several processes: atomic integers and nothing else, no pointers,
/// and all bytes zero is the valid empty state. The order of the fields (and of [`SERIES`]) is therefore a
/// layout that processes of different versions may share: new fields go to the end.
///
/// Counters belong to the slot: the next owner goes on from the values it finds, so that totals never
/// fall. Gauges belong to the owner, and are zeroed by [`claim`](Self::claim).
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// Requests answered, by handler, method and status.
    pub requests: Requests,
    /// How long answers took, by handler.
    pub request_durations: Durations,
    /// Bytes of requests received, head and body, as they were on the wire.
    pub request_sizes: Sizes,
    /// Bytes of responses made, head and body, as they go on the wire.
    pub response_sizes: Sizes,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// 1 while the slot has an owner: the sum is the number of workers.
    pub workers: Gauge,
    /// How often the slot's owner was replaced after dying.
    pub worker_restarts: Counter,
    /// Requests refused before they reached a route, in the order of [`Reject::ALL`].
    pub rejections: [Counter; Reject::ALL.len()],
    /// Connections that this server has closed of its own accord.
    pub connections_closed: ConnectionsClosed,
    /// How often accepting has paused.
    pub accept_pauses: AcceptPauses,
    /// Turns that ended with requests of the same peer left.
    pub connection_yields: Counter,
    /// Numbers beyond the table.
    pub computations: Computations,
    /// What the operating system counts for the owner.
    pub process: ProcessGauges,
    /// Lines of the access log that were not taken.
    pub access_log_dropped: Counter,
}

impl Slot {
    /// A slot without an owner that has counted nothing.
    pub const fn new() -> Self {
        Self {
            requests: Requests::new(),
            request_durations: Durations::new(),
            request_sizes: Sizes::new(),
            response_sizes: Sizes::new(),
            connections: Gauge::new(),
            connections_accepted: Counter::new(),
            workers: Gauge::new(),
            worker_restarts: Counter::new(),
            rejections: [const { Counter::new() }; Reject::ALL.len()],
            connections_closed: ConnectionsClosed::new(),
            accept_pauses: AcceptPauses::new(),
            connection_yields: Counter::new(),
            computations: Computations::new(),
            process: ProcessGauges::new(),
            access_log_dropped: Counter::new(),
        }
    }

    /// Counts a refusal.
    pub fn reject(&self, reject: Reject) {
        if let Some(counter) = self.rejections.get(reject as usize) {
            counter.add(1);
        }
    }

    /// Starts the life of a new owner, who calls this once before anything else: counters go on, gauges
    /// begin anew.
    pub fn claim(&self) {
        self.connections.set(0);
        self.computations.claim();
        self.process.claim();
        self.workers.set(1);
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// Sizes of messages: how many there were, and how many bytes in all.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Sizes {
    bytes: Counter,
    count: Counter,
}

impl Sizes {
    /// No message yet.
    pub const fn new() -> Self {
        Self { bytes: Counter::new(), count: Counter::new() }
    }

    /// Counts `count` messages of `bytes` in all, as they come in one batch.
    #[inline]
    pub fn add(&self, bytes: u64, count: u64) {
        self.bytes.add(bytes);
        self.count.add(count);
    }
}

/// The sum over the slots of all workers at one moment, as plain numbers.
///
/// Each number is exact. Numbers that the owner of a slot writes one after the other may be one batch of
/// requests apart, since the owner goes on counting while it is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests answered, in the order of [`SERIES`].
    pub requests: [u64; SERIES.len()],
    /// Durations, in the order of [`Handler::ALL`].
    pub request_durations: [DurationTotals; Handler::ALL.len()],
    /// Sizes of requests.
    pub request_sizes: SizeTotals,
    /// Sizes of responses.
    pub response_sizes: SizeTotals,
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Workers alive now.
    pub workers: u64,
    /// Workers replaced after dying.
    pub worker_restarts: u64,
    /// Requests refused, in the order of [`Reject::ALL`].
    pub rejections: [u64; Reject::ALL.len()],
    /// Connections closed by this server, in the order of [`ConnectionsClosed::REASONS`].
    pub connections_closed: [u64; ConnectionsClosed::REASONS.len()],
    /// Pauses in accepting, in the order of [`AcceptPauses::REASONS`].
    pub accept_pauses: [u64; AcceptPauses::REASONS.len()],
    /// Turns that ended with requests of the same peer left.
    pub connection_yields: u64,
    /// Numbers beyond the table.
    pub computations: ComputationTotals,
    /// What the operating system counts for the workers.
    pub process: Process,
    /// Lines of the access log that were not taken.
    pub access_log_dropped: u64,
    /// Whether the slots summed up are those of every process on the port. No slot knows that: who maps
    /// the shared memory sets it.
    pub is_shared: bool,
}

impl Snapshot {
    /// The sum over `slots`, all of which have a living owner.
    #[expect(single_use_lifetimes, reason = "the elided form is not stable in impl Trait")]
    pub fn of<'a>(slots: impl Iterator<Item = &'a Slot>) -> Self {
        let mut snapshot = Self::empty();
        for slot in slots {
            snapshot.add_counters(slot);
            snapshot.add_gauges(slot);
        }
        snapshot
    }

    /// The sum over no slot at all.
    pub const fn empty() -> Self {
        Self {
            requests: [0; SERIES.len()],
            request_durations: [DurationTotals::empty(); Handler::ALL.len()],
            request_sizes: SizeTotals { bytes: 0, count: 0 },
            response_sizes: SizeTotals { bytes: 0, count: 0 },
            connections: 0,
            connections_accepted: 0,
            workers: 0,
            worker_restarts: 0,
            rejections: [0; Reject::ALL.len()],
            connections_closed: [0; ConnectionsClosed::REASONS.len()],
            accept_pauses: [0; AcceptPauses::REASONS.len()],
            connection_yields: 0,
            computations: ComputationTotals::empty(),
            process: Process::empty(),
            access_log_dropped: 0,
            is_shared: false,
        }
    }

    /// Adds what `slot` has counted, also for owners that are gone.
    pub fn add_counters(&mut self, slot: &Slot) {
        slot.requests.add_to(&mut self.requests);
        slot.request_durations.add_to(&mut self.request_durations);
        self.request_sizes.add(&slot.request_sizes);
        self.response_sizes.add(&slot.response_sizes);
        add(&mut self.connections_accepted, &slot.connections_accepted);
        add(&mut self.worker_restarts, &slot.worker_restarts);
        add_each(&mut self.rejections, &slot.rejections);
        add_each(&mut self.connections_closed, slot.connections_closed.counters());
        add_each(&mut self.accept_pauses, slot.accept_pauses.counters());
        add(&mut self.connection_yields, &slot.connection_yields);
        self.computations.add_counters(&slot.computations);
        self.process.add_counters(&slot.process);
        add(&mut self.access_log_dropped, &slot.access_log_dropped);
    }

    /// Adds the state of the owner of `slot`, who must be alive: a dead one has no connections.
    pub fn add_gauges(&mut self, slot: &Slot) {
        add_gauge(&mut self.connections, &slot.connections);
        add_gauge(&mut self.workers, &slot.workers);
        self.computations.add_gauges(&slot.computations);
        self.process.add_gauges(&slot.process);
    }
}

/// Sizes of messages, summed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeTotals {
    /// Bytes of all messages.
    pub bytes: u64,
    /// Number of messages.
    pub count: u64,
}

impl SizeTotals {
    fn add(&mut self, sizes: &Sizes) {
        add(&mut self.bytes, &sizes.bytes);
        add(&mut self.count, &sizes.count);
    }
}

/// Adds each counter to the total in the same place.
#[expect(single_use_lifetimes, reason = "the elided form is not stable in impl Trait")]
fn add_each<'a>(totals: &mut [u64], counters: impl IntoIterator<Item = &'a Counter>) {
    for (total, counter) in totals.iter_mut().zip(counters) {
        add(total, counter);
    }
}

/// Adds a counter to its total. Sums wrap around, as counters do: what lies in shared memory must not be able
/// to stop a scrape.
fn add(total: &mut u64, counter: &Counter) {
    *total = total.wrapping_add(counter.get());
}

/// Adds a gauge to its total.
fn add_gauge(total: &mut u64, gauge: &Gauge) {
    *total = total.wrapping_add(gauge.get());
}

/// Where the running program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of the package.
    pub version: &'static str,
    /// Revision of the source it was built from.
    pub revision: &'static str,
    /// Version of the compiler that built it.
    pub rustc: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Method, Status};

    #[test]
    fn a_snapshot_is_the_sum_over_slots() {
        let slots = [Slot::new(), Slot::new(), Slot::new()];
        for (slot, n) in slots.iter().zip([1, 20, 300]) {
            slot.claim();
            slot.requests.add(Handler::Fibonacci, Some(Method::Get), Status::Ok, n);
            slot.request_durations.observe(Handler::Fibonacci, 1_000, n);
            slot.request_sizes.add(100 * n, n);
            slot.response_sizes.add(1000 * n, n);
            slot.connections.add(n);
            slot.connections_accepted.add(2 * n);
            slot.worker_restarts.add(3 * n);
            slot.reject(Reject::HeadTimeout);
            slot.connections_closed.evicted.add(n);
            slot.accept_pauses.error.add(n);
            slot.connection_yields.add(n);
            slot.access_log_dropped.add(2 * n);
        }
        let snapshot = Snapshot::of(slots.iter());
        assert_eq!(snapshot.requests.iter().sum::<u64>(), 321);
        assert_eq!(snapshot.request_durations[0].count(), 321);
        assert_eq!(snapshot.request_durations[0].sum_ns, 321_000);
        assert_eq!(snapshot.request_sizes, SizeTotals { bytes: 32_100, count: 321 });
        assert_eq!(snapshot.response_sizes, SizeTotals { bytes: 321_000, count: 321 });
        assert_eq!((snapshot.connections, snapshot.connections_accepted), (321, 642));
        assert_eq!((snapshot.workers, snapshot.worker_restarts), (3, 963));
        assert_eq!(snapshot.rejections[Reject::HeadTimeout as usize], 3);
        assert_eq!(
            (snapshot.connections_closed, snapshot.accept_pauses),
            ([0, 0, 0, 0, 321], [0, 321])
        );
        assert_eq!((snapshot.connection_yields, snapshot.access_log_dropped), (321, 642));
        assert_eq!(Snapshot::of([].iter()), Snapshot::empty());
    }

    #[test]
    fn a_new_owner_keeps_the_counters_and_not_the_gauges() {
        let slot = Slot::default();
        assert_eq!(Snapshot::of([&slot].into_iter()), Snapshot::empty());
        slot.claim();
        slot.connections.add(7);
        slot.connections_accepted.add(9);
        slot.claim();
        let snapshot = Snapshot::of([&slot].into_iter());
        assert_eq!(
            (snapshot.connections, snapshot.connections_accepted, snapshot.workers),
            (0, 9, 1)
        );
    }
}
