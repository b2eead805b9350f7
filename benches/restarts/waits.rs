//! How long requests on new connections wait while a process is stopped, or runs only half of the time.

use crate::{
    client::Client,
    harness::{
        report::{self, quantile},
        server::Server,
    },
    load::{SOURCES, request, request_once},
    options::Options,
    process::accepted_when_stopped,
    rolling::{PROCESSES, Processes},
};
use rustix::process::Signal;
use std::{
    collections::HashSet,
    io::{self, Error},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Clients, and the pause of each after a response if the load is light.
const CLIENTS: usize = 8;
const LIGHT_PAUSE: Duration = Duration::from_millis(2);
/// Time before and after a stop.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a process is stopped.
const STOP: Duration = Duration::from_secs(5);
/// The longest acceptable wait of a request on a connection that the stopped process had not accepted.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// A busy worker runs for this long and cannot run for the same time.
const HALF_PERIOD: Duration = Duration::from_millis(20);
const PERIODS: usize = 100;
/// Rounds with each executable, one after the other.
const ROUNDS: usize = 3;

/// A request on a new connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    local: Option<SocketAddr>,
    start: Instant,
    /// From connecting to the end of the response.
    wait: Duration,
}

/// Clients that open a connection for each request, in a thread each.
#[derive(Debug)]
pub(crate) struct Clients {
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<Vec<Request>>>>,
}

impl Clients {
    pub(crate) fn start(target: SocketAddr, count: usize, pause: Duration) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|number| {
                let is_stopped = Arc::clone(&is_stopped);
                thread::spawn(move || run_client(target, number, pause, &is_stopped))
            })
            .collect();
        Self { is_stopped, threads }
    }

    /// Stops the clients and returns their requests. Returns an error if one has failed.
    pub(crate) fn finish(mut self) -> io::Result<Vec<Request>> {
        self.is_stopped.store(true, Relaxed);
        let mut requests = Vec::new();
        for client in self.threads.drain(..) {
            requests
                .append(&mut client.join().map_err(|_| Error::other("a client has panicked"))??);
        }
        Ok(requests)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.is_stopped.store(true, Relaxed);
    }
}

fn run_client(
    target: SocketAddr,
    number: usize,
    pause: Duration,
    is_stopped: &AtomicBool,
) -> io::Result<Vec<Request>> {
    let bytes = request("Connection: close\r\n", 0);
    let mut requests = Vec::new();
    for round in number.. {
        if is_stopped.load(Relaxed) {
            break;
        }
        let host = u8::try_from(round % SOURCES).unwrap_or_default() + 1;
        let mut client = Client::new(target, Ipv4Addr::new(127, 0, 2, host), None)?;
        let (local, start) = (client.local(), Instant::now());
        request_once(&mut client, &bytes)?;
        requests.push(Request { local, start, wait: start.elapsed() });
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(requests)
}

/// Stops one of two workers for a while.
pub(crate) fn stopped_worker(options: &Options) -> io::Result<()> {
    let server = Server::start(&options.command("127.0.0.1:0", "--workers 2"), None)?;
    let &[_, worker, _] = server.family().as_slice() else {
        return Err(Error::other("not exactly two workers"));
    };
    stopped(server.address, worker)
}

/// Stops one of two independent processes for a while.
pub(crate) fn stopped_process(options: &Options) -> io::Result<()> {
    let mut processes = Processes::start_all(options, PROCESSES)?;
    let oldest = processes.alive.front().ok_or_else(|| Error::other("no process is left"))?;
    let outcome = stopped(processes.address()?, oldest.child.id());
    processes.finish()?;
    outcome
}

fn stopped(target: SocketAddr, pid: u32) -> io::Result<()> {
    let clients = Clients::start(target, CLIENTS, Duration::ZERO);
    thread::sleep(MARGIN);
    let accepted: HashSet<_> = accepted_when_stopped(pid)?.into_iter().collect();
    let stopped = Instant::now();
    thread::sleep(STOP);
    Server::signal(pid, Signal::CONT);
    thread::sleep(MARGIN);
    let requests = clients.finish()?;
    let is_accepted = |request: &&Request| {
        let is_open = request.start < stopped && request.start + request.wait > stopped;
        is_open && request.local.is_some_and(|local| accepted.contains(&local))
    };
    let excluded = requests.iter().filter(is_accepted).count();
    let (mut before, mut during) = (Vec::new(), Vec::new());
    for request in requests.iter().filter(|request| !is_accepted(request)) {
        let is_before = request.start + request.wait < stopped;
        if is_before { &mut before } else { &mut during }.push(request.wait);
    }
    report::head(&["requests", "median ms", "p99 ms", "longest ms", "on accepted connections"]);
    for (name, times, excluded) in
        [("before", &mut before, String::new()), ("stopped", &mut during, excluded.to_string())]
    {
        let [median, p99, longest] = [0.5, 0.99, 1.0].map(|share| quantile(times, share));
        report::row(&[format!("{name}: {}", times.len()), median, p99, longest, excluded]);
    }
    match during.last() {
        Some(longest) if *longest <= WAIT_MAX => Ok(()),
        longest => Err(Error::other(format!("the longest wait is {longest:?}"))),
    }
}

/// Lets one of two workers run for half of the time only, as if it was busy with other requests.
pub(crate) fn busy(options: &Options) -> io::Result<()> {
    report::head(&["executable", "requests", "median ms", "p90 ms", "p99 ms", "longest ms"]);
    let mut measured: Vec<Vec<Duration>> = options.executables().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (executable, times) in options.executables().zip(&mut measured) {
            let command = options.command_of(executable, "127.0.0.1:0", "--workers 2");
            times.append(&mut beside_busy_worker(&command)?);
        }
    }
    for (executable, times) in options.executables().zip(&mut measured) {
        let figures = [0.5, 0.9, 0.99, 1.0].map(|share| quantile(times, share));
        report::row(&[&[executable.to_owned(), times.len().to_string()], &figures[..]].concat());
    }
    Ok(())
}

fn beside_busy_worker(command: &str) -> io::Result<Vec<Duration>> {
    let server = Server::start(command, None)?;
    let &[_, worker, _] = server.family().as_slice() else {
        return Err(Error::other("not exactly two workers"));
    };
    let clients = Clients::start(server.address, CLIENTS, LIGHT_PAUSE);
    for _ in 0..PERIODS {
        Server::signal(worker, Signal::STOP);
        thread::sleep(HALF_PERIOD);
        Server::signal(worker, Signal::CONT);
        thread::sleep(HALF_PERIOD);
    }
    Ok(clients.finish()?.iter().map(|request| request.wait).collect())
}
