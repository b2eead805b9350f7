//! The numbers and everything known about them: the table, the cache, the jobs, and which connections wait.
//!
//! Pure: it computes small numbers itself. Larger ones become jobs, which the owner takes with
//! [`Numbers::next_job`], has computed on another thread, and hands back to [`Numbers::complete`].

mod gzip;
mod job;

pub(super) use gzip::GzipLookup;
pub use job::{Completed, Job};

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    app::ResponseTable,
    fibonacci::{Cache, CacheKey, CachedForm, Calculator, Mismatch, Table, digit_count},
    http::response::Body,
    metrics::{self, Executor, RejectReason, Slot},
};

/// Up to this n a number is computed at once, on the event loop: with wide vectors it takes 10 µs at most, about as
/// long as handing it to the compute thread and back.
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
    /// Maximum computations queued or running; beyond it 503. Also the maximum codings; beyond it the digits are sent.
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
    in_flight: HashMap<CacheKey, InFlight>,
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
    /// The digits that a queued job codes.
    digits: Option<Arc<[u8]>>,
}

impl InFlight {
    /// Returns a job for `waiter`.
    fn queued(key: CacheKey, digits: Option<Arc<[u8]>>, waiter: Waiter) -> Self {
        let due_ns = waiter.now_ns.saturating_add(key.n.saturating_mul(PATIENCE_NS_PER_N));
        let state = JobState::Queued { due_ns };
        Self { waiters: BTreeSet::from([waiter.id]), state, digits }
    }
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
        for key in [CacheKey::digits(n), CacheKey::gzip(n)] {
            let Some(job) = self.in_flight.get_mut(&key) else { continue };
            job.waiters.remove(&waiter);
            if job.waiters.is_empty() && matches!(job.state, JobState::Queued { .. }) {
                self.in_flight.remove(&key);
                self.cache.cancel(key);
                self.update_gauges(counters);
            }
        }
    }

    /// Returns the next job for the compute thread, unless the thread has enough to do.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        let queued = self.in_flight.iter_mut().filter_map(|(key, job)| match job.state {
            JobState::Queued { due_ns } => Some((due_ns, *key, job)),
            JobState::HandedOut => None,
        });
        let (_, CacheKey { n, .. }, job) = queued.min_by_key(|(due_ns, key, _)| (*due_ns, *key))?;
        let handed_out_n = self.handed_out_n.saturating_add(n);
        if self.handed_out_n > 0 && handed_out_n > HANDED_OUT_MAX_N {
            return None;
        }
        self.handed_out_n = handed_out_n;
        job.state = JobState::HandedOut;
        Some(match job.digits.take() {
            Some(digits) => Job::Gzip { n, digits },
            None => Job::Compute { n },
        })
    }

    /// Takes the numbers whose first result failed verification since the last call.
    pub(super) fn take_mismatches(&mut self) -> Vec<(u64, Mismatch)> {
        std::mem::take(&mut self.mismatches)
    }

    /// Caches what has been computed. Returns the connections that wait for it.
    pub(super) fn complete(&mut self, completed: &Completed, counters: &Slot) -> Vec<ConnectionId> {
        let key = completed.key;
        match key.form {
            CachedForm::Digits => {
                counters.add(metrics::COMPUTATIONS.with(Executor::Thread), 1);
                counters.observe(metrics::COMPUTATION_DURATION, completed.duration_ns, 1);
            }
            CachedForm::Gzip => counters.add(metrics::GZIP_CODINGS.with(Executor::Thread), 1),
        }
        let Some(waiters) = self.take(key) else { return Vec::new() };
        self.insert(key, &completed.content, completed.fallback, counters);
        waiters
    }

    /// Gives up a job that could not be started. Returns the connections that wait for it.
    pub(super) fn fail(&mut self, key: CacheKey, counters: &Slot) -> Vec<ConnectionId> {
        let Some(waiters) = self.take(key) else { return Vec::new() };
        if key.form == CachedForm::Digits {
            let rejected = metrics::COMPUTATIONS_REJECTED.with(RejectReason::Thread);
            counters.add(rejected, waiters.len() as u64);
        }
        self.cache.cancel(key);
        self.update_gauges(counters);
        waiters
    }

    #[inline(never)] // keeps `get` short for the numbers of the table
    fn get_computed(&mut self, n: u64, waiter: Waiter, counters: &Slot) -> Lookup<'_> {
        let key = CacheKey::digits(n);
        if let Some(job) = self.in_flight.get_mut(&key) {
            counters.add(metrics::CACHE_MISSES, 1);
            job.waiters.insert(waiter.id);
            return Lookup::Pending;
        }
        if self.cache.get(key).is_some() {
            counters.add(metrics::CACHE_HITS, 1);
            return self.cached(key);
        }
        counters.add(metrics::CACHE_MISSES, 1);
        if n > AT_ONCE_MAX_N {
            self.enqueue(key, waiter, counters)
        } else {
            self.compute(key, counters)
        }
    }

    fn cached(&mut self, key: CacheKey) -> Lookup<'_> {
        self.cache.get(key).map_or(Lookup::Busy, |content| Lookup::Ready(Self::body(content)))
    }

    fn compute(&mut self, key: CacheKey, counters: &Slot) -> Lookup<'_> {
        if !self.cache.reserve(key) {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Memory), 1);
            return Lookup::Busy;
        }
        let computed = self.calculator.compute(key.n);
        counters.add(metrics::COMPUTATIONS.with(Executor::Loop), 1);
        self.insert(key, &computed.digits, computed.fallback, counters);
        self.cached(key)
    }

    fn enqueue(&mut self, key: CacheKey, waiter: Waiter, counters: &Slot) -> Lookup<'static> {
        if self.is_full(CachedForm::Digits) {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Queue), 1);
            return Lookup::Busy;
        }
        if !self.cache.reserve(key) {
            counters.add(metrics::COMPUTATIONS_REJECTED.with(RejectReason::Memory), 1);
            return Lookup::Busy;
        }
        self.in_flight.insert(key, InFlight::queued(key, None, waiter));
        self.update_gauges(counters);
        Lookup::Pending
    }

    /// Whether no further job of this form may be queued. Codings, which take a fraction of the time of a computation,
    /// keep none from being queued.
    fn is_full(&self, form: CachedForm) -> bool {
        let max = self.max_in_flight;
        self.in_flight.len() >= max
            && self.in_flight.keys().filter(|key| key.form == form).count() >= max
    }

    /// Removes a job that has been handed out.
    fn take(&mut self, key: CacheKey) -> Option<Vec<ConnectionId>> {
        let removed = self.in_flight.remove(&key)?;
        self.handed_out_n = self.handed_out_n.saturating_sub(key.n);
        Some(removed.waiters.into_iter().collect())
    }

    /// Caches a number whose memory is reserved.
    fn insert(
        &mut self,
        key: CacheKey,
        content: &Arc<[u8]>,
        fallback: Option<Mismatch>,
        counters: &Slot,
    ) {
        if let Some(mismatch) = fallback {
            counters.add(metrics::COMPUTATION_FALLBACKS, 1);
            self.mismatches.push((key.n, mismatch));
        }
        self.cache.insert(key, Arc::clone(content));
        self.update_gauges(counters);
    }

    fn update_gauges(&self, counters: &Slot) {
        counters.set(metrics::COMPUTE_QUEUE_LENGTH, self.in_flight.len() as u64);
        counters.set(metrics::CACHE_BYTES, self.cache.bytes() as u64);
    }
}

#[cfg(test)]
mod tests;
