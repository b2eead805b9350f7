//! Thousands of simultaneous new connections with one request each; a new one is opened when one closes.

use crate::{
    client_pool::{ClientId, ClientKind, ClientPool, CloseKind, PoolEvent},
    harness::{
        f20::take_f20,
        report::{self, change},
        server::Server,
    },
    monitor::{Monitor, listen_overflows},
    options::Options,
    probe::Probe,
};
use std::{
    collections::{HashMap, VecDeque},
    io, thread,
    time::{Duration, Instant},
};

const SIMULTANEOUS: usize = 6_000;
const SECONDS: u64 = 10;
/// How long the probe clients run before and after the burst.
const PROBE_TIME: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(5);
const GET_F20: &[u8] =
    b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let count = options.clients.unwrap_or(SIMULTANEOUS);
    let span = Duration::from_secs(options.seconds.unwrap_or(SECONDS));
    let server = Server::start(&options.server, None)?;
    let probe = Probe::start(server.address)?;
    let overflows = listen_overflows();
    let start = Instant::now();
    thread::sleep(PROBE_TIME);
    let mut burst = Burst::new(&server)?;
    let begin = Instant::now();
    burst.run_until(&server, count, begin + span)?;
    let end = Instant::now();
    let drain_time = burst.drain(&server)?;
    thread::sleep(PROBE_TIME);
    let later = server.usage()?.rss;
    let probe = probe.finish()?;

    let before = probe.between(start, begin);
    let after = probe.between(end, Instant::now());
    let limit = before.p99() * 2 + Duration::from_millis(1);
    let recovery = after.last_slower_than(limit).map_or(Duration::ZERO, |moment| moment - end);
    report::head(&[
        "simultaneous connections",
        "responses/s",
        "failures",
        "p50 / p99 / p99.9 / max ms",
        "listen overflows",
        "peak RSS, later, MB",
        "probe success %",
        "probe p99 ms before → during → after",
        "back to normal after s",
    ]);
    let failures = burst.failures.iter().map(|(what, times)| format!("{times} {what}"));
    let failures = failures.collect::<Vec<_>>().join(", ");
    let times = &mut burst.times;
    let responses = times.len() as f64 / (span + drain_time).as_secs_f64();
    let quantiles = [0.5, 0.99, 0.999, 1.0].map(|share| report::quantile(times, share));
    let rss = |bytes| report::megabytes(report::growth(burst.monitor.before.rss, bytes));
    let p99s = change(before.quantile(0.99), probe.between(begin, end).quantile(0.99));
    report::row(&[
        count.to_string(),
        format!("{responses:.0}"),
        if failures.is_empty() { "0".to_owned() } else { failures },
        quantiles.join(" / "),
        (listen_overflows() - overflows).to_string(),
        format!("{}, {}", rss(burst.monitor.peak.rss), rss(later)),
        probe.success(),
        change(p99s, after.quantile(0.99)),
        format!("{:.2}", recovery.as_secs_f64()),
    ]);
    Ok(())
}

struct Burst {
    pool: ClientPool,
    monitor: Monitor,
    /// Open connections, the oldest first. Those with a response have been removed from the pool.
    open: VecDeque<ClientId>,
    times: Vec<Duration>,
    failures: HashMap<&'static str, usize>,
}

impl Burst {
    fn new(server: &Server) -> io::Result<Self> {
        Ok(Self {
            pool: ClientPool::new(server.address, ClientKind::Reading)?,
            monitor: Monitor::start(server)?,
            open: VecDeque::new(),
            times: Vec::new(),
            failures: HashMap::new(),
        })
    }

    /// Keeps `count` connections open until the deadline.
    fn run_until(&mut self, server: &Server, count: usize, until: Instant) -> io::Result<()> {
        while Instant::now() < until {
            while self.pool.len() < count {
                let id = self.pool.open()?;
                self.pool.send(id, GET_F20);
                self.open.push_back(id);
            }
            self.poll(server)?;
        }
        Ok(())
    }

    /// Waits until the last connection is closed; returns how long it took.
    fn drain(&mut self, server: &Server) -> io::Result<Duration> {
        let start = Instant::now();
        while self.pool.len() > 0 {
            self.poll(server)?;
        }
        Ok(start.elapsed())
    }

    fn poll(&mut self, server: &Server) -> io::Result<()> {
        for (id, event) in self.pool.poll(Duration::from_millis(10))? {
            match event {
                PoolEvent::Connected | PoolEvent::Sent | PoolEvent::Received => {}
                PoolEvent::Closed(CloseKind::Closed) => self.count_response(id),
                PoolEvent::Closed(CloseKind::Refused) => self.fail(id, "refused"),
                PoolEvent::Closed(CloseKind::Reset) => self.fail(id, "reset"),
                PoolEvent::Closed(CloseKind::Failed) => self.fail(id, "other errors"),
            }
        }
        while let Some(oldest) = self.open.front().copied() {
            match self.pool.client(oldest) {
                Some(client) if client.opened.elapsed() < TIMEOUT => break,
                Some(_) => self.fail(oldest, "timed out"),
                None => {}
            }
            self.open.pop_front();
        }
        self.monitor.sample(server)?;
        Ok(())
    }

    /// A response counts when the server has closed the connection after it.
    fn count_response(&mut self, id: ClientId) {
        let Some(client) = self.pool.client(id) else { return };
        match take_f20(&mut client.received) {
            None => self.fail(id, "closed without a response"),
            Some(false) => self.fail(id, "wrong response"),
            Some(true) => {
                self.times.push(client.opened.elapsed());
                drop(self.pool.close(id));
            }
        }
    }

    fn fail(&mut self, id: ClientId, what: &'static str) {
        if self.pool.close(id).is_some() {
            *self.failures.entry(what).or_default() += 1;
        }
    }
}
