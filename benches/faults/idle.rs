//! Idle keep-alive connections: memory of each, CPU of all, and memory freed when they close.

use crate::{
    client_pool::{ClientKind, ClientPool, PoolEvent},
    harness::{
        f20::{GET_F20, take_f20},
        report::{self, change},
        server::Server,
    },
    options::Options,
    probe::Probe,
};
use std::{
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

const STEPS: [usize; 3] = [1_000, 10_000, 18_500];
/// Connections opened at a time: fewer than any listen backlog.
const OPENING: usize = 100;
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// How long the server is idle, and how long the active client sends requests alone and beside the others.
const MEASURE_TIME: Duration = Duration::from_secs(5);
/// Requests per second of the active client: enough for a meaningful p99.
const RATE: u32 = 400;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "connections",
        "RSS each, bytes",
        "RSS, MB",
        "freed",
        "CPU %",
        "wakeups/s",
        "active p50 ms alone → beside idle ones",
        "p99 ms alone → beside idle ones",
        "closed by the server",
    ]);
    for count in options.clients.map_or_else(|| STEPS.to_vec(), |count| vec![count]) {
        report::row(&step(options, count)?);
    }
    Ok(())
}

fn step(options: &Options, count: usize) -> io::Result<Vec<String>> {
    let server = Server::start(&options.server, None)?;
    let active = || -> io::Result<_> {
        let probe = Probe::start_with(server.address, RATE, 1)?;
        thread::sleep(MEASURE_TIME);
        probe.finish()
    };
    let alone = active()?;
    let before = server.usage()?.rss;
    let mut pool = ClientPool::new(server.address, ClientKind::Reading)?;
    fill(&mut pool, count)?;
    thread::sleep(SETTLE_TIME);
    let full = server.usage()?.rss;

    let (cpu, wakeups) = server.measure(MEASURE_TIME);

    let beside = active()?;
    let events = pool.poll(Duration::ZERO)?;
    let closed = events.iter().filter(|one| matches!(one.1, PoolEvent::Closed(_))).count();
    drop(pool);
    thread::sleep(2 * SETTLE_TIME);
    let after = server.usage()?.rss;

    let growth = report::growth(before, full);
    let freed = report::growth(after, full);
    Ok(vec![
        count.to_string(),
        (growth / count.cast_signed() as i64).to_string(),
        format!("{:.1}", full as f64 / 1e6),
        format!("{:.0} %", 100.0 * freed as f64 / growth.max(1) as f64),
        format!("{:.3}", cpu),
        format!("{wakeups:.1}"),
        change(alone.quantile(0.5), beside.quantile(0.5)),
        change(alone.quantile(0.99), beside.quantile(0.99)),
        closed.to_string(),
    ])
}

/// Opens connections until `count` of them have received one response.
fn fill(pool: &mut ClientPool, count: usize) -> io::Result<()> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let mut served = 0;
    while served < count {
        while pool.len() < count.min(served + OPENING) {
            let id = pool.open()?;
            pool.send(id, GET_F20);
        }
        for (id, event) in pool.poll(Duration::from_millis(100))? {
            match event {
                PoolEvent::Received => {
                    let received = pool.client(id).map(|client| &mut client.received);
                    if received.and_then(take_f20) == Some(true) {
                        served += 1;
                    }
                }
                PoolEvent::Connected | PoolEvent::Sent => {}
                PoolEvent::Closed(kind) => {
                    let error = format!("connection {} was closed: {kind:?}", pool.len());
                    return Err(Error::other(error));
                }
            }
        }
        if Instant::now() > deadline {
            return Err(Error::other(format!("only {served} of {count} were served")));
        }
    }
    Ok(())
}
