//! The load: clients of several kinds, each in a thread of its own, which send requests until they are stopped.
//!
//! None of their requests may fail while servers are drained:
//!
//! - *single-request clients* connect, send one request, and read to the end of the stream.
//! - *keep-alive clients* send many requests on one connection, with pauses much shorter than the drain grace. So
//!   a draining server always has a response in which to send `Connection: close`, and closes no connection
//!   with a request in flight.
//! - *idle clients* do the same with pauses longer than the drain grace. A draining server closes their
//!   connections while they are idle. A request in flight at that moment is retried.
//! - *slow readers* request a large number and read it slowly; *slow senders* send their request in pieces. Both
//!   take about as long as a restart.

use crate::{
    client::{Client, Failure, KeepAlive, Pace, Pause, RequestError},
    harness::{f20::F20, rng::Rng},
    stats::{Kind, Stats},
};
use fibsrv::fibonacci::doubling;
use std::{
    io::{self, Error},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The number that slow readers request: 209 kB, most of which the server has not sent while they pause.
const LARGE_N: u64 = 1_000_000;
const RECEIVE_BUFFER: usize = 4096;
const SLOW: Pace = Pace { read_bytes: 8 * 1024, pause: Duration::from_millis(30) };

/// Longest pause of keep-alive clients, and of slow senders within a request.
const PAUSE_MAX_MS: usize = 300;
/// Shortest pause of idle clients, and how much longer it may be.
const IDLE_MIN_MS: usize = 1500;
const IDLE_RANGE_MS: usize = 1500;

/// The number of loopback addresses of single-request clients: one does not have enough ports.
pub(crate) const SOURCES: usize = 64;
/// The address of all other clients.
pub(crate) const LOCAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);
/// Pause after a failure, which limits the number of failures if nothing listens.
const FAILURE_PAUSE: Duration = Duration::from_millis(5);

/// The number of clients of each kind, and the size of their requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) single_request: usize,
    pub(crate) keep_alive_clients: usize,
    pub(crate) idle_clients: usize,
    pub(crate) slow_readers: usize,
    pub(crate) slow_senders: usize,
    /// Chunks in the body of each request of single-request and keep-alive clients.
    pub(crate) chunks: usize,
}

/// Running clients. Dropping it stops them.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) stats: Arc<Stats>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    pub(crate) fn start(target: SocketAddr, mix: &Mix) -> Self {
        let mut load = Self { stats: Arc::new(Stats::new()), threads: Vec::new() };
        let once = request("Connection: close\r\n", mix.chunks);
        let again = request("", mix.chunks);
        let large: Arc<[u8]> = doubling::digits(LARGE_N).into();
        for number in 0..mix.single_request {
            let once = once.clone();
            load.spawn(move |stats| run_single_requests(stats, target, &once, number));
        }
        for number in 0..mix.keep_alive_clients + mix.idle_clients {
            let again = again.clone();
            let [least, more] = if number < mix.keep_alive_clients {
                [0, PAUSE_MAX_MS]
            } else {
                [IDLE_MIN_MS, IDLE_RANGE_MS]
            };
            let mut rng = Rng(number as u64);
            let pause = move || millis(least + rng.below(more));
            load.spawn(move |stats| run_keep_alive(stats, target, &again, pause));
        }
        for _ in 0..mix.slow_readers {
            let digits = Arc::clone(&large);
            load.spawn(move |stats| run_long_requests(stats, || read_slowly(target, &digits)));
        }
        for number in 0..mix.slow_senders {
            let mut rng = Rng(number as u64);
            load.spawn(move |stats| run_long_requests(stats, || send_slowly(target, &mut rng)));
        }
        load
    }

    fn spawn(&mut self, client: impl FnOnce(&Stats) -> io::Result<()> + Send + 'static) {
        let stats = Arc::clone(&self.stats);
        self.threads.push(thread::spawn(move || client(&stats)));
    }

    /// Stops the clients after their current requests.
    pub(crate) fn finish(mut self) -> io::Result<Arc<Stats>> {
        self.stats.stop();
        for client in self.threads.drain(..) {
            client.join().map_err(|_| Error::other("a client has panicked"))??;
        }
        Ok(Arc::clone(&self.stats))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stats.stop();
        for client in self.threads.drain(..) {
            drop(client.join());
        }
    }
}

/// A request for F(20). Its body of one-byte chunks costs the server CPU time in the parser and little else.
pub(crate) fn request(field: &str, chunks: usize) -> Vec<u8> {
    let head = format!("GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\n{field}");
    let mut bytes = head.into_bytes();
    if chunks > 0 {
        bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        bytes.extend(b"1\r\nx\r\n".repeat(chunks));
        bytes.extend(b"0\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

/// Sends one request on a new connection; reads the response and the end of the stream.
pub(crate) fn request_once(client: &mut Client, request: &[u8]) -> Result<(), RequestError> {
    client.connect()?;
    client.send(request)?;
    client.receive(F20, Pace::AT_ONCE)?;
    client.receive_eof()
}

fn run_single_requests(
    stats: &Stats,
    target: SocketAddr,
    request: &[u8],
    number: usize,
) -> io::Result<()> {
    for round in number.. {
        if stats.is_stopped() {
            break;
        }
        let host = u8::try_from(round % SOURCES).unwrap_or_default() + 1;
        let mut client = Client::new(target, Ipv4Addr::new(127, 0, 2, host), None)?;
        stats.record_request();
        match request_once(&mut client, request) {
            Ok(()) => stats.record_response(Kind::New),
            Err(error) => record_failure(stats, Kind::New, error, &client),
        }
    }
    Ok(())
}

fn record_failure(stats: &Stats, kind: Kind, error: RequestError, client: &Client) {
    stats.record_failure(kind, error, client.local());
    thread::sleep(FAILURE_PAUSE);
}

/// Uses one connection after the other, each for as many requests as the server allows.
fn run_keep_alive(
    stats: &Stats,
    target: SocketAddr,
    request: &[u8],
    mut pause: impl FnMut() -> Duration,
) -> io::Result<()> {
    while !stats.is_stopped() {
        let mut client = Client::new(target, LOCAL_ADDRESS, None)?;
        if let Err(error) = keep_alive_session(stats, &mut client, request, &mut pause) {
            record_failure(stats, Kind::KeepAlive, error, &client);
        }
    }
    Ok(())
}

fn keep_alive_session(
    stats: &Stats,
    client: &mut Client,
    request: &[u8],
    pause: &mut impl FnMut() -> Duration,
) -> Result<(), RequestError> {
    stats.record_request();
    client.connect()?;
    client.send(request)?;
    let mut keep_alive = client.receive(F20, Pace::AT_ONCE)?;
    loop {
        stats.record_response(Kind::KeepAlive);
        if keep_alive == KeepAlive::No {
            return client.receive_eof();
        }
        if client.pause(pause())? == Pause::Closed {
            count(&stats.closed);
            return Ok(());
        }
        if stats.is_stopped() {
            return Ok(());
        }
        stats.record_request();
        client.send(request)?;
        keep_alive = match client.receive(F20, Pace::AT_ONCE) {
            // A close without a reset, on a connection that has had responses.
            Err(error) if error.failure == Failure::NoResponse => {
                count(&stats.crossed);
                return Ok(());
            }
            heard => heard?,
        };
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Sends one long request after the other, each on a connection of its own.
fn run_long_requests(
    stats: &Stats,
    mut start: impl FnMut() -> io::Result<(Client, Result<(), RequestError>)>,
) -> io::Result<()> {
    while !stats.is_stopped() {
        let restarts = stats.restarts();
        stats.record_request();
        let (client, outcome) = start()?;
        match outcome {
            Ok(()) => stats.record_response(Kind::Long),
            Err(error) => record_failure(stats, Kind::Long, error, &client),
        }
        if stats.restarts() > restarts {
            count(&stats.spanning);
        }
    }
    Ok(())
}

/// Reads a large response in small pieces.
fn read_slowly(
    target: SocketAddr,
    digits: &[u8],
) -> io::Result<(Client, Result<(), RequestError>)> {
    let mut client = Client::new(target, LOCAL_ADDRESS, Some(RECEIVE_BUFFER))?;
    let request = format!(
        "GET /api/fibonacci/{LARGE_N} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let mut run = || {
        client.connect()?;
        client.send(request.as_bytes())?;
        client.receive(digits, SLOW)?;
        client.receive_eof()
    };
    let outcome = run();
    Ok((client, outcome))
}

/// Sends a request in pieces, the first a while after connecting.
fn send_slowly(
    target: SocketAddr,
    rng: &mut Rng,
) -> io::Result<(Client, Result<(), RequestError>)> {
    let mut client = Client::new(target, LOCAL_ADDRESS, None)?;
    let request = request("Connection: close\r\n", 0);
    let mut run = || {
        client.connect()?;
        for piece in request.chunks(request.len().div_ceil(3)) {
            thread::sleep(millis(rng.below(PAUSE_MAX_MS)));
            client.send(piece)?;
        }
        client.receive(F20, Pace::AT_ONCE)?;
        client.receive_eof()
    };
    let outcome = run();
    Ok((client, outcome))
}

fn millis(count: usize) -> Duration {
    Duration::from_millis(count as u64 + 1)
}
