//! The compute thread: computes numbers that would hold up the event loop.
//!
//! One per worker, started when it is needed for the first time. The loop asks with [`Compute::ask`] and is
//! woken through the poll when there is something to [`Compute::collect`]. What several peers wait for is
//! computed once. How many numbers may be asked for at a time is the caller's business.

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
    server::connections::PeerId,
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
    desk: Arc<Desk>,
    waker: Arc<Waker>,
    /// Who waits for which number.
    waiting: HashMap<u64, Vec<PeerId>>,
    is_started: bool,
}

/// A number that was asked for.
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub n: u64,
    /// F(n).
    pub computed: Computed,
    /// How long that took, in nanoseconds.
    pub duration_ns: u64,
    /// Who has waited for it.
    pub peers: Vec<PeerId>,
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Desk {
    papers: Mutex<Papers>,
    /// Told when there is something to be computed.
    work: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    asked: Vec<Asked>,
    done: Vec<(u64, Computed, u64)>,
    /// The loop is gone.
    is_closed: bool,
}

#[derive(Debug)]
struct Asked {
    n: u64,
    due_ns: u64,
}

impl Compute {
    /// Nothing asked for yet; `waker` wakes the loop.
    pub fn new(waker: Waker) -> Self {
        Self {
            desk: Arc::default(),
            waker: Arc::new(waker),
            waiting: HashMap::new(),
            is_started: false,
        }
    }

    /// Has F(n) computed for `peer`. An error means that there is no thread and that nothing was asked.
    pub fn ask(&mut self, n: u64, peer: PeerId, now_ns: u64) -> io::Result<()> {
        if !self.is_started {
            self.start()?;
        }
        match self.waiting.entry(n) {
            // Also if nobody waits any more for one that is being computed.
            Entry::Occupied(mut waiting) => waiting.get_mut().push(peer),
            Entry::Vacant(place) => {
                place.insert(vec![peer]);
                let due_ns = now_ns.saturating_add(n.saturating_mul(PATIENCE_NS_PER_N));
                self.desk.lock().asked.push(Asked { n, due_ns });
                self.desk.work.notify_one();
            }
        }
        Ok(())
    }

    /// Takes in that `peer` does not wait for F(n) any more; says whether that number was dropped from the
    /// queue, as nobody else does. One that is being computed is computed to its end.
    pub fn forget(&mut self, n: u64, peer: PeerId) -> bool {
        let Some(peers) = self.waiting.get_mut(&n) else { return false };
        peers.retain(|other| *other != peer);
        if !peers.is_empty() {
            return false;
        }
        let mut papers = self.desk.lock();
        let Some(place) = papers.asked.iter().position(|asked| asked.n == n) else { return false };
        papers.asked.swap_remove(place);
        drop(papers);
        self.waiting.remove(&n);
        true
    }

    /// What has been computed since the last call.
    pub fn collect(&mut self) -> Vec<Done> {
        let done = mem::take(&mut self.desk.lock().done);
        let done = done.into_iter().map(|(n, computed, duration_ns)| {
            let peers = self.waiting.remove(&n).unwrap_or_default();
            Done { n, computed, duration_ns, peers }
        });
        done.collect()
    }

    fn start(&mut self) -> io::Result<()> {
        let (desk, waker) = (Arc::clone(&self.desk), Arc::clone(&self.waker));
        let thread = thread::Builder::new().name("compute".to_owned());
        thread.spawn(move || work(&desk, &waker))?;
        self.is_started = true;
        Ok(())
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // The thread is not waited for: what it computes now, nobody wants.
        self.desk.lock().is_closed = true;
        self.desk.work.notify_one();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Papers> {
        // Neither side can leave the papers in disorder: a push or a removal is all they do.
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that is due first, once there is one; none if the loop is gone.
    fn next(&self) -> Option<u64> {
        let mut papers = self.lock();
        loop {
            if papers.is_closed {
                return None;
            }
            let asked = papers.asked.iter().enumerate();
            if let Some((place, _)) = asked.min_by_key(|(_, asked)| asked.due_ns) {
                return Some(papers.asked.swap_remove(place).n);
            }
            papers = self.work.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The compute thread.
fn work(desk: &Desk, waker: &Waker) {
    give_way();
    let (mut calculator, mut clock) = (Calculator::default(), Clock::new());
    while let Some(n) = desk.next() {
        clock.tick();
        let computed = calculator.compute(n);
        desk.lock().done.push((n, computed, clock.since_tick_ns()));
        if let Err(error) = waker.wake() {
            warn!("cannot wake the event loop: {error}");
        }
    }
}

/// Lowers the priority of this thread. A refusal is no reason not to compute.
fn give_way() {
    let this = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this), NICENESS) {
        warn!("the compute thread keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn peer(key: usize) -> PeerId {
        PeerId { key, generation: 1 }
    }

    /// A compute thread, and what wakes when it is done.
    fn compute() -> (Poll, Compute) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        (poll, Compute::new(waker))
    }

    /// Collects until so many numbers have come.
    fn collect(poll: &mut Poll, compute: &mut Compute, count: usize) -> Vec<Done> {
        let (mut events, mut done) = (Events::with_capacity(8), Vec::new());
        while done.len() < count {
            poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "nothing was computed");
            done.extend(compute.collect());
        }
        done
    }

    #[test]
    fn what_several_wait_for_is_computed_once() {
        let (mut poll, mut compute) = compute();
        for key in 0..3 {
            compute.ask(100_000, peer(key), 0).unwrap();
        }
        let done = collect(&mut poll, &mut compute, 1);
        assert_eq!((done.len(), done[0].n, done[0].computed.digits.len()), (1, 100_000, 20_899));
        assert_eq!(done[0].peers, [peer(0), peer(1), peer(2)]);
        assert!(done[0].duration_ns > 0 && compute.collect().is_empty());
    }

    #[test]
    fn small_numbers_pass_by_large_ones_and_none_waits_for_ever() {
        let desk = Desk::default();
        for (n, now_ns) in [(1_000_000, 0), (1_000, 1), (2_000, 500_000_000)] {
            desk.lock().asked.push(Asked { n, due_ns: now_ns + n * PATIENCE_NS_PER_N });
        }
        let order: Vec<_> = (0..3).map(|_| desk.next().unwrap()).collect();
        assert_eq!(order, [1_000, 1_000_000, 2_000]);
    }

    #[test]
    fn a_number_that_nobody_waits_for_is_dropped_from_the_queue() {
        let (mut poll, mut compute) = compute();
        compute.is_started = true; // by this test, later
        compute.ask(50_000, peer(0), 0).unwrap();
        compute.ask(60_000, peer(1), 0).unwrap();
        compute.ask(60_000, peer(2), 0).unwrap();
        assert!(!compute.forget(60_000, peer(1)), "another one waits");
        assert!(compute.forget(50_000, peer(0)));
        assert!(!compute.forget(50_000, peer(0)), "it was dropped already");
        compute.start().unwrap();
        let done = collect(&mut poll, &mut compute, 1);
        assert_eq!((done[0].n, &done[0].peers[..]), (60_000, &[peer(2)][..]));
    }

    #[test]
    fn a_number_under_way_is_not_asked_for_again_when_its_only_peer_leaves() {
        let (mut poll, mut compute) = compute();
        compute.is_started = true; // by this test, later
        compute.ask(50_000, peer(0), 0).unwrap();
        let asked = mem::take(&mut compute.desk.lock().asked); // as the thread does that begins
        assert!(!compute.forget(50_000, peer(0)));
        compute.ask(50_000, peer(1), 0).unwrap();
        assert!(compute.desk.lock().asked.is_empty());
        compute.desk.lock().asked = asked;
        compute.start().unwrap();
        assert_eq!(collect(&mut poll, &mut compute, 1)[0].peers, [peer(1)]);
    }

    #[test]
    fn the_thread_ends_with_the_loop() {
        let desk = Desk::default();
        desk.lock().is_closed = true;
        assert_eq!(desk.next(), None);
    }
}
