//! The client of `fibsrv health`: checks whether servers are ready, for images and scripts without another client.
//!
//! Sends one request per server on a new connection, with blocking calls and one timeout for the whole exchange. Of the
//! response only the status line is parsed.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::sys::clock::Clock;

/// Timeout of an exchange, resolving the host name included. The timeout of a container health check should be longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of bytes read of a response. This server sends about 200.
const RESPONSE_BYTES_MAX: usize = 1024;

/// Why a server is not ready.
#[derive(Debug)]
pub struct NotReady {
    server: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// The status is not 200.
    Status(String),
    /// The response is not HTTP/1.
    InvalidResponse,
    TimedOut(Duration),
    Unresolved(io::Error),
    Unreachable(io::Error),
    /// The connection failed later.
    Failed(io::Error),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready: {}: ", self.server)?;
        match &self.cause {
            Cause::Status(status) => write!(f, "status {status}"),
            Cause::InvalidResponse => f.write_str("the response is not HTTP"),
            Cause::TimedOut(timeout) => write!(f, "no response within {timeout:?}"),
            Cause::Unresolved(error) => write!(f, "cannot resolve the host name: {error}"),
            Cause::Unreachable(error) => write!(f, "cannot connect: {error}"),
            Cause::Failed(error) => write!(f, "connection failed: {error}"),
        }
    }
}

impl std::error::Error for NotReady {}

/// Checks servers by address or name, each with a port; returns the first that is not ready. Of a name with several
/// addresses, the first that accepts a connection is checked.
pub fn check(servers: &[String]) -> Result<(), NotReady> {
    servers.iter().map(|server| reachable(server)).try_for_each(|server| {
        check_one(&server, TIMEOUT).map_err(|cause| NotReady { server, cause })
    })
}

/// Returns an address that reaches a listener: loopback for a wildcard. The IPv6 wildcard accepts IPv4 too, and
/// containers often have no IPv6.
fn reachable(server: &str) -> String {
    match server.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())).to_string()
        }
        _ => server.to_owned(),
    }
}

fn check_one(server: &str, timeout: Duration) -> Result<(), Cause> {
    let response = exchange(server, &Deadline { clock: Clock::new(), timeout })?;
    match status(&response) {
        Some("200") => Ok(()),
        Some(status) => Err(Cause::Status(status.to_owned())),
        None => Err(Cause::InvalidResponse),
    }
}

/// The time for one exchange.
struct Deadline {
    clock: Clock,
    timeout: Duration,
}

impl Deadline {
    fn time_left(&self) -> io::Result<Duration> {
        let left = self.timeout.checked_sub(Duration::from_nanos(self.clock.since_tick_ns()));
        left.filter(|left| !left.is_zero()).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Returns the cause of a failure: this one, unless the time is over.
    fn cause(&self, error: io::Error, cause: fn(io::Error) -> Cause) -> Cause {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            Cause::TimedOut(self.timeout)
        } else {
            cause(error)
        }
    }
}

/// Connects, sends the request and returns the response, at most [`RESPONSE_BYTES_MAX`] of it.
fn exchange(server: &str, deadline: &Deadline) -> Result<Vec<u8>, Cause> {
    let addresses =
        resolve(server, deadline).map_err(|error| deadline.cause(error, Cause::Unresolved))?;
    let stream =
        connect(&addresses, deadline).map_err(|error| deadline.cause(error, Cause::Unreachable))?;
    request(stream, server, deadline).map_err(|error| deadline.cause(error, Cause::Failed))
}

/// Resolves a host name. The system call has no timeout, so it runs in a thread, which is left behind if it takes too
/// long.
fn resolve(server: &str, deadline: &Deadline) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = server.parse() {
        return Ok(vec![address]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = server.to_owned();
    thread::Builder::new().spawn(move || {
        let resolved = name.to_socket_addrs().map(Iterator::collect);
        drop(sender.send(resolved)); // fails after the timeout
    })?;
    receiver.recv_timeout(deadline.time_left()?).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => Err(io::ErrorKind::TimedOut.into()),
        RecvTimeoutError::Disconnected => Err(io::Error::other("the resolver thread panicked")),
    })
}

/// Connects to the first address that accepts; returns the last error if none does.
fn connect(addresses: &[SocketAddr], deadline: &Deadline) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the host name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, deadline.time_left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn request(mut stream: TcpStream, server: &str, deadline: &Deadline) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(deadline.time_left()?))?;
    // Formatted first: writing it piece by piece would send several segments.
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = vec![0; RESPONSE_BYTES_MAX];
    let mut length = 0;
    while let Some(rest) = response.get_mut(length..).filter(|rest| !rest.is_empty()) {
        stream.set_read_timeout(Some(deadline.time_left()?))?;
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    response.truncate(length);
    Ok(response)
}

/// Returns the status code of a response.
fn status(response: &[u8]) -> Option<&str> {
    let line = response.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let code = rest.split(|byte| *byte == b' ').next()?;
    let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    str::from_utf8(code).ok().filter(|_| is_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::{net::TcpListener, thread::JoinHandle};

    const SHORT: Duration = Duration::from_millis(50);

    /// Starts a server that sends this response to the first request and closes. Its thread returns the request.
    fn server(response: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        (address, thread)
    }

    fn check_response(response: &'static str, expected: &str) {
        let (address, thread) = server(response);
        let outcome = check(&[address.to_string()]).map_err(|error| error.to_string());
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nHost: "), "{request}");
        if expected.is_empty() {
            assert_eq!(outcome.err(), None);
        } else {
            assert_eq!(outcome.unwrap_err(), format!("not ready: {address}: {expected}"));
        }
    }

    #[test]
    fn only_200_is_ready() {
        check_response("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", "");
        check_response("HTTP/1.0 200 OK\r\n\r\n", "");
        check_response("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503");
        check_response("HTTP/1.1 204 No Content\r\n\r\n", "status 204");
    }

    #[test]
    fn an_invalid_response_is_reported() {
        for response in
            ["", "HTTP/1.1", "HTTP/1.1 \r\n", "HTTP/1.1 20\r\n", "SSH-2.0-x\r\n", "\r\n"]
        {
            check_response(response, "the response is not HTTP");
        }
    }

    #[test]
    fn a_refused_connection_is_reported_at_once() {
        let (_socket, address) = refusing();
        let error = check(&[address.to_string()]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("not ready: {address}: cannot connect: ")), "{error}");
    }

    #[test]
    fn the_timeout_covers_the_whole_exchange() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = check_one(&address.to_string(), SHORT);
        assert!(matches!(silent, Err(Cause::TimedOut(SHORT))), "{silent:?}");
        // One byte at a time: each arrives within the timeout, the response does not.
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
        let dripping = check_one(&address.to_string(), SHORT);
        assert!(matches!(dripping, Err(Cause::TimedOut(SHORT))), "{dripping:?}");
        assert!(server.join().unwrap() < RESPONSE_BYTES_MAX);
    }

    #[test]
    fn a_wildcard_is_checked_on_loopback() {
        let check = |address: &str, expected: &str| {
            assert_eq!(reachable(address), expected);
        };
        check("[::]:3000", "127.0.0.1:3000");
        check("0.0.0.0:3000", "127.0.0.1:3000");
        check("[::1]:3000", "[::1]:3000");
        check("192.0.2.1:80", "192.0.2.1:80");
        check("localhost:80", "localhost:80");
    }

    #[test]
    fn one_server_that_is_not_ready_is_an_error() {
        let (ready, thread) = server("HTTP/1.1 200 OK\r\n\r\n");
        let (_socket, refusing) = refusing();
        let servers = [ready, refusing].map(|address| address.to_string());
        assert_eq!(check(&servers).unwrap_err().server, servers[1]);
        thread.join().unwrap();
    }

    #[test]
    fn a_host_name_is_resolved() {
        // localhost may be ::1 as well, where nothing listens: then the next address is used.
        let (address, thread) = server("HTTP/1.1 200 OK\r\n\r\n");
        let name = format!("localhost:{}", address.port());
        check(std::slice::from_ref(&name)).unwrap();
        let request = thread.join().unwrap();
        assert!(request.contains(&format!("Host: {name}\r\n")), "{request}");
        let error = check(&["name.invalid:1".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("not ready: name.invalid:1: "), "{error}");
    }

    /// Returns an address that refuses connections, and the bound socket that reserves it.
    fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }
}
