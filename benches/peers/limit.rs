//! The practical limit: the least that an event loop can do for a request, and no server. One read, a count of empty
//! lines, one write of as many copies of one answer. It parses nothing, routes nothing, counts nothing, and waits for ever.
//!
//!     limit PORT

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a measuring program that cannot go on has failed"
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

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 4\r\n\r\n6765";
const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 4\r\nConnection: close\r\n\r\n6765";
const COPIES: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

fn main() {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).expect("limit PORT");
    let mut listener =
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("a socket");
    let mut poll = Poll::new().expect("a poll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let copies = KEPT.repeat(COPIES);
    let mut input = vec![0; 64 * 1024];
    let mut peers: Slab<TcpStream> = Slab::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).expect("events");
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((peer, _)) = listener.accept() {
                    let entry = peers.vacant_entry();
                    let key = entry.key();
                    let peer = entry.insert(peer);
                    // As fibsrv does: an answer does not wait for the one before to be acknowledged.
                    peer.set_nodelay(true).expect("an option");
                    poll.registry()
                        .register(peer, Token(key), Interest::READABLE)
                        .expect("registered");
                }
            } else if let Some(peer) = peers.get_mut(event.token().0)
                && !serve(peer, &mut input, &copies)
            {
                peers.remove(event.token().0);
            }
        }
    }
}

/// One turn; says whether the connection stays.
fn serve(peer: &mut TcpStream, input: &mut [u8], copies: &[u8]) -> bool {
    let received = match peer.read(input) {
        Ok(0) => return false,
        Ok(length) => input.get(..length).unwrap_or_default(),
        Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
    };
    if memchr::memmem::find(received, b"Connection: close").is_some() {
        drop(peer.write(LAST));
        return false;
    }
    let requests = memchr::memmem::find_iter(received, b"\r\n\r\n").count();
    let answers = copies.get(..requests * KEPT.len()).unwrap_or(copies);
    answers.is_empty() || peer.write(answers).is_ok()
}
