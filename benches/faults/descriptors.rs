//! More clients than the server may have open files: its CPU use while it cannot accept, and how soon it
//! accepts again.

use crate::{
    client_pool::{ClientId, ClientKind, ClientPool, PoolEvent},
    harness::{
        f20::{GET_F20, take_f20},
        report,
        server::Server,
    },
    options::Options,
    probe::Probe,
};
use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

const OPEN_FILES: usize = 64;
const CLIENTS: usize = 300;
const HOLDERS: usize = 100;
/// How long the server is measured while it has no descriptors left. It is less than the head timeout of
/// 10 s of the clients that hold them.
const MEASURE_TIME: Duration = Duration::from_secs(4);
const SETTLE_TIME: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "clients",
        "responses",
        "CPU % while exhausted",
        "wakeups/s",
        "existing connection, success %",
        "p99 ms",
        "reconnects",
        "log lines, bytes",
        "waiting",
        "served after descriptors were freed, ms: first / all",
    ]);
    let count = options.clients.unwrap_or(CLIENTS);
    let logged = measure(options, &format!("{count} send a request and stay"), 0, count)?;
    let rest = count.saturating_sub(HOLDERS);
    measure(
        options,
        &format!("{HOLDERS} with half a request, then {rest} with a whole one"),
        HOLDERS,
        rest,
    )?;
    println!("\nFirst log line: {}", logged.lines().next().unwrap_or("none"));
    Ok(())
}

/// `holders` occupy the descriptors with half a request, so that the server cannot evict them; then
/// `waiting_clients` send a request and stay connected. Returns what was logged meanwhile.
fn measure(
    options: &Options,
    name: &str,
    holders: usize,
    waiting_clients: usize,
) -> io::Result<String> {
    let server = Server::start(&options.server, Some(OPEN_FILES))?;
    let existing = Probe::start_with(server.address, 10, 1)?;
    let logged = server.log_text();
    let mut clients = Clients::new(&server)?;
    let holders = clients.open(holders, b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: local")?;
    clients.receive(SETTLE_TIME / 2)?;
    clients.open(waiting_clients, GET_F20)?;
    clients.receive(SETTLE_TIME)?;

    let (cpu, wakeups) = server.measure(MEASURE_TIME);
    clients.receive(Duration::ZERO)?;
    let served_before = clients.served.len();
    let log = server.log_text();
    let new_lines = log.get(logged.len()..).unwrap_or_default();

    for id in holders.into_iter().chain(clients.served.drain()) {
        drop(clients.pool.close(id));
    }
    clients.closes = true;
    let waiting = clients.pool.len();
    let times = clients.receive(TIMEOUT)?;
    let left = clients.pool.len();
    let existing = existing.finish()?;
    report::row(&[
        name.to_owned(),
        served_before.to_string(),
        format!("{cpu:.2}"),
        format!("{wakeups:.1}"),
        existing.success(),
        existing.quantile(0.99),
        existing.reconnects.to_string(),
        format!("{}, {}", new_lines.lines().count(), new_lines.len()),
        if left == 0 { waiting.to_string() } else { format!("{waiting} ({left} never served)") },
        times.map_or_else(
            || "-".to_owned(),
            |(first, last)| format!("{} / {}", report::millis(first), report::millis(last)),
        ),
    ]);
    Ok(new_lines.to_owned())
}

struct Clients {
    pool: ClientPool,
    served: HashSet<ClientId>,
    /// Whether a client is closed after its response, which frees a descriptor for the next.
    closes: bool,
}

impl Clients {
    fn new(server: &Server) -> io::Result<Self> {
        let pool = ClientPool::new(server.address, ClientKind::Reading)?;
        Ok(Self { pool, served: HashSet::new(), closes: false })
    }

    fn open(&mut self, count: usize, bytes: &[u8]) -> io::Result<Vec<ClientId>> {
        let ids = (0..count).map(|_| self.pool.open()).collect::<io::Result<Vec<_>>>()?;
        for id in &ids {
            self.pool.send(*id, bytes);
        }
        Ok(ids)
    }

    /// Receives responses for a while, or until all clients are closed; returns when the first and the last
    /// arrived.
    fn receive(&mut self, span: Duration) -> io::Result<Option<(Duration, Duration)>> {
        let start = Instant::now();
        let mut served: Option<(Duration, Duration)> = None;
        loop {
            let rest = span.saturating_sub(start.elapsed());
            for (id, event) in self.pool.poll(rest)? {
                match event {
                    PoolEvent::Connected | PoolEvent::Sent => {}
                    PoolEvent::Received => {
                        let received = self.pool.client(id).map(|client| &mut client.received);
                        if received.and_then(take_f20) == Some(true) {
                            let now = start.elapsed();
                            served = Some((served.map_or(now, |first| first.0), now));
                            self.served.insert(id);
                            if self.closes {
                                drop(self.pool.close(id));
                            }
                        }
                    }
                    PoolEvent::Closed(_) => drop(self.pool.close(id)),
                }
            }
            if start.elapsed() >= span || (self.closes && self.pool.len() == 0) {
                return Ok(served);
            }
        }
    }
}
