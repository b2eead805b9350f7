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
        let computed = Calculator::default().compute(job.n);
        self.complete(&Completed { job, computed, duration_ns: 1 }, counters)
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
    let bytes = Cache::cost(101) + Cache::cost(AT_ONCE_MAX_N);
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
    assert_eq!((job, numbers.next_job()), (Job { n: 30_000 }, None));
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
        numbers.done(job, &counters);
        order.push(job.n);
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
    assert_eq!(jobs, [50_000, 60_000, 70_000].map(|n| Job { n }), "no more than 200,000 in all");
    numbers.done(jobs[0], &counters);
    assert_eq!(numbers.next_job(), None, "210,000 in all");
    numbers.done(jobs[1], &counters);
    assert_eq!(numbers.next_job(), Some(Job { n: 80_000 }));
    for n in [70_000, 80_000] {
        numbers.done(Job { n }, &counters);
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
    let bytes = Cache::cost(60_000) as u64;
    assert_eq!((queued(&snapshot), snapshot.get(metrics::CACHE_BYTES)), (1, bytes));
    let job = numbers.next_job().unwrap();
    assert_eq!((job.n, numbers.next_job()), (60_000, None));
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
    assert_eq!(numbers.next_job(), Some(Job { n: 50_000 }));
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
    let bytes = Cache::cost(1_000_000) + Cache::cost(900_000);
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
    assert_eq!(numbers.fail(job, &counters), [id(0), id(1)]);
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
    let mut computed = Calculator::default().compute(job.n);
    computed.fallback = Some(crate::fibonacci::check(30_000, b"1").unwrap_err());
    numbers.complete(&Completed { job, computed, duration_ns: 1 }, &counters);
    assert_eq!(counters.snapshot().get(metrics::COMPUTATION_FALLBACKS), 1);
    let mismatch = crate::fibonacci::check(30_000, b"1").unwrap_err();
    assert_eq!(numbers.take_mismatches(), [(30_000, mismatch)], "for the log");
    assert!(numbers.take_mismatches().is_empty());
}
