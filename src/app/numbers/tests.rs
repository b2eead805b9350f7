//! The owner of numbers, jobs and waiters, without a thread.

use super::*;
use crate::metrics::{Claim, Snapshot};

const LIMITS: NumberLimits =
    NumberLimits { max_n: 10_000_000, max_in_flight: 64, bytes: 64 * 1024 * 1024 };

fn numbers(limits: NumberLimits) -> (Numbers, Claim) {
    (Numbers::new(ResponseTable::new(100).unwrap(), limits), Claim::private())
}

fn id(key: usize) -> ConnectionId {
    ConnectionId { key, generation: 1 }
}

fn waiter(key: usize, now_ns: u64) -> Waiter {
    Waiter { id: id(key), now_ns }
}

fn queued(snapshot: &Snapshot) -> u64 {
    snapshot.get(metrics::COMPUTE_QUEUE_LENGTH)
}

fn misses_and_hits(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.get(metrics::CACHE_MISSES), snapshot.get(metrics::CACHE_HITS))
}

impl Numbers {
    /// Looks F(n) up for a connection; returns whether it is ready, pending or busy.
    fn look_up(&mut self, n: u64, key: usize, counters: &Claim) -> &'static str {
        match self.get(n, waiter(key, 0), counters) {
            Lookup::Ready(_) => "ready",
            Lookup::Pending => "pending",
            Lookup::Busy => "busy",
        }
    }

    fn done(&mut self, job: Job, counters: &Claim) -> Vec<ConnectionId> {
        self.complete(&job.run(&mut Calculator::default()), counters)
    }
}

#[test]
fn small_numbers_are_computed_at_once_and_cached() {
    let (mut numbers, counters) = numbers(LIMITS);
    for n in [0, 100, 101, AT_ONCE_MAX_N, AT_ONCE_MAX_N] {
        assert_eq!(numbers.look_up(n, 0, &counters), "ready");
    }
    let snapshot = counters.snapshot();
    assert_eq!((snapshot.values(metrics::COMPUTATIONS), queued(&snapshot)), (&[0, 2][..], 0));
    assert_eq!(misses_and_hits(&snapshot), (2, 1));
    let bytes = Cache::cost(CacheKey::digits(101)) + Cache::cost(CacheKey::digits(AT_ONCE_MAX_N));
    assert_eq!(snapshot.get(metrics::CACHE_BYTES), bytes as u64);
    assert_eq!(numbers.next_job(), None);
}

#[test]
fn long_numbers_are_shared_and_short_ones_copied() {
    let (mut numbers, counters) = numbers(LIMITS);
    for (n, is_shared) in [(100, false), (19_000, false), (AT_ONCE_MAX_N, true)] {
        let Lookup::Ready(body) = numbers.get(n, waiter(0, 0), &counters) else {
            panic!("F({n}) is computed at once")
        };
        assert_eq!(matches!(body, Body::Shared(_)), is_shared, "F({n}), {} digits", body.len());
    }
}

#[test]
fn a_number_that_several_connections_wait_for_is_computed_once() {
    let (mut numbers, counters) = numbers(LIMITS);
    for key in 0..3 {
        assert_eq!(numbers.look_up(30_000, key, &counters), "pending");
    }
    let job = numbers.next_job().unwrap();
    assert_eq!((job.clone(), numbers.next_job()), (Job::Compute { n: 30_000 }, None));
    assert_eq!(numbers.look_up(30_000, 3, &counters), "pending", "also while it is computed");
    assert_eq!(queued(&counters.snapshot()), 1);
    assert_eq!(numbers.done(job, &counters), [0, 1, 2, 3].map(id));
    assert_eq!(numbers.look_up(30_000, 4, &counters), "ready");
    let snapshot = counters.snapshot();
    assert_eq!((snapshot.values(metrics::COMPUTATIONS), queued(&snapshot)), (&[1, 0][..], 0));
    assert_eq!(misses_and_hits(&snapshot), (4, 1));
}

#[test]
fn small_jobs_overtake_large_ones_and_none_waits_for_ever() {
    let (mut numbers, counters) = numbers(LIMITS);
    for (n, now_ns) in [(1_000_000, 0), (210_000, 1), (220_000, 500_000_000)] {
        numbers.get(n, waiter(0, now_ns), &counters);
    }
    let mut order = Vec::new();
    while let Some(job) = numbers.next_job() {
        assert_eq!(numbers.next_job(), None, "one at a time");
        let n = job.key().n;
        numbers.done(job, &counters);
        order.push(n);
    }
    assert_eq!(order, [210_000, 1_000_000, 220_000]);
}

#[test]
fn short_jobs_are_handed_out_ahead_within_a_bound() {
    let (mut numbers, counters) = numbers(LIMITS);
    for (key, n) in [50_000, 60_000, 70_000, 80_000].into_iter().enumerate() {
        numbers.look_up(n, key, &counters);
    }
    let jobs: Vec<Job> = std::iter::from_fn(|| numbers.next_job()).collect();
    assert_eq!(
        jobs,
        [50_000, 60_000, 70_000].map(|n| Job::Compute { n }),
        "no more than 200,000 in all"
    );
    numbers.done(jobs[0].clone(), &counters);
    assert_eq!(numbers.next_job(), None, "210,000 in all");
    numbers.done(jobs[1].clone(), &counters);
    assert_eq!(numbers.next_job(), Some(Job::Compute { n: 80_000 }));
    for n in [70_000, 80_000] {
        numbers.done(Job::Compute { n }, &counters);
    }
    assert_eq!(queued(&counters.snapshot()), 0);
}

#[test]
fn a_job_that_no_connection_waits_for_leaves_the_queue() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(50_000, 0, &counters);
    for key in 1..3 {
        numbers.look_up(60_000, key, &counters);
    }
    numbers.cancel(60_000, id(1), &counters);
    numbers.cancel(50_000, id(0), &counters);
    numbers.cancel(50_000, id(0), &counters);
    let snapshot = counters.snapshot();
    let bytes = Cache::cost(CacheKey::digits(60_000)) as u64;
    assert_eq!((queued(&snapshot), snapshot.get(metrics::CACHE_BYTES)), (1, bytes));
    let job = numbers.next_job().unwrap();
    assert_eq!((job.key().n, numbers.next_job()), (60_000, None));
    assert_eq!(numbers.done(job, &counters), [id(2)]);
}

#[test]
fn a_job_that_runs_is_completed_although_no_connection_waits() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(50_000, 0, &counters);
    let job = numbers.next_job().unwrap();
    numbers.cancel(50_000, id(0), &counters);
    assert_eq!(queued(&counters.snapshot()), 1);
    assert_eq!(numbers.look_up(50_000, 1, &counters), "pending");
    assert_eq!(numbers.next_job(), None, "it is not computed twice");
    assert_eq!(numbers.done(job, &counters), [id(1)]);
}

#[test]
fn another_connection_with_the_same_key_is_not_a_waiter() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(50_000, 0, &counters);
    let other = ConnectionId { key: 0, generation: 2 };
    numbers.cancel(50_000, other, &counters);
    assert_eq!(numbers.next_job(), Some(Job::Compute { n: 50_000 }));
}

#[test]
fn computations_in_flight_are_bounded() {
    let (mut numbers, counters) = numbers(NumberLimits { max_in_flight: 2, ..LIMITS });
    assert_eq!(numbers.look_up(30_000, 0, &counters), "pending");
    assert_eq!(numbers.look_up(40_000, 0, &counters), "pending");
    assert_eq!(numbers.look_up(50_000, 0, &counters), "busy");
    assert_eq!(numbers.look_up(30_000, 1, &counters), "pending", "it is in flight already");
    assert_eq!(numbers.look_up(20_000, 0, &counters), "ready", "it takes no place");
    numbers.cancel(40_000, id(0), &counters);
    assert_eq!(numbers.look_up(50_000, 0, &counters), "pending");
    assert_eq!(counters.snapshot().values(metrics::COMPUTATIONS_REJECTED), [1, 0, 0]);
}

#[test]
fn memory_is_bounded_and_reserved_for_computations_in_flight() {
    let bytes = Cache::cost(CacheKey::digits(1_000_000)) + Cache::cost(CacheKey::digits(900_000));
    let (mut numbers, counters) = numbers(NumberLimits { bytes, ..LIMITS });
    assert_eq!(numbers.look_up(900_000, 0, &counters), "pending");
    assert_eq!(numbers.look_up(1_000_000, 1, &counters), "pending");
    assert_eq!(numbers.look_up(30_000, 2, &counters), "busy");
    assert_eq!(numbers.look_up(1_000, 2, &counters), "busy");
    numbers.cancel(900_000, id(0), &counters);
    assert_eq!(numbers.look_up(1_000, 2, &counters), "ready");
    assert_eq!(counters.snapshot().values(metrics::COMPUTATIONS_REJECTED), [0, 2, 0]);
}

#[test]
fn a_failed_job_releases_its_memory_and_its_waiters() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(30_000, 0, &counters);
    numbers.look_up(30_000, 1, &counters);
    let job = numbers.next_job().unwrap();
    assert_eq!(numbers.fail(job.key(), &counters), [id(0), id(1)]);
    let snapshot = counters.snapshot();
    assert_eq!((queued(&snapshot), snapshot.get(metrics::CACHE_BYTES)), (0, 0));
    assert_eq!(snapshot.values(metrics::COMPUTATIONS_REJECTED), [0, 0, 2]);
    assert_eq!(numbers.look_up(30_000, 0, &counters), "pending", "the next request tries again");
    assert_eq!(numbers.next_job(), Some(job));
}

#[test]
fn a_failed_verification_is_counted() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(30_000, 0, &counters);
    let job = numbers.next_job().unwrap();
    let mut completed = job.run(&mut Calculator::default());
    completed.fallback = Some(crate::fibonacci::check(30_000, b"1").unwrap_err());
    numbers.complete(&completed, &counters);
    assert_eq!(counters.snapshot().get(metrics::COMPUTATION_FALLBACKS), 1);
    let mismatch = crate::fibonacci::check(30_000, b"1").unwrap_err();
    assert_eq!(numbers.take_mismatches(), [(30_000, mismatch)], "for the log");
    assert!(numbers.take_mismatches().is_empty());
}

/// Computes and codes F(n) for a connection, however many jobs it takes.
fn gzip_all(numbers: &mut Numbers, n: u64, counters: &Claim) {
    while numbers.get_gzip(n, waiter(9, 0), counters) == GzipLookup::Pending {
        let job = numbers.next_job().unwrap();
        numbers.done(job, counters);
    }
}

fn codings(snapshot: &Snapshot) -> &[u64] {
    snapshot.values(metrics::GZIP_CODINGS)
}

#[test]
fn short_numbers_are_coded_at_once_and_cached() {
    let counters = Claim::private();
    let mut numbers = Numbers::new(ResponseTable::new(19_700).unwrap(), LIMITS);
    for n in [19_600, 19_800, 19_600, 19_800] {
        assert_eq!(numbers.get_gzip(n, waiter(0, 0), &counters), GzipLookup::Ready, "F({n})");
        assert!(numbers.gzipped(n).is_some());
    }
    let snapshot = counters.snapshot();
    assert_eq!((codings(&snapshot), queued(&snapshot)), (&[0, 2][..], 0));
    assert_eq!(misses_and_hits(&snapshot), (1, 1), "not of the table");
    let keys = [CacheKey::gzip(19_600), CacheKey::gzip(19_800), CacheKey::digits(19_800)];
    let bytes: usize = keys.into_iter().map(Cache::cost).sum();
    assert_eq!(snapshot.get(metrics::CACHE_BYTES), bytes as u64);
}

#[test]
fn a_number_that_several_connections_want_coded_is_computed_and_coded_once() {
    let (mut numbers, counters) = numbers(LIMITS);
    let n = 150_000;
    for key in 0..3 {
        assert_eq!(numbers.get_gzip(n, waiter(key, 0), &counters), GzipLookup::Pending);
    }
    assert_eq!(numbers.look_up(n, 3, &counters), "pending", "the same digits");
    let job = numbers.next_job().unwrap();
    assert_eq!((job.clone(), numbers.next_job()), (Job::Compute { n }, None));
    assert_eq!(numbers.done(job, &counters), [0, 1, 2, 3].map(id));
    for key in 0..3 {
        assert_eq!(numbers.gzip_digits(n, waiter(key, 0), &counters), GzipLookup::Pending);
    }
    let job = numbers.next_job().unwrap();
    assert_eq!((job.key(), numbers.next_job()), (CacheKey::gzip(n), None));
    assert_eq!(numbers.get_gzip(n, waiter(4, 0), &counters), GzipLookup::Pending);
    assert_eq!(numbers.look_up(n, 5, &counters), "ready", "the digits are there");
    assert_eq!(numbers.done(job, &counters), [0, 1, 2, 4].map(id));
    assert_eq!(numbers.get_gzip(n, waiter(6, 0), &counters), GzipLookup::Ready);
    let snapshot = counters.snapshot();
    assert_eq!((codings(&snapshot), queued(&snapshot)), (&[1, 0][..], 0));
    assert_eq!(snapshot.values(metrics::COMPUTATIONS), [1, 0]);
}

#[test]
fn a_coding_that_no_connection_waits_for_leaves_the_queue() {
    let (mut numbers, counters) = numbers(LIMITS);
    let n = 150_000;
    numbers.look_up(n, 0, &counters);
    let job = numbers.next_job().unwrap();
    numbers.done(job, &counters);
    let before = counters.snapshot().get(metrics::CACHE_BYTES);
    for key in 0..2 {
        numbers.get_gzip(n, waiter(key, 0), &counters);
    }
    numbers.cancel(n, id(0), &counters);
    assert_eq!(queued(&counters.snapshot()), 1);
    numbers.cancel(n, id(1), &counters);
    let snapshot = counters.snapshot();
    assert_eq!((queued(&snapshot), snapshot.get(metrics::CACHE_BYTES)), (0, before));
    assert_eq!(numbers.next_job(), None);
}

#[test]
fn without_room_for_the_coding_there_are_the_digits() {
    let keys = [150_000, 160_000].map(CacheKey::digits);
    let bytes = keys.into_iter().map(Cache::cost).sum();
    let (mut numbers, counters) = numbers(NumberLimits { bytes, ..LIMITS });
    numbers.look_up(150_000, 0, &counters);
    let job = numbers.next_job().unwrap();
    numbers.done(job, &counters);
    assert_eq!(numbers.look_up(160_000, 1, &counters), "pending", "takes the rest");
    let lookup = numbers.get_gzip(150_000, waiter(0, 0), &counters);
    assert_eq!(lookup, GzipLookup::Unavailable);
    assert!(numbers.digits(150_000).is_some(), "not evicted for its own coding");
    assert_eq!(numbers.get_gzip(170_000, waiter(0, 0), &counters), GzipLookup::Busy);
    assert_eq!(counters.snapshot().get(metrics::CACHE_BYTES), bytes as u64);
}

#[test]
fn codings_and_computations_have_separate_limits() {
    let (mut numbers, counters) = numbers(NumberLimits { max_in_flight: 1, ..LIMITS });
    for n in [150_000, 170_000] {
        numbers.look_up(n, 0, &counters);
        let job = numbers.next_job().unwrap();
        numbers.done(job, &counters);
    }
    assert_eq!(numbers.get_gzip(150_000, waiter(0, 0), &counters), GzipLookup::Pending);
    assert_eq!(numbers.look_up(160_000, 0, &counters), "pending", "a coding takes no place");
    assert_eq!(numbers.look_up(180_000, 0, &counters), "busy");
    let lookup = numbers.get_gzip(170_000, waiter(1, 0), &counters);
    assert_eq!(lookup, GzipLookup::Unavailable, "another coding is queued");
    assert_eq!(queued(&counters.snapshot()), 2);
    numbers.cancel(150_000, id(0), &counters);
    assert_eq!(numbers.get_gzip(170_000, waiter(1, 0), &counters), GzipLookup::Pending);
    assert_eq!(counters.snapshot().values(metrics::COMPUTATIONS_REJECTED).iter().sum::<u64>(), 1);
}

#[test]
fn digits_that_are_being_coded_are_not_evicted() {
    let bytes = Cache::cost(CacheKey::digits(150_000)) + Cache::cost(CacheKey::gzip(150_000));
    let (mut numbers, counters) = numbers(NumberLimits { bytes, ..LIMITS });
    numbers.look_up(150_000, 0, &counters);
    let job = numbers.next_job().unwrap();
    numbers.done(job, &counters);
    assert_eq!(numbers.get_gzip(150_000, waiter(0, 0), &counters), GzipLookup::Pending);
    assert_eq!(numbers.look_up(1_000, 1, &counters), "busy");
    let job = numbers.next_job().unwrap();
    assert_eq!(numbers.look_up(1_000, 1, &counters), "busy");
    assert_eq!(numbers.done(job, &counters), [id(0)]);
    assert_eq!(numbers.look_up(1_000, 1, &counters), "ready", "now one can be evicted");
    gzip_all(&mut numbers, 150_000, &counters);
}

#[test]
fn a_failed_coding_releases_its_memory_and_its_waiters() {
    let (mut numbers, counters) = numbers(LIMITS);
    numbers.look_up(150_000, 0, &counters);
    let job = numbers.next_job().unwrap();
    numbers.done(job, &counters);
    let before = counters.snapshot().get(metrics::CACHE_BYTES);
    numbers.get_gzip(150_000, waiter(0, 0), &counters);
    let job = numbers.next_job().unwrap();
    assert_eq!(numbers.fail(job.key(), &counters), [id(0)]);
    let snapshot = counters.snapshot();
    assert_eq!((queued(&snapshot), snapshot.get(metrics::CACHE_BYTES)), (0, before));
    assert_eq!(snapshot.values(metrics::COMPUTATIONS_REJECTED), [0, 0, 0], "it gets the digits");
    assert_eq!(numbers.get_gzip(150_000, waiter(0, 0), &counters), GzipLookup::Pending);
}
