//! Probe clients: a low, steady rate of requests on keep-alive connections. They have a thread of their
//! own, so that a delay is the server's.

use crate::{
    client_pool::{ClientId, ClientKind, ClientPool, PoolEvent},
    harness::{
        f20::{GET_F20, take_f20},
        report::quantile,
    },
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

const TIMEOUT: Duration = Duration::from_secs(10);

/// Running probe clients.
#[derive(Debug)]
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<ProbeResults>>,
}

/// What they measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeResults {
    /// When each response arrived, and its latency.
    responses: Vec<(Instant, Duration)>,
    /// When a request got a wrong response or none.
    failures: Vec<Instant>,
    /// Connections that the server closed, for which another was opened.
    pub(crate) reconnects: usize,
}

impl Probe {
    /// Starts 50 requests per second on eight connections.
    pub(crate) fn start(target: SocketAddr) -> io::Result<Self> {
        Self::start_with(target, 50, 8)
    }

    /// Starts the clients; returns when each connection has received its first response.
    pub(crate) fn start_with(target: SocketAddr, rate: u32, clients: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                Connections::new(target, clients)?.run(Duration::from_secs(1) / rate, &stop, &ready)
            }
        });
        match is_ready.recv_timeout(TIMEOUT) {
            Ok(()) => Ok(Self { stop, thread }),
            Err(_) => Err(Error::other("the server does not respond to probe clients")),
        }
    }

    /// Waits for the last responses and returns the results.
    pub(crate) fn finish(self) -> io::Result<ProbeResults> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::other("the probe clients panicked"))?
    }
}

impl ProbeResults {
    /// The results between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Self {
        let within = |moment: Instant| from <= moment && moment < to;
        Self {
            responses: self
                .responses
                .iter()
                .copied()
                .filter(|response| within(response.0))
                .collect(),
            failures: self.failures.iter().copied().filter(|moment| within(*moment)).collect(),
            reconnects: self.reconnects,
        }
    }

    /// The percentage of requests with a correct response.
    pub(crate) fn success(&self) -> String {
        let all = self.responses.len() + self.failures.len();
        format!("{:.2}", 100.0 * self.responses.len() as f64 / all.max(1) as f64)
    }

    /// A quantile of the latency in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> String {
        quantile(&mut self.times(), share)
    }

    pub(crate) fn p99(&self) -> Duration {
        let mut times = self.times();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1 + times.len() / 100)).copied().unwrap_or_default()
    }

    /// When a response took longer than `limit`, or a request failed, for the last time.
    pub(crate) fn last_slower_than(&self, limit: Duration) -> Option<Instant> {
        let slow =
            self.responses.iter().filter(|response| response.1 > limit).map(|response| response.0);
        slow.chain(self.failures.iter().copied()).max()
    }

    /// `success %`, `p99` and `max`, as in every table.
    pub(crate) fn cells(&self) -> [String; 3] {
        [self.success(), self.quantile(0.99), self.quantile(1.0)]
    }

    fn times(&self) -> Vec<Duration> {
        self.responses.iter().map(|response| response.1).collect()
    }
}

/// Connections that are used round robin, each with its queue of requests.
struct Connections {
    pool: ClientPool,
    queues: HashMap<ClientId, VecDeque<Instant>>,
    order: VecDeque<ClientId>,
    results: ProbeResults,
}

impl Connections {
    fn new(target: SocketAddr, clients: usize) -> io::Result<Self> {
        let pool = ClientPool::new(target, ClientKind::Probe)?;
        let (queues, order) = (HashMap::new(), VecDeque::new());
        let mut pool = Self { pool, queues, order, results: ProbeResults::default() };
        for _ in 0..clients {
            pool.open()?;
        }
        Ok(pool)
    }

    fn open(&mut self) -> io::Result<ClientId> {
        let id = self.pool.open()?;
        self.queues.insert(id, VecDeque::new());
        self.order.push_back(id);
        Ok(id)
    }

    fn run(
        mut self,
        pause: Duration,
        stop: &AtomicBool,
        ready: &mpsc::Sender<()>,
    ) -> io::Result<ProbeResults> {
        for _ in 0..self.order.len() {
            self.send_request();
        }
        while self.is_pending() {
            self.poll(TIMEOUT)?;
        }
        self.results = ProbeResults::default(); // without the first requests
        if ready.send(()).is_err() {
            return Ok(self.results); // the scenario has ended
        }
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= due {
                self.send_request();
                due = now.max(due + pause);
            }
            self.poll(due.saturating_duration_since(now))?;
        }
        let deadline = Instant::now() + TIMEOUT;
        while self.is_pending() && Instant::now() < deadline {
            self.poll(Duration::from_millis(20))?;
        }
        let failed: usize = self.queues.values().map(VecDeque::len).sum();
        self.results.failures.extend(std::iter::repeat_n(Instant::now(), failed));
        Ok(self.results)
    }

    fn is_pending(&self) -> bool {
        self.queues.values().any(|queue| !queue.is_empty())
    }

    /// Sends a request on a connection without pending requests, or queues it.
    fn send_request(&mut self) {
        let free = |id: &ClientId| self.queues.get(id).is_some_and(VecDeque::is_empty);
        let index = self.order.iter().position(free).unwrap_or(0);
        let Some(id) = self.order.remove(index) else { return };
        self.order.push_back(id);
        let queue = self.queues.entry(id).or_default();
        queue.push_back(Instant::now());
        if queue.len() == 1 {
            self.pool.send(id, GET_F20);
        }
    }

    fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        for (id, event) in self.pool.poll(timeout)? {
            match event {
                PoolEvent::Connected | PoolEvent::Sent => {}
                PoolEvent::Received => self.receive(id),
                PoolEvent::Closed(_) => self.replace(id)?,
            }
        }
        Ok(())
    }

    /// Replaces a connection that the server has closed. The request sent on it has failed; those in its queue
    /// are sent on the new one.
    fn replace(&mut self, id: ClientId) -> io::Result<()> {
        self.pool.close(id);
        self.order.retain(|other| *other != id);
        let mut queue = self.queues.remove(&id).unwrap_or_default();
        self.results.failures.extend(queue.pop_front().map(|_| Instant::now()));
        self.results.reconnects += 1;
        let id = self.open()?;
        if !queue.is_empty() {
            self.pool.send(id, GET_F20);
        }
        self.queues.insert(id, queue);
        Ok(())
    }

    fn receive(&mut self, id: ClientId) {
        let Some(is_correct) =
            self.pool.client(id).and_then(|client| take_f20(&mut client.received))
        else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let now = Instant::now();
        match queue.pop_front() {
            Some(since) if is_correct => self.results.responses.push((now, now - since)),
            _ => self.results.failures.push(now),
        }
        if !queue.is_empty() {
            self.pool.send(id, GET_F20);
        }
    }
}
