//! The compute thread: computes numbers that would hold up the event loop.
//!
//! One per worker, started when it is needed for the first time. The loop asks with [`Compute::submit`] and is
//! woken through the poll when there is something to [`Compute::take_completed`]. What several peers wait for is
//! computed once. How many numbers may be jobs for at a time is the caller's business.

use std::{
    collections::{HashMap, hash_map::Entry},
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use log::warn;
use mio::Waker;

use crate::{
    fibonacci::{Calculator, Computed},
    server::connections::ConnectionId,
    sys::clock::Clock,
};

/// How long a number may stay in the queue before it goes ahead of a smaller one, in nanoseconds per n:
/// about ten times what it takes to compute. So small numbers pass by large ones, and no number waits for
/// ever.
const PATIENCE_NS_PER_N: u64 = 100;

/// How much the compute thread gives way to the event loop, where both want the same processor.
const NICENESS: i32 = 10;

/// Hands numbers to the compute thread and back.
#[derive(Debug)]
pub struct Compute {
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    /// Who waits for which number.
    waiting: HashMap<u64, Vec<ConnectionId>>,
    is_started: bool,
}

/// A number that was jobs for.
#[derive(Debug)]
pub struct Completed {
    /// Which.
    pub n: u64,
    /// F(n).
    pub computed: Computed,
    /// How long that took, in nanoseconds.
    pub duration_ns: u64,
    /// Who has waited for it.
    pub waiters: Vec<ConnectionId>,
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<QueueState>,
    /// Notified when there is something to be computed.
    work: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: Vec<Job>,
    completed: Vec<(u64, Computed, u64)>,
    /// The loop is gone.
    is_closed: bool,
}

#[derive(Debug)]
struct Job {
    n: u64,
    due_ns: u64,
}

impl Compute {
    /// Nothing jobs for yet; `waker` wakes the loop.
    pub fn new(waker: Waker) -> Self {
        Self {
            shared: Arc::default(),
            waker: Arc::new(waker),
            waiting: HashMap::new(),
            is_started: false,
        }
    }

    /// Has F(n) computed for `peer`. An error means that there is no thread and that nothing was jobs.
    pub fn submit(&mut self, n: u64, waiter: ConnectionId, now_ns: u64) -> io::Result<()> {
        if !self.is_started {
            self.start()?;
        }
        match self.waiting.entry(n) {
            // Also if nobody waits any more for one that is being computed.
            Entry::Occupied(mut waiting) => waiting.get_mut().push(waiter),
            Entry::Vacant(place) => {
                place.insert(vec![waiter]);
                let due_ns = now_ns.saturating_add(n.saturating_mul(PATIENCE_NS_PER_N));
                self.shared.lock().jobs.push(Job { n, due_ns });
                self.shared.work.notify_one();
            }
        }
        Ok(())
    }

    /// Takes in that `peer` does not wait for F(n) any more; says whether that number was dropped from the
    /// queue, as nobody else does. One that is being computed is computed to its end.
    pub fn cancel(&mut self, n: u64, waiter: ConnectionId) -> bool {
        let Some(waiters) = self.waiting.get_mut(&n) else { return false };
        waiters.retain(|other| *other != waiter);
        if !waiters.is_empty() {
            return false;
        }
        let mut queue = self.shared.lock();
        let Some(place) = queue.jobs.iter().position(|jobs| jobs.n == n) else { return false };
        queue.jobs.swap_remove(place);
        drop(queue);
        self.waiting.remove(&n);
        true
    }

    /// What has been computed since the last call.
    pub fn take_completed(&mut self) -> Vec<Completed> {
        let completed = mem::take(&mut self.shared.lock().completed);
        let completed = completed.into_iter().map(|(n, computed, duration_ns)| {
            let waiters = self.waiting.remove(&n).unwrap_or_default();
            Completed { n, computed, duration_ns, waiters }
        });
        completed.collect()
    }

    fn start(&mut self) -> io::Result<()> {
        let (shared, waker) = (Arc::clone(&self.shared), Arc::clone(&self.waker));
        let thread = thread::Builder::new().name("compute".to_owned());
        thread.spawn(move || work(&shared, &waker))?;
        self.is_started = true;
        Ok(())
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // The thread is not waited for: what it computes now, nobody wants.
        self.shared.lock().is_closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Neither side can leave the queue in disorder: a push or a removal is all they do.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that is due first, once there is one; none if the loop is gone.
    fn next(&self) -> Option<u64> {
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            let jobs = queue.jobs.iter().enumerate();
            if let Some((place, _)) = jobs.min_by_key(|(_, jobs)| jobs.due_ns) {
                return Some(queue.jobs.swap_remove(place).n);
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The compute thread.
fn work(shared: &Shared, waker: &Waker) {
    lower_priority();
    let (mut calculator, mut clock) = (Calculator::default(), Clock::new());
    while let Some(n) = shared.next() {
        clock.tick();
        let computed = calculator.compute(n);
        shared.lock().completed.push((n, computed, clock.since_tick_ns()));
        if let Err(error) = waker.wake() {
            warn!("cannot wake the event loop: {error}");
        }
    }
}

/// Lowers the priority of this thread. A refusal is no reason not to compute.
fn lower_priority() {
    let this = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this), NICENESS) {
        warn!("cannot lower the priority of the compute thread: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn waiter(key: usize) -> ConnectionId {
        ConnectionId { key, generation: 1 }
    }

    /// A compute thread, and what wakes when it is completed.
    fn compute() -> (Poll, Compute) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        (poll, Compute::new(waker))
    }

    /// Collects until so many numbers have come.
    fn collect(poll: &mut Poll, compute: &mut Compute, count: usize) -> Vec<Completed> {
        let (mut events, mut completed) = (Events::with_capacity(8), Vec::new());
        while completed.len() < count {
            poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "nothing was computed");
            completed.extend(compute.take_completed());
        }
        completed
    }

    #[test]
    fn what_several_wait_for_is_computed_once() {
        let (mut poll, mut compute) = compute();
        for key in 0..3 {
            compute.submit(100_000, waiter(key), 0).unwrap();
        }
        let completed = collect(&mut poll, &mut compute, 1);
        assert_eq!(
            (completed.len(), completed[0].n, completed[0].computed.digits.len()),
            (1, 100_000, 20_899)
        );
        assert_eq!(completed[0].waiters, [waiter(0), waiter(1), waiter(2)]);
        assert!(completed[0].duration_ns > 0 && compute.take_completed().is_empty());
    }

    #[test]
    fn small_numbers_pass_by_large_ones_and_none_waits_for_ever() {
        let shared = Shared::default();
        for (n, now_ns) in [(1_000_000, 0), (1_000, 1), (2_000, 500_000_000)] {
            shared.lock().jobs.push(Job { n, due_ns: now_ns + n * PATIENCE_NS_PER_N });
        }
        let order: Vec<_> = (0..3).map(|_| shared.next().unwrap()).collect();
        assert_eq!(order, [1_000, 1_000_000, 2_000]);
    }

    #[test]
    fn a_number_that_nobody_waits_for_is_dropped_from_the_queue() {
        let (mut poll, mut compute) = compute();
        compute.is_started = true; // by this test, later
        compute.submit(50_000, waiter(0), 0).unwrap();
        compute.submit(60_000, waiter(1), 0).unwrap();
        compute.submit(60_000, waiter(2), 0).unwrap();
        assert!(!compute.cancel(60_000, waiter(1)), "another one waits");
        assert!(compute.cancel(50_000, waiter(0)));
        assert!(!compute.cancel(50_000, waiter(0)), "it was dropped already");
        compute.start().unwrap();
        let completed = collect(&mut poll, &mut compute, 1);
        assert_eq!((completed[0].n, &completed[0].waiters[..]), (60_000, &[waiter(2)][..]));
    }

    #[test]
    fn a_number_under_way_is_not_asked_for_again_when_its_only_peer_leaves() {
        let (mut poll, mut compute) = compute();
        compute.is_started = true; // by this test, later
        compute.submit(50_000, waiter(0), 0).unwrap();
        let jobs = mem::take(&mut compute.shared.lock().jobs); // as the thread does that begins
        assert!(!compute.cancel(50_000, waiter(0)));
        compute.submit(50_000, waiter(1), 0).unwrap();
        assert!(compute.shared.lock().jobs.is_empty());
        compute.shared.lock().jobs = jobs;
        compute.start().unwrap();
        assert_eq!(collect(&mut poll, &mut compute, 1)[0].waiters, [waiter(1)]);
    }

    #[test]
    fn the_thread_ends_with_the_loop() {
        let shared = Shared::default();
        shared.lock().is_closed = true;
        assert_eq!(shared.next(), None);
    }
}
