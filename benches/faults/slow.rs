//! Clients that send nothing, too little or half a request: how long the server keeps their connections, how
//! it responds, and the latency of probe clients.

use crate::{
    client_pool::{ClientId, ClientKind, ClientPool, CloseKind, PoolEvent},
    harness::{report, server::Server},
    monitor::Monitor,
    options::Options,
    probe::Probe,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

const CLIENTS: usize = 300;
const SECOND: Duration = Duration::from_secs(1);
const HALF_A_HEAD: &[u8] = b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: local";
const BODY_TO_COME: &[u8] =
    b"POST /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";

/// How slow clients send: some bytes at first, and then some every second.
struct Pace {
    name: &'static str,
    first: &'static [u8],
    then: &'static [u8],
    /// Whether they send FIN after the first bytes.
    sends_fin: bool,
}

const PACES: [Pace; 6] = [
    Pace { name: "silent", first: b"", then: b"", sends_fin: false },
    Pace { name: "head, a byte a second", first: HALF_A_HEAD, then: b"x", sends_fin: false },
    Pace {
        name: "head, a line a second",
        first: b"GET /api/fibonacci/20 HTTP/1.1\r\n",
        then: b"X-Field: value\r\n",
        sends_fin: false,
    },
    Pace { name: "body, a byte a second", first: BODY_TO_COME, then: b"x", sends_fin: false },
    Pace { name: "half a head, then nothing", first: HALF_A_HEAD, then: b"", sends_fin: false },
    Pace { name: "half a head, then FIN", first: HALF_A_HEAD, then: b"", sends_fin: true },
];

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "clients",
        "closed after s: min / median / max",
        "not closed",
        "status, close",
        "probe success %",
        "p99 ms",
        "max ms",
        "peak RSS, MB",
        "bytes per client",
    ]);
    let count = options.clients.unwrap_or(CLIENTS);
    for pace in &PACES {
        let server = Server::start(&options.server, None)?;
        let probe = Probe::start(server.address)?;
        let monitor = Monitor::start(&server)?;
        let mut clients = Clients::new(&server, monitor)?;
        clients.send_slowly(pace, count, options.wait)?;
        row(&format!("{count} × {}", pace.name), count, clients, probe)?;
    }
    let server = Server::start(&options.server, None)?;
    let probe = Probe::start(server.address)?;
    let monitor = Monitor::start(&server)?;
    let mut clients = Clients::new(&server, monitor)?;
    let aborted = clients.abort(count, options.wait)?;
    row(
        &format!("{aborted} × aborted (RST, or half a head and RST or FIN): until released"),
        aborted,
        clients,
        probe,
    )
}

/// Slow clients, and how the server treated them.
struct Clients<'server> {
    server: &'server Server,
    monitor: Monitor,
    pool: ClientPool,
    /// How long each connection lasted.
    lifetimes: Vec<Duration>,
    outcomes: BTreeMap<String, usize>,
}

impl<'server> Clients<'server> {
    fn new(server: &'server Server, monitor: Monitor) -> io::Result<Self> {
        let pool = ClientPool::new(server.address, ClientKind::Reading)?;
        Ok(Self { server, monitor, pool, lifetimes: Vec::new(), outcomes: BTreeMap::new() })
    }

    /// Opens all connections at once and sends at this pace until the server has closed the last.
    fn send_slowly(&mut self, pace: &Pace, count: usize, wait: Duration) -> io::Result<()> {
        for _ in 0..count {
            let id = self.pool.open()?;
            self.pool.send(id, pace.first);
            if pace.sends_fin {
                self.pool.finish(id);
            }
        }
        let mut next = Instant::now() + SECOND;
        let deadline = Instant::now() + wait;
        while self.pool.len() > 0 && Instant::now() < deadline {
            for (id, event) in self.pool.poll(Duration::from_millis(50))? {
                match event {
                    PoolEvent::Closed(kind) => self.record(id, kind),
                    PoolEvent::Connected | PoolEvent::Received | PoolEvent::Sent => {}
                }
            }
            if Instant::now() >= next {
                next += SECOND;
                for id in self.pool.ids() {
                    self.pool.send(id, pace.then);
                }
            }
            self.monitor.sample(self.server)?;
        }
        Ok(())
    }

    fn record(&mut self, id: ClientId, kind: CloseKind) {
        let Some(client) = self.pool.close(id) else { return };
        self.lifetimes.push(client.opened.elapsed());
        let status = client
            .received
            .get(9..12)
            .map_or_else(|| "no response".into(), String::from_utf8_lossy);
        *self.outcomes.entry(format!("{status}, {kind:?}")).or_default() += 1;
    }

    /// Opens `count` connections per second for five seconds and aborts them; then waits until the server has
    /// released all. Returns the number of connections.
    fn abort(&mut self, count: usize, wait: Duration) -> io::Result<usize> {
        let mut opened = 0;
        for _ in 0..50 {
            let due = Instant::now() + SECOND / 10;
            for _ in 0..count / 10 {
                self.pool.open()?;
                opened += 1;
            }
            while Instant::now() < due {
                for (id, event) in self.pool.poll(due - Instant::now())? {
                    if !matches!(event, PoolEvent::Connected) {
                        continue;
                    }
                    if id % 3 > 0 {
                        self.pool.send(id, HALF_A_HEAD);
                    }
                    if id % 3 == 2 {
                        drop(self.pool.close(id));
                    } else {
                        self.pool.reset(id);
                    }
                }
                self.monitor.sample(self.server)?;
            }
        }
        let last = Instant::now();
        while last.elapsed() < wait {
            if self.server.usage()?.descriptors <= self.monitor.before.descriptors {
                self.lifetimes.push(last.elapsed());
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(opened)
    }
}

fn row(name: &str, count: usize, mut clients: Clients<'_>, probe: Probe) -> io::Result<()> {
    let probe = probe.finish()?;
    clients.lifetimes.sort_unstable();
    let at = |index: usize| {
        clients
            .lifetimes
            .get(index)
            .map_or_else(|| "-".into(), |lifetime| format!("{:.2}", lifetime.as_secs_f64()))
    };
    let outcomes = clients.outcomes.iter().map(|(what, times)| format!("{times} × {what}"));
    let outcomes = outcomes.collect::<Vec<_>>().join("; ");
    let outcomes = if outcomes.is_empty() { "-".to_owned() } else { outcomes };
    let growth = report::growth(clients.monitor.before.rss, clients.monitor.peak.rss);
    let last = clients.lifetimes.len().saturating_sub(1);
    let [success, p99, max] = probe.cells();
    report::row(&[
        name.to_owned(),
        format!("{} / {} / {}", at(0), at(last / 2), at(last)),
        clients.pool.len().to_string(),
        outcomes,
        success,
        p99,
        max,
        report::megabytes(growth),
        (growth / count.cast_signed() as i64).to_string(),
    ]);
    Ok(())
}
