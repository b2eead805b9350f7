//! The practical limit: the minimum that an event loop can do for a request. It is not a server: it reads once, counts
//! empty lines, and writes one constant response for each. It has no parser, routes, metrics or timeouts.
//!
//!     limit PORT [BYTES]
//!
//! With BYTES a further field makes each response this long, to separate the cost of its length from that of a server.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a measuring program that cannot continue has failed"
)]

use std::{
    env,
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use slab::Slab;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 4\r\n";
const COPIES: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

fn main() {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).expect("limit PORT");
    let mut listener =
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("a socket");
    let mut poll = Poll::new().expect("a poll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let bytes = env::args().nth(2).map(|bytes| bytes.parse().expect("limit PORT BYTES"));
    let responses = Responses::new(bytes.unwrap_or_default());
    let mut input = vec![0; 64 * 1024];
    let mut connections: Slab<TcpStream> = Slab::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).expect("events");
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((connection, _)) = listener.accept() {
                    let entry = connections.vacant_entry();
                    let key = entry.key();
                    let connection = entry.insert(connection);
                    // As in fibsrv: a response does not wait until the previous one is acknowledged.
                    connection.set_nodelay(true).expect("an option");
                    poll.registry()
                        .register(connection, Token(key), Interest::READABLE)
                        .expect("registered");
                }
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && !serve(connection, &mut input, &responses)
            {
                connections.remove(event.token().0);
            }
        }
    }
}

/// The responses, ready to be written.
struct Responses {
    /// Length of one that keeps the connection open.
    length: usize,
    /// Many of these.
    keep_alive: Vec<u8>,
    /// One that closes it.
    close: String,
}

impl Responses {
    /// Returns responses of at least `bytes` bytes.
    fn new(bytes: usize) -> Self {
        let response = |fields: &str| format!("{HEAD}{fields}\r\n6765");
        let padding = bytes.saturating_sub(response("X: \r\n").len());
        let fields =
            if padding == 0 { String::new() } else { format!("X: {}\r\n", "x".repeat(padding)) };
        let one = response(&fields);
        let close = response(&format!("{fields}Connection: close\r\n"));
        Self { length: one.len(), keep_alive: one.repeat(COPIES).into_bytes(), close }
    }
}

/// Handles one event; returns whether the connection is kept.
fn serve(connection: &mut TcpStream, input: &mut [u8], responses: &Responses) -> bool {
    let received = match connection.read(input) {
        Ok(0) => return false,
        Ok(length) => input.get(..length).unwrap_or_default(),
        Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
    };
    if memchr::memmem::find(received, b"Connection: close").is_some() {
        drop(connection.write(responses.close.as_bytes()));
        return false;
    }
    let requests = memchr::memmem::find_iter(received, b"\r\n\r\n").count();
    let all = responses.keep_alive.as_slice();
    let batch = all.get(..requests * responses.length).unwrap_or(all);
    batch.is_empty() || connection.write(batch).is_ok()
}
