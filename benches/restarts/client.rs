//! A client with one connection, which waits for each operation and classifies its failure.

use crate::harness::parser::{ReplyRef, ReplyTo};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Maximum time for one operation.
const TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 * 1024;

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was reset before any byte of the response.
    Reset,
    /// The connection was closed before any byte of the response.
    NoResponse,
    /// The connection was reset or closed within the response.
    Truncated,
    /// The response is not the expected one.
    Wrong,
    /// An operation took longer than the timeout.
    TimedOut,
}

/// A failure, with the system's error or what was received.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(crate) failure: Failure,
    pub(crate) note: String,
}

impl From<RequestError> for io::Error {
    fn from(error: RequestError) -> Self {
        Self::other(format!("{:?}: {}", error.failure, error.note))
    }
}

/// Whether the connection is kept alive after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    Yes,
    No,
}

/// What happened during a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Nothing, as expected.
    Elapsed,
    /// The server has closed the connection.
    Closed,
}

/// How a response is read: a maximum number of bytes per read, and a pause before each read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) read_bytes: usize,
    pub(crate) pause: Duration,
}

impl Pace {
    /// As fast as it arrives.
    pub(crate) const AT_ONCE: Self = Self { read_bytes: READ_BYTES, pause: Duration::ZERO };
}

/// A client, connected or not.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    target: SocketAddr,
    received: Vec<u8>,
}

impl Client {
    /// Creates a socket bound to this address: each address has its own range of ports, and ports in `TIME_WAIT`
    /// are not free. `buffer` is the size of the kernel's receive buffer.
    pub(crate) fn new(
        target: SocketAddr,
        source: Ipv4Addr,
        buffer: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        Ok(Self { socket, target, received: Vec::new() })
    }

    pub(crate) fn connect(&self) -> Result<(), RequestError> {
        self.socket.connect(&self.target.into()).map_err(|error| self.error(&error))
    }

    /// The client's address.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), RequestError> {
        let outcome = (&self.socket).write_all(bytes);
        outcome.map_err(|error| self.error(&error))
    }

    /// Reads one response, which must be 200 with this body.
    pub(crate) fn receive(
        &mut self,
        content: &[u8],
        pace: Pace,
    ) -> Result<KeepAlive, RequestError> {
        let (keep_alive, is_correct) = self.receive_any(pace, |reply| {
            (reply.status == 200 && reply.body == content, format!("status {}", reply.status))
        })?;
        match is_correct {
            (true, _) => Ok(keep_alive),
            (false, note) => Err(RequestError { failure: Failure::Wrong, note }),
        }
    }

    /// Reads one response and returns what `take` extracts from it.
    pub(crate) fn receive_any<T>(
        &mut self,
        pace: Pace,
        take: impl Fn(&ReplyRef<'_>) -> T,
    ) -> Result<(KeepAlive, T), RequestError> {
        let wrong = |note: &str| RequestError { failure: Failure::Wrong, note: note.to_owned() };
        loop {
            if let Some(reply) = ReplyRef::parse(&self.received, ReplyTo::Other).map_err(wrong)? {
                let keep_alive = if reply.closes() { KeepAlive::No } else { KeepAlive::Yes };
                let (taken, length) = (take(&reply), reply.length);
                self.received.drain(..length);
                return Ok((keep_alive, taken));
            }
            if !pace.pause.is_zero() {
                std::thread::sleep(pace.pause);
            }
            if self.read(pace.read_bytes).map_err(|error| self.error(&error))? == 0 {
                return Err(self.error(&ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads the end of the stream, which must be next.
    pub(crate) fn receive_eof(&mut self) -> Result<(), RequestError> {
        match self.read(READ_BYTES) {
            Ok(0) if self.received.is_empty() => Ok(()),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Waits, and detects whether the server closes the connection meanwhile.
    pub(crate) fn pause(&mut self, pause: Duration) -> Result<Pause, RequestError> {
        self.set_timeout(pause)?;
        let outcome = match self.read(READ_BYTES) {
            Ok(0) if self.received.is_empty() => Ok(Pause::Closed),
            Ok(_) => Err(self.unexpected()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.received.is_empty() => {
                Ok(Pause::Elapsed)
            }
            Err(error) => Err(self.error(&error)),
        };
        self.set_timeout(TIMEOUT)?;
        outcome
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), RequestError> {
        let outcome = self.socket.set_read_timeout(Some(timeout));
        outcome.map_err(|error| self.error(&error))
    }

    fn unexpected(&self) -> RequestError {
        let note = self.received.escape_ascii().take(60).map(char::from).collect();
        RequestError { failure: Failure::Wrong, note }
    }

    /// Reads at most `most` bytes.
    fn read(&mut self, most: usize) -> io::Result<usize> {
        let before = self.received.len();
        self.received.resize(before + most, 0);
        let buffer = self.received.get_mut(before..).unwrap_or_default();
        let outcome = loop {
            match (&self.socket).read(buffer) {
                // A read with a timeout is not restarted after the machine was suspended (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.received.truncate(before + *outcome.as_ref().unwrap_or(&0));
        outcome
    }

    fn error(&self, error: &io::Error) -> RequestError {
        use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
        let kind = error.kind();
        let is_reset = matches!(kind, ConnectionReset | BrokenPipe);
        let failure = if kind == ConnectionRefused {
            Failure::Refused
        } else if (is_reset || kind == UnexpectedEof) && !self.received.is_empty() {
            Failure::Truncated
        } else if is_reset {
            Failure::Reset
        } else if kind == UnexpectedEof {
            Failure::NoResponse
        } else {
            Failure::TimedOut
        };
        RequestError { failure, note: error.to_string() }
    }
}
