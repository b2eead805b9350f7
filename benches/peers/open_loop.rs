//! An open-loop load generator: requests leave at a constant rate, whether or not earlier ones have been responded to.
//!
//!     open_loop PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS
//!
//! The latency of a request counts from the time at which it was due, so a stall of the server counts for each request
//! that was due meanwhile (no coordinated omission). Prints `requests,p50,p99,p99.9,max` with times in microseconds.
//! The generator polls without pause: give it a CPU of its own.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring program that cannot continue has failed"
)]

use std::{
    collections::VecDeque,
    env,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

const REQUEST: &[u8] = b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const CONTENT: &[u8] = b"6765";
/// How long to wait for the last responses.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection whose responses all have the same length.
struct Connection {
    stream: TcpStream,
    response_bytes: usize,
    /// When the requests without a response were due.
    due: VecDeque<Instant>,
    /// Bytes of the response that is being received.
    received: usize,
}

impl Connection {
    /// Connects, and sends a request to learn the length of a response.
    fn open(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        stream.write_all(REQUEST).expect("a request sent");
        let mut response = Vec::new();
        let mut input = [0; 4096];
        while !response.ends_with(CONTENT) {
            let length = stream.read(&mut input).expect("a response");
            assert!(length > 0, "the server closed the connection");
            response.extend_from_slice(input.get(..length).unwrap_or_default());
        }
        stream.set_nonblocking(true).expect("a socket that does not block");
        Self { stream, response_bytes: response.len(), due: VecDeque::new(), received: 0 }
    }

    fn send(&mut self, due: Instant) {
        self.stream.write_all(REQUEST).expect("a request sent: the rate is beyond saturation");
        self.due.push_back(due);
    }

    /// Receives what has arrived, and records the latency of each complete response.
    fn receive(&mut self, input: &mut [u8], latencies: &mut Vec<Duration>) {
        match self.stream.read(input) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(length) => self.received += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("cannot receive: {error}"),
        }
        let now = Instant::now();
        while self.received >= self.response_bytes {
            self.received -= self.response_bytes;
            let due = self.due.pop_front().expect("no response without a request");
            latencies.push(now.saturating_duration_since(due));
        }
    }
}

fn main() {
    let arguments: Vec<u32> = env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [port, connections, rate, seconds] = *arguments else {
        panic!("open_loop PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS")
    };
    let port = u16::try_from(port).expect("a port");
    let mut connections: Vec<Connection> =
        (0..connections).map(|_| Connection::open(port)).collect();
    let mut latencies = run(&mut connections, rate, rate.saturating_mul(seconds));
    latencies.sort_unstable();
    let at = |permille: usize| {
        let rank = (latencies.len() * permille / 1000).min(latencies.len() - 1);
        latencies.get(rank).map_or(0, Duration::as_micros)
    };
    println!("{},{},{},{},{}", latencies.len(), at(500), at(990), at(999), at(1000));
}

/// Sends `total` requests, each on the next connection. Returns the latencies.
fn run(connections: &mut [Connection], rate: u32, total: u32) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(total as usize);
    let mut input = vec![0; 64 * 1024];
    let start = Instant::now();
    let due = |number: u32| start + Duration::from_secs(1) * number / rate;
    let end = due(total) + PATIENCE;
    let mut sent = 0;
    let mut turn = 0;
    while latencies.len() < total as usize {
        let now = Instant::now();
        assert!(now < end, "{} responses of {total}", latencies.len());
        while sent < total && due(sent) <= now {
            let index = sent as usize % connections.len();
            connections.get_mut(index).expect("an index below the length").send(due(sent));
            sent += 1;
        }
        // One at a time, so that no request is late because of many responses.
        let next = connections.get_mut(turn).expect("an index below the length");
        if !next.due.is_empty() {
            next.receive(&mut input, &mut latencies);
        }
        turn = (turn + 1) % connections.len();
    }
    latencies
}
