//! Asks servers whether they are ready: what `fibsrv health` does, for images and scripts that have no other client.
//!
//! One request on a connection of its own, blocking, within a time for everything together. It knows of HTTP only
//! what the first line of an answer looks like.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::sys::clock::Clock;

/// Longest time that a server may take. Whoever asks, as an engine for containers does, has a longer one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of an answer that are read. A server's of this program has about 200.
const ANSWER_BYTES_MAX: usize = 1024;

/// Why a server is not to be sent requests.
#[derive(Debug)]
pub struct NotReady {
    address: SocketAddr,
    reason: Cause,
}

#[derive(Debug)]
enum Cause {
    /// It has another status for us than 200.
    Status(String),
    /// What it said is no answer in HTTP.
    InvalidResponse,
    TimedOut(Duration),
    Unreachable(io::Error),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready: {} ", self.address)?;
        match &self.reason {
            Cause::Status(status) => write!(f, "answered {status}"),
            Cause::InvalidResponse => f.write_str("does not speak HTTP"),
            Cause::TimedOut(patience) => write!(f, "gave no answer within {patience:?}"),
            Cause::Unreachable(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

impl std::error::Error for NotReady {}

/// Asks at each of the addresses that a server listens on, and returns when all are ready.
pub fn ask(listening: &[SocketAddr]) -> Result<(), NotReady> {
    listening.iter().map(|address| within_reach(*address)).try_for_each(|address| {
        ask_one(address, PATIENCE).map_err(|reason| NotReady { address, reason })
    })
}

/// Where to find on this host who listens on `address`: a wildcard is no address to connect to. That of IPv6 takes
/// IPv4 too, and a container often has no other.
fn within_reach(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}

fn ask_one(address: SocketAddr, patience: Duration) -> Result<(), Cause> {
    let answer = exchange(address, patience).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            Cause::TimedOut(patience)
        } else {
            Cause::Unreachable(error)
        }
    })?;
    match status(&answer) {
        Some("200") => Ok(()),
        Some(status) => Err(Cause::Status(status.to_owned())),
        None => Err(Cause::InvalidResponse),
    }
}

/// Sends the request; returns what comes until the server closes, or as much of it as anybody needs.
fn exchange(address: SocketAddr, patience: Duration) -> io::Result<Vec<u8>> {
    let clock = Clock::new();
    let time_left = || -> io::Result<Duration> {
        let left = patience.checked_sub(Duration::from_nanos(clock.since_tick_ns()));
        left.filter(|left| !left.is_zero()).ok_or_else(|| io::ErrorKind::TimedOut.into())
    };
    let mut stream = TcpStream::connect_timeout(&address, time_left()?)?;
    stream.set_write_timeout(Some(time_left()?))?;
    // In one piece: written as it is formatted, each part would be a segment of its own.
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut length = 0;
    while let Some(rest) = answer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        stream.set_read_timeout(Some(time_left()?))?;
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    answer.truncate(length);
    Ok(answer)
}

/// The status code in the first line of an answer.
fn status(answer: &[u8]) -> Option<&str> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let code = rest.split(|byte| *byte == b' ').next()?;
    let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    str::from_utf8(code).ok().filter(|_| is_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::{
        net::TcpListener,
        thread::{self, JoinHandle},
    };

    const SHORT: Duration = Duration::from_millis(50);

    /// A server that says this to the first request, whatever it is, and closes; its thread returns the request.
    fn server(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        (address, thread)
    }

    fn check(answer: &'static str, expected: &str) {
        let (address, thread) = server(answer);
        let outcome = ask(&[address]).map_err(|error| error.to_string());
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nHost: "), "{request}");
        if expected.is_empty() {
            assert_eq!(outcome.err(), None);
        } else {
            assert_eq!(outcome.unwrap_err(), format!("not ready: {address} {expected}"));
        }
    }

    #[test]
    fn only_200_is_ready() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", "");
        check("HTTP/1.0 200 OK\r\n\r\n", "");
        check("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503");
        check("HTTP/1.1 204 No Content\r\n\r\n", "answered 204");
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for answer in ["", "HTTP/1.1", "HTTP/1.1 \r\n", "HTTP/1.1 20\r\n", "SSH-2.0-x\r\n", "\r\n"]
        {
            check(answer, "does not speak HTTP");
        }
    }

    #[test]
    fn nobody_there_is_said_at_once() {
        let (_socket, address) = nobody();
        let error = ask(&[address]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("not ready: {address} cannot be asked: ")), "{error}");
    }

    #[test]
    fn patience_is_for_everything_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = ask_one(address, SHORT);
        assert!(matches!(silent, Err(Cause::TimedOut(SHORT))), "{silent:?}");
        // A byte now and then, for ever: each comes well within the time, all of them do not.
        let server = thread::spawn(move || {
            let (_, _) = listener.accept().unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0;
            while stream.write_all(b"H").is_ok() {
                sent += 1;
                thread::park_timeout(SHORT / 10);
            }
            sent
        });
        let dripping = ask_one(address, SHORT);
        assert!(matches!(dripping, Err(Cause::TimedOut(SHORT))), "{dripping:?}");
        assert!(server.join().unwrap() < ANSWER_BYTES_MAX);
    }

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        let check = |address: &str, expected: &str| {
            assert_eq!(within_reach(address.parse().unwrap()), expected.parse().unwrap());
        };
        check("[::]:3000", "127.0.0.1:3000");
        check("0.0.0.0:3000", "127.0.0.1:3000");
        check("[::1]:3000", "[::1]:3000");
        check("192.0.2.1:80", "192.0.2.1:80");
    }

    #[test]
    fn one_that_is_not_ready_is_enough() {
        let (ready, thread) = server("HTTP/1.1 200 OK\r\n\r\n");
        let (_socket, nobody) = nobody();
        assert_eq!(ask(&[ready, nobody]).unwrap_err().address, nobody);
        thread.join().unwrap();
    }

    /// An address that refuses connections, and the socket that keeps others from taking it.
    fn nobody() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }
}
