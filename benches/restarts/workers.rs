//! The workers of one supervisor: when they serve, how connections spread over them, and how many there are during
//! many upgrades.

use crate::{
    client::{Client, Pace},
    harness::{
        f20::F20,
        process::open_files,
        report::{self, millis, quantile},
        server::Server,
    },
    load::{LOCAL_ADDRESS, request},
    options::Options,
    process::await_condition,
    waits::Clients,
};
use rustix::process::Signal;
use std::{
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

/// Connections for each worker.
const SHARE: usize = 500;
/// Connections that are open at a time.
const OPEN_MAX: usize = 4_000;
/// The largest deviation from the share of a worker: 20 %.
const DEVIATION_MAX: usize = SHARE / 5;
/// Time for the other workers to register the listener of a new one.
const SETTLE: Duration = Duration::from_millis(200);

/// The time until all workers of a supervisor serve.
pub(crate) fn startup(options: &Options) -> io::Result<()> {
    const ROUNDS: usize = 11;
    let flags = format!("--workers {}", options.workers.unwrap_or(64));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut server = Server::start(&options.command("127.0.0.1:0", &flags), None)?;
        times.push(start.elapsed());
        server.stop()?;
    }
    report::head(&["workers", "ready after ms, median / max"]);
    let median = quantile(&mut times, 0.5);
    let longest = millis(times.last().copied().unwrap_or_default());
    report::row(&[options.workers.unwrap_or(64).to_string(), format!("{median} / {longest}")]);
    Ok(())
}

/// Opens one connection after the other and counts how many each worker has accepted, before and after a worker
/// is replaced.
pub(crate) fn spread(options: &Options) -> io::Result<()> {
    let workers = options.workers.unwrap_or(4);
    let server =
        Server::start(&options.command("127.0.0.1:0", &format!("--workers {workers}")), None)?;
    report::head(&["connections", "of each worker", "largest deviation"]);
    let mut largest = 0;
    for name in ["at first", "a worker was replaced", "another was replaced"] {
        if name != "at first" {
            replace_worker(&server)?;
        }
        let counts = accepted_by_each(&server, workers * SHARE)?;
        let deviation = counts.iter().map(|count| count.abs_diff(SHARE)).max().unwrap_or_default();
        let percent = 100.0 * deviation as f64 / SHARE as f64;
        report::row(&[name.to_owned(), format!("{counts:?}"), format!("{percent:.0} %")]);
        largest = largest.max(deviation);
    }
    match largest {
        0..=DEVIATION_MAX => Ok(()),
        _ => Err(Error::other(format!("a worker differs from its share by {largest} of {SHARE}"))),
    }
}

fn replace_worker(server: &Server) -> io::Result<()> {
    let before = server.family();
    let &[_, oldest, ..] = before.as_slice() else { return Err(Error::other("no worker")) };
    Server::signal(oldest, Signal::KILL);
    await_condition("replacement of the worker", || {
        let now = server.family();
        Ok(now.len() == before.len() && !now.contains(&oldest))
    })?;
    thread::sleep(SETTLE);
    Ok(())
}

fn accepted_by_each(server: &Server, count: usize) -> io::Result<Vec<usize>> {
    let workers = server.family().split_off(1);
    let files = || workers.iter().map(|pid| open_files(*pid)).collect::<io::Result<Vec<_>>>();
    let (mut accepted, mut left) = (vec![0; workers.len()], count);
    while left > 0 {
        let before = files()?;
        let mut clients = Vec::new();
        for _ in 0..left.min(OPEN_MAX) {
            let mut client = Client::new(server.address, LOCAL_ADDRESS, None)?;
            client.connect()?;
            client.send(&request("", 0))?;
            client.receive(F20, Pace::AT_ONCE)?;
            clients.push(client);
        }
        for ((accepted, after), before) in accepted.iter_mut().zip(files()?).zip(&before) {
            *accepted += after.saturating_sub(*before);
        }
        left -= clients.len();
        drop(clients);
        await_condition("close of all connections", || Ok(files()? == before))?;
    }
    Ok(accepted)
}

/// Sends many SIGHUPs within a second and counts the processes of the supervisor meanwhile.
pub(crate) fn burst(options: &Options) -> io::Result<()> {
    const SIGNALS: u32 = 50;
    const SPAN: Duration = Duration::from_secs(1);
    const QUIET: Duration = Duration::from_secs(3);
    let workers = options.workers.unwrap_or(32);
    let mut server =
        Server::start(&options.command("127.0.0.1:0", &format!("--workers {workers}")), None)?;
    let clients = Clients::start(server.address, 2, Duration::from_millis(1));
    let (mut most, mut sent, start) = (0, 0, Instant::now());
    let mut last_change = start;
    let mut known = server.family();
    while sent < SIGNALS || last_change.elapsed() < QUIET {
        if sent < SIGNALS && start.elapsed() >= SPAN / SIGNALS * sent {
            Server::signal(server.child.id(), Signal::HUP);
            sent += 1;
        }
        let family = server.family();
        if family != known {
            (known, last_change) = (family, Instant::now());
        }
        most = most.max(known.len() - 1);
        thread::sleep(Duration::from_millis(1));
    }
    let requests = clients.finish()?.len();
    server.check_running()?;
    report::head(&["workers", "SIGHUPs", "most processes", "at the end", "seconds", "requests"]);
    let took = last_change.duration_since(start).as_secs_f64();
    let figures = [workers, sent as usize, most, known.len() - 1].map(|figure| figure.to_string());
    report::row(&[&figures[..], &[format!("{took:.1}"), requests.to_string()]].concat());
    server.stop()?;
    // The check of the executable is a process as well.
    match (most, known.len() - 1) {
        (most, end) if most <= 2 * workers + 1 && end == workers => Ok(()),
        _ => Err(Error::other("more than twice the workers, or not the same number in the end")),
    }
}
