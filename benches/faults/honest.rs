//! Honest clients: a steady trickle of requests on kept connections, from a thread of their own, so
//! that what they notice is the server's doing.

use crate::{
    lab::{
        reply::{ASK, take_f20},
        report::quantile,
    },
    swarm::{Happening, Id, Manner, Swarm},
};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Error},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const GIVE_UP: Duration = Duration::from_secs(10);

/// Running clients.
#[derive(Debug)]
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Tally>>,
}

/// What they saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// When each answer came, and how long it took.
    answers: Vec<(Instant, Duration)>,
    /// When requests got a wrong answer or none.
    failures: Vec<Instant>,
    /// Kept connections that the server closed, so that another was opened.
    pub(crate) reopened: usize,
}

impl Honest {
    /// Fifty requests a second on eight connections.
    pub(crate) fn start(target: SocketAddr) -> io::Result<Self> {
        Self::start_with(target, 50, 8)
    }

    /// Returns when each of the connections has got its first answer.
    pub(crate) fn start_with(target: SocketAddr, rate: u32, links: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || Pool::new(target, links)?.run(Duration::from_secs(1) / rate, &stop, &ready)
        });
        match is_ready.recv_timeout(GIVE_UP) {
            Ok(()) => Ok(Self { stop, thread }),
            Err(_) => Err(Error::other("the server does not answer honest clients")),
        }
    }

    /// Waits for the last answers and tells what came.
    pub(crate) fn finish(self) -> io::Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::other("the honest clients panicked"))?
    }
}

impl Tally {
    /// The answers and failures from one moment to another.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Self {
        let within = |moment: Instant| from <= moment && moment < to;
        Self {
            answers: self.answers.iter().copied().filter(|answer| within(answer.0)).collect(),
            failures: self.failures.iter().copied().filter(|moment| within(*moment)).collect(),
            reopened: self.reopened,
        }
    }

    /// The share of requests that were answered rightly.
    pub(crate) fn success(&self) -> String {
        let all = self.answers.len() + self.failures.len();
        format!("{:.2}", 100.0 * self.answers.len() as f64 / all.max(1) as f64)
    }

    /// A quantile of the times, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> String {
        quantile(&mut self.times(), share)
    }

    pub(crate) fn p99(&self) -> Duration {
        let mut times = self.times();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1 + times.len() / 100)).copied().unwrap_or_default()
    }

    /// The last moment at which an answer took longer than `limit` or failed.
    pub(crate) fn last_worse_than(&self, limit: Duration) -> Option<Instant> {
        let slow = self.answers.iter().filter(|answer| answer.1 > limit).map(|answer| answer.0);
        slow.chain(self.failures.iter().copied()).max()
    }

    /// `success %`, `p99` and `max`, as every table shows them.
    pub(crate) fn cells(&self) -> [String; 3] {
        [self.success(), self.quantile(0.99), self.quantile(1.0)]
    }

    fn times(&self) -> Vec<Duration> {
        self.answers.iter().map(|answer| answer.1).collect()
    }
}

/// Connections that are used in turn, each with the requests that wait for it.
struct Pool {
    swarm: Swarm,
    waiting: HashMap<Id, VecDeque<Instant>>,
    order: VecDeque<Id>,
    tally: Tally,
}

impl Pool {
    fn new(target: SocketAddr, links: usize) -> io::Result<Self> {
        let swarm = Swarm::new(target, Manner::Honest)?;
        let (waiting, order) = (HashMap::new(), VecDeque::new());
        let mut pool = Self { swarm, waiting, order, tally: Tally::default() };
        for _ in 0..links {
            pool.open()?;
        }
        Ok(pool)
    }

    fn open(&mut self) -> io::Result<Id> {
        let id = self.swarm.open()?;
        self.waiting.insert(id, VecDeque::new());
        self.order.push_back(id);
        Ok(id)
    }

    fn run(
        mut self,
        pause: Duration,
        stop: &AtomicBool,
        ready: &mpsc::Sender<()>,
    ) -> io::Result<Tally> {
        for _ in 0..self.order.len() {
            self.ask();
        }
        while self.is_owed() {
            self.turn(GIVE_UP)?;
        }
        self.tally = Tally::default(); // Opening the connections is no part of it.
        if ready.send(()).is_err() {
            return Ok(self.tally); // Nobody waits any more.
        }
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= due {
                self.ask();
                due = now.max(due + pause);
            }
            self.turn(due.saturating_duration_since(now))?;
        }
        let deadline = Instant::now() + GIVE_UP;
        while self.is_owed() && Instant::now() < deadline {
            self.turn(Duration::from_millis(20))?;
        }
        let lost: usize = self.waiting.values().map(VecDeque::len).sum();
        self.tally.failures.extend(std::iter::repeat_n(Instant::now(), lost));
        Ok(self.tally)
    }

    fn is_owed(&self) -> bool {
        self.waiting.values().any(|queue| !queue.is_empty())
    }

    /// One more request, on a connection that is free if there is one.
    fn ask(&mut self) {
        let free = |id: &Id| self.waiting.get(id).is_some_and(VecDeque::is_empty);
        let place = self.order.iter().position(free).unwrap_or(0);
        let Some(id) = self.order.remove(place) else { return };
        self.order.push_back(id);
        let queue = self.waiting.entry(id).or_default();
        queue.push_back(Instant::now());
        if queue.len() == 1 {
            self.swarm.say(id, ASK);
        }
    }

    fn turn(&mut self, patience: Duration) -> io::Result<()> {
        for (id, happening) in self.swarm.turn(patience)? {
            match happening {
                Happening::Connected | Happening::Flushed => {}
                Happening::Arrived => self.hear(id),
                Happening::Ended(_) => self.replace(id)?,
            }
        }
        Ok(())
    }

    /// The server has closed a connection: what had been sent on it is lost, what waits goes on another.
    fn replace(&mut self, id: Id) -> io::Result<()> {
        self.swarm.leave(id);
        self.order.retain(|other| *other != id);
        let mut queue = self.waiting.remove(&id).unwrap_or_default();
        self.tally.failures.extend(queue.pop_front().map(|_| Instant::now()));
        self.tally.reopened += 1;
        let id = self.open()?;
        if !queue.is_empty() {
            self.swarm.say(id, ASK);
        }
        self.waiting.insert(id, queue);
        Ok(())
    }

    fn hear(&mut self, id: Id) {
        let Some(is_right) = self.swarm.link(id).and_then(|link| take_f20(&mut link.inbox)) else {
            return;
        };
        let Some(queue) = self.waiting.get_mut(&id) else { return };
        let now = Instant::now();
        match queue.pop_front() {
            Some(since) if is_right => self.tally.answers.push((now, now - since)),
            _ => self.tally.failures.push(now),
        }
        if !queue.is_empty() {
            self.swarm.say(id, ASK);
        }
    }
}
