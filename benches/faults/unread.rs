//! Clients that request much and read nothing: memory in the server and in the kernel.
//!
//! The clients' send buffers are small, so that requests waiting in them hardly count.

use crate::{
    client_pool::{ClientKind, ClientPool, CloseKind, PoolEvent},
    harness::{report, server::Server},
    monitor::Monitor,
    options::Options,
    probe::Probe,
};
use std::{
    io,
    process::Command,
    thread,
    time::{Duration, Instant},
};

const CLIENTS: usize = 300;
const FLOOD_CLIENTS: usize = 100;
const FLOOD_SECONDS: u64 = 12;
const SLOW_BYTES: usize = 200;
const SECOND: Duration = Duration::from_secs(1);

/// What the clients do.
struct Attack {
    name: String,
    clients: usize,
    /// What each client sends.
    requests: Vec<u8>,
    /// For how long it sends that repeatedly.
    repeats: Duration,
    /// Bytes that it reads per second.
    reads: usize,
    /// How long to wait until the server closes the connections.
    wait: Duration,
}

/// What happened.
#[derive(Default)]
struct Outcome {
    /// When the server had closed the first and the last connection, by its descriptors.
    first_closed: Option<Duration>,
    all_closed: Option<Duration>,
    resets: usize,
    closes: usize,
    /// Peak memory of the server's ends of the connections.
    own_peak: u64,
}

/// Sends many requests for a large number; reads nothing, then 200 bytes per second.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    print_header();
    let clients = options.clients.unwrap_or(CLIENTS);
    for (how, reads) in [("nothing", 0), ("200 bytes per second", SLOW_BYTES)] {
        measure(
            options,
            &Attack {
                name: format!("{clients} request {} × {}, read {how}", options.count, options.path),
                clients,
                requests: request(&options.path).repeat(options.count),
                repeats: Duration::ZERO,
                reads,
                wait: options.wait,
            },
        )?;
    }
    Ok(())
}

/// Sends small requests without end and reads nothing.
pub(crate) fn flood(options: &Options) -> io::Result<()> {
    print_header();
    let clients = options.clients.unwrap_or(FLOOD_CLIENTS);
    measure(
        options,
        &Attack {
            name: format!("{clients} pipeline without end, read nothing"),
            clients,
            requests: request("/api/fibonacci/20").repeat(1000),
            repeats: Duration::from_secs(options.seconds.unwrap_or(FLOOD_SECONDS)),
            reads: 0,
            wait: options.wait,
        },
    )
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn print_header() {
    report::head(&[
        "clients",
        "peak kernel TCP memory, MB",
        "of which the server's ends",
        "1 s later",
        "peak RSS, MB",
        "server CPU s",
        "probe success %",
        "p99 ms",
        "max ms",
        "closed after s: first / all",
        "seen by the clients",
    ]);
}

fn measure(options: &Options, attack: &Attack) -> io::Result<()> {
    let server = Server::start(&options.server, None)?;
    let probe = Probe::start(server.address)?;
    let mut monitor = Monitor::start(&server)?;
    let cpu = server.cpu();
    let mut pool = ClientPool::new(server.address, ClientKind::NotReading)?;
    let outcome = run_attack(attack, &server, &mut monitor, &mut pool)?;
    let cpu = server.cpu().saturating_sub(cpu);
    thread::sleep(SECOND);
    let later = server.usage()?.tcp; // of connections that were not closed
    let [success, p99, max] = probe.finish()?.cells();
    let seconds = |moment: Option<Duration>| {
        moment.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
    };
    let growth = |bytes| report::megabytes(report::growth(monitor.before.tcp, bytes));
    report::row(&[
        attack.name.clone(),
        growth(monitor.peak.tcp),
        format!("{:.1}", outcome.own_peak as f64 / 1e6),
        growth(later),
        report::megabytes(report::growth(monitor.before.rss, monitor.peak.rss)),
        format!("{:.2}", cpu.as_secs_f64()),
        success,
        p99,
        max,
        format!("{} / {}", seconds(outcome.first_closed), seconds(outcome.all_closed)),
        format!("{} resets, {} closes, {} open", outcome.resets, outcome.closes, pool.len()),
    ]);
    Ok(())
}

/// Runs the clients until the server has closed all connections or the wait is over.
fn run_attack(
    attack: &Attack,
    server: &Server,
    monitor: &mut Monitor,
    pool: &mut ClientPool,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let mut second = start + SECOND;
    let mut peak = 0;
    for _ in 0..attack.clients {
        let id = pool.open()?;
        pool.send(id, &attack.requests);
    }
    while start.elapsed() < attack.wait {
        for (id, event) in pool.poll(Duration::from_millis(20))? {
            match event {
                PoolEvent::Sent if start.elapsed() < attack.repeats => {
                    pool.send(id, &attack.requests);
                }

                PoolEvent::Connected | PoolEvent::Sent | PoolEvent::Received => {}
                PoolEvent::Closed(kind) => {
                    if kind == CloseKind::Reset {
                        outcome.resets += 1;
                    } else {
                        outcome.closes += 1;
                    }
                    pool.reset(id);
                }
            }
        }
        if monitor.sample(server)? {
            let held = monitor.held();
            peak = peak.max(held);
            if held < peak && outcome.first_closed.is_none() {
                outcome.first_closed = Some(start.elapsed());
            }
            if held == 0 && peak > 0 {
                outcome.all_closed = Some(start.elapsed());
                break;
            }
        }
        if Instant::now() >= second {
            second += SECOND;
            outcome.own_peak = outcome.own_peak.max(server_socket_memory(server));
            for id in pool.ids() {
                pool.read_some(id, attack.reads);
            }
        }
    }
    Ok(outcome)
}

/// Kernel memory of the server's ends of the clients' connections, closed ones included: the receive, send
/// and forward-allocated memory of `skmem:(r1,rb2,t3,tb4,f5,w6,...)`.
fn server_socket_memory(server: &Server) -> u64 {
    let filter = format!("src {} dst 127.0.1.0/24", server.address);
    let output = Command::new("ss").args(["-tnmOH", "state", "all", &filter]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let memories = text.lines().filter_map(|line| line.split_once("skmem:(")?.1.split_once(')'));
    let counted = |field: &str| -> u64 {
        let digits = field.strip_prefix(['r', 'w', 'f']);
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    };
    memories.flat_map(|memory| memory.0.split(',').map(counted).collect::<Vec<_>>()).sum()
}
