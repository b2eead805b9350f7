//! The numbers and everything known about them: the table, the cache, the jobs, and which connections wait.
//!
//! Pure: it computes small numbers itself. Larger ones become jobs, which the owner takes with
//! [`Numbers::next_job`], has computed on another thread, and hands back to [`Numbers::complete`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    app::ResponseTable,
    fibonacci::{Cache, Calculator, Computed, Mismatch, Table, digit_count},
    http::response::Body,
    metrics::{self, Executor, RejectReason, Slot},
};

/// Up to this n a number is computed at once, on the event loop: with wide vectors it takes 10 µs at most, about as long as
/// handing it to the compute thread and back.
pub const AT_ONCE_MAX_N: u64 = 20_000;

/// A cached number of at least this many digits is shared with the responses that carry it, not copied.
const SHARED_FROM: usize = 4 * 1024;

/// How long a job may wait before it runs ahead of a smaller one, in nanoseconds per n: several times what it
/// takes to compute. So small numbers overtake large ones, and no number waits for ever.
const PATIENCE_NS_PER_N: u64 = 20;

/// Sum of the n of jobs that are handed out while others run, about 0.1 ms of computing. It keeps the compute thread
/// busy while the loop wakes up for the job before, and delays a more urgent job by no more than that.
const HANDED_OUT_MAX_N: u64 = 200_000;

/// Bounds on the numbers.
#[derive(Clone, Copy, Debug)]
pub struct NumberLimits {
    /// Largest n; beyond it 422.
    pub max_n: u64,
    /// Maximum computations queued or running; beyond it 503.
    pub max_in_flight: usize,
    /// Maximum memory for computed numbers in bytes; 503 while the numbers being sent take all of it.
    pub bytes: usize,
}

/// Identifies a connection for as long as the worker runs: a key is reused, an identifier is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Its key among the connections of this worker.
    pub key: usize,
    /// Number of identifiers before it, modulo 2^32.
    pub generation: u32,
}

/// What is known about F(n).
#[derive(Debug)]
pub(super) enum Lookup<'a> {
    /// Its digits.
    Ready(Body<'a>),
    /// It is being computed, and the connection is noted as waiting for it.
    Pending,
    /// It cannot be computed now.
    Busy,
}

/// A number to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its index.
    pub n: u64,
}

/// A job that has been done.
#[derive(Debug)]
pub struct Completed {
    /// The job.
    pub job: Job,
    /// F(n).
    pub computed: Computed,
    /// Time it took, in nanoseconds.
    pub duration_ns: u64,
}

/// A connection that needs a number, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) id: ConnectionId,
    pub(super) now_ns: u64,
}

/// The numbers: those of the table, those cached, and those being computed.
#[derive(Debug)]
pub(super) struct Numbers {
    table: ResponseTable,
    cache: Cache,
    /// Computes small numbers at once.
    calculator: Calculator,
    /// The jobs by n. Their memory is reserved in the cache.
    in_flight: HashMap<u64, InFlight>,
    max_in_flight: usize,
    /// Sum of the n of the jobs that have been handed out.
    handed_out_n: u64,
    /// The numbers whose first result was wrong, for the log.
    mismatches: Vec<(u64, Mismatch)>,
}

/// A job, and the connections that wait for it.
#[derive(Debug)]
struct InFlight {
    /// A set, because all may disconnect at the same time.
    waiters: BTreeSet<ConnectionId>,
    state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Queued { due_ns: u64 },
    HandedOut,
}

impl Numbers {
    pub(super) fn new(table: ResponseTable, limits: NumberLimits) -> Self {
        Self {
            calculator: Calculator::new(table.numbers().clone()),
            table,
            cache: Cache::new(limits.bytes),
            in_flight: HashMap::new(),
            max_in_flight: limits.max_in_flight,
            handed_out_n: 0,
            mismatches: Vec::new(),
        }
    }

    /// The numbers that are not computed.
    pub(super) const fn table(&self) -> &Table {
        self.table.numbers()
    }

    /// Looks F(n) up, or has it computed for `waiter`.
    #[inline]
    pub(super) fn get(&mut self, n: u64, waiter: Waiter, counters: &Slot) -> Lookup<'_> {
        if n > self.table.numbers().last() {
            return self.get_computed(n, waiter, counters);
        }
        Lookup::Ready(self.table.get(n).unwrap_or(Body::Bytes(b"")))
    }

    /// Number of digits of F(n), without computing it.
    pub(super) fn digit_count(&self, n: u64) -> usize {
        self.table.get(n).map_or_else(|| digit_count(n), |body| body.len())
    }

    /// Records that a connection no longer waits for F(n). A job that no connection waits for is dropped from the
    /// queue; one that has been handed out runs to its end.
    pub(super) fn cancel(&mut self, n: u64, waiter: ConnectionId, counters: &Slot) {
        let Some(job) = self.in_flight.get_mut(&n) else { return };
        job.waiters.remove(&waiter);
        if job.waiters.is_empty() && matches!(job.state, JobState::Queued { .. }) {
            self.in_flight.remove(&n);
            self.cache.cancel(n);
            self.update_gauges(counters);
        }
    }

    /// Returns the next job for the compute thread, unless the thread has enough to do.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        let queued = self.in_flight.iter_mut().filter_map(|(n, job)| match job.state {
            JobState::Queued { due_ns } => Some((due_ns, *n, job)),
            JobState::HandedOut => None,
        });
        let (_, n, job) = queued.min_by_key(|(due_ns, n, _)| (*due_ns, *n))?;
        let handed_out_n = self.handed_out_n.saturating_add(n);
        if self.handed_out_n > 0 && handed_out_n > HANDED_OUT_MAX_N {
            return None;
        }
        self.handed_out_n = handed_out_n;
        job.state = JobState::HandedOut;
        Some(Job { n })
    }

    /// Takes the numbers whose first result failed verification since the last call.
    pub(super) fn take_mismatches(&mut self) -> Vec<(u64, Mismatch)> {
        std::mem::take(&mut self.mismatches)
    }

    /// Caches a completed number. Returns the connections that wait for it.
    pub(super) fn complete(&mut self, completed: &Completed, counters: &Slot) -> Vec<ConnectionId> {
        counters.add(metrics::COMPUTATIONS.with(Executor::Thread), 1);
        counters.observe(metrics::COMPUTATION_DURATION, completed.duration_ns, 1);
        let Some(waiters) = self.take(completed.job) else { return Vec::new() };
        self.insert(completed.job.n, &completed.computed, counters);
        waiters
    }

    /// Gives up a job that could not be started. Returns the connections that wait for it.
    pub(super) fn fail(&mut self, job: Job, counters: &Slot) -> Vec<ConnectionId> {
        let Some(waiters) = self.take(job) else { return Vec::new() };
        let rejected = metrics::COMPUTATIONS_REJECTED.with(RejectReason::Thread);
        counters.add(rejected, waiters.len() as u64);
        self.cache.cancel(job.n);
        self.update_gauges(counters);
        waiters
    }

    #[inline(never)] // keeps `get` short for the numbers of the table
    fn get_computed(&mut self, n: u64, waiter: Waiter, counters: &Slot) -> Lookup<'_> {
        if let Some(job) = self.in_flight.get_mut(&n) {
            counters.add(metrics::CACHE_MISSES, 1);
            job.waiters.insert(waiter.id);
            return Lookup::Pending;
        }
        if self.cache.get(n).is_some() {
            counters.add(metrics::CACHE_HITS, 1);
            return self.cached(n);
        }
        counters.add(metrics::CACHE_MISSES, 1);
        if n > AT_ONCE_MAX_N {
            self.enqueue(n, waiter, counters)
        } else {
            self.compute(n, counters)
        }
    }

    fn cached(&mut self, n: u64) -> Lookup<'_> {
        match self.cache.get(n) {
            Some(digits) if digits.len() < SHARED_FROM => Lookup::Ready(Body::Bytes(digits)),
            Some(digits) => Lookup::Ready(Body::Shared(digits)),
            None => Lookup::Busy,
        }
    }

    fn compute(&mut self, n: u64, counters: &Slot) -> Lookup<'_> {
        if !self.cache.reserve(n) {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Memory), 1);
            return Lookup::Busy;
        }
        let computed = self.calculator.compute(n);
        counters.add(metrics::COMPUTATIONS.with(Executor::Loop), 1);
        self.insert(n, &computed, counters);
        self.cached(n)
    }

    fn enqueue(&mut self, n: u64, waiter: Waiter, counters: &Slot) -> Lookup<'static> {
        if self.in_flight.len() >= self.max_in_flight {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Queue), 1);
            return Lookup::Busy;
        }
        if !self.cache.reserve(n) {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Memory), 1);
            return Lookup::Busy;
        }
        let due_ns = waiter.now_ns.saturating_add(n.saturating_mul(PATIENCE_NS_PER_N));
        let state = JobState::Queued { due_ns };
        self.in_flight.insert(n, InFlight { waiters: BTreeSet::from([waiter.id]), state });
        self.update_gauges(counters);
        Lookup::Pending
    }

    /// Removes a job that has been handed out.
    fn take(&mut self, job: Job) -> Option<Vec<ConnectionId>> {
        let removed = self.in_flight.remove(&job.n)?;
        self.handed_out_n = self.handed_out_n.saturating_sub(job.n);
        Some(removed.waiters.into_iter().collect())
    }

    /// Caches a number whose memory is reserved.
    fn insert(&mut self, n: u64, computed: &Computed, counters: &Slot) {
        if let Some(mismatch) = computed.fallback {
            counters.add(metrics::COMPUTATION_FALLBACKS, 1);
            self.mismatches.push((n, mismatch));
        }
        self.cache.insert(n, Arc::clone(&computed.digits));
        self.update_gauges(counters);
    }

    fn update_gauges(&self, counters: &Slot) {
        counters.set(metrics::COMPUTE_QUEUE_LENGTH, self.in_flight.len() as u64);
        counters.set(metrics::CACHE_BYTES, self.cache.bytes() as u64);
    }
}

#[cfg(test)]
mod tests;
