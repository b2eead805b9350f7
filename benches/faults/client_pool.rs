//! A client pool: thousands of non-blocking connections in one thread.
//!
//! A scenario opens clients and sends bytes; [`ClientPool::poll`] returns what happened to them.

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    mem,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    time::{Duration, Instant},
};

/// Identifies a client; never reused.
pub(crate) type ClientId = usize;

/// Clients connect from this many loopback addresses, each with its own range of ports.
const SOURCES: usize = 32;

/// How a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CloseKind {
    Closed,
    Refused,
    Reset,
    Failed,
}

/// What can happen to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolEvent {
    Connected,
    /// `received` has more bytes.
    Received,
    /// Everything has been written to the kernel.
    Sent,
    /// Reported once; the client stays in the pool until it is removed.
    Closed(CloseKind),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct PoolClient {
    stream: TcpStream,
    state: ClientState,
    unsent: Vec<u8>,
    /// Whether FIN follows the unsent bytes.
    sends_fin: bool,
    /// Why writing failed. The kernel reports it only once, and the close is detected by reading.
    broken: Option<ErrorKind>,
    pub(crate) received: Vec<u8>,
    pub(crate) opened: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Connecting,
    Open,
    Closed,
}

/// How clients behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// From 127.0.0.1, reading everything.
    Probe,
    /// From other loopback addresses, reading everything.
    Reading,
    /// From other loopback addresses, reading only by [`ClientPool::read_some`]. The send buffer is
    /// small, as what it holds does not count as memory of the server.
    NotReading,
}

/// Connections to one address.
#[derive(Debug)]
pub(crate) struct ClientPool {
    poll: Poll,
    events: Events,
    target: SocketAddr,
    kind: ClientKind,
    clients: HashMap<ClientId, PoolClient>,
    pending: Vec<(ClientId, PoolEvent)>,
    opened: usize,
    buffer: Vec<u8>,
}

impl ClientPool {
    pub(crate) fn new(target: SocketAddr, kind: ClientKind) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            target,
            kind,
            clients: HashMap::new(),
            pending: Vec::new(),
            opened: 0,
            buffer: vec![0; 1 << 16],
        })
    }

    /// The number of clients.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn ids(&self) -> Vec<ClientId> {
        self.clients.keys().copied().collect()
    }

    pub(crate) fn client(&mut self, id: ClientId) -> Option<&mut PoolClient> {
        self.clients.get_mut(&id)
    }

    /// Starts to connect.
    pub(crate) fn open(&mut self) -> io::Result<ClientId> {
        let id = self.opened;
        self.opened += 1;
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.kind == ClientKind::NotReading {
            socket.set_send_buffer_size(1 << 15)?;
        }
        if self.kind != ClientKind::Probe {
            let host = u8::try_from(id % SOURCES).unwrap_or_default() + 1;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)).into())?;
        }
        match socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(115) => return Err(error), // EINPROGRESS
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(id), interest)?;
        let client = PoolClient {
            stream,
            state: ClientState::Connecting,
            unsent: Vec::new(),
            sends_fin: false,
            broken: None,
            received: Vec::new(),
            opened: Instant::now(),
        };
        self.clients.insert(id, client);
        Ok(id)
    }

    /// Sends bytes, as soon as the client is connected and the kernel accepts them.
    pub(crate) fn send(&mut self, id: ClientId, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.unsent.extend_from_slice(bytes);
            if client.state == ClientState::Open && client.flush() {
                self.pending.push((id, PoolEvent::Sent));
            }
        }
    }

    /// Reads and discards at most `most` bytes, for clients that do not read by themselves.
    pub(crate) fn read_some(&mut self, id: ClientId, most: usize) {
        let buffer = self.buffer.get_mut(..most).unwrap_or_default();
        if let Some(client) = self.clients.get_mut(&id)
            && let Err(error) = client.stream.read(buffer)
            && error.kind() != ErrorKind::WouldBlock
        {
            self.pending.push((id, client.closed(&error)));
        }
    }

    /// Sends FIN after the unsent bytes.
    pub(crate) fn finish(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.sends_fin = true;
            if client.state == ClientState::Open {
                client.flush();
            }
        }
    }

    /// Removes a client and closes its socket: the kernel sends FIN, or RST if bytes are unread.
    pub(crate) fn close(&mut self, id: ClientId) -> Option<PoolClient> {
        self.clients.remove(&id)
    }

    /// Resets the connection and removes the client.
    pub(crate) fn reset(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            drop(SockRef::from(&client.stream).set_linger(Some(Duration::ZERO))); // If it fails, a FIN is sent.
        }
    }

    /// Waits for events for at most `timeout`, and returns them.
    pub(crate) fn poll(&mut self, timeout: Duration) -> io::Result<Vec<(ClientId, PoolEvent)>> {
        let timeout = if self.pending.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut reported = mem::take(&mut self.pending);
        let reads_nothing = self.kind == ClientKind::NotReading;
        for event in &self.events {
            let id = event.token().0;
            if let Some(client) = self.clients.get_mut(&id) {
                let buffer = if reads_nothing { None } else { Some(self.buffer.as_mut_slice()) };
                client.on(event, buffer, |event| reported.push((id, event)));
            }
        }
        Ok(reported)
    }
}

impl PoolClient {
    /// Handles an event; reads into `buffer` if there is one.
    fn on(&mut self, event: &Event, buffer: Option<&mut [u8]>, mut report: impl FnMut(PoolEvent)) {
        if self.state == ClientState::Connecting {
            match self.stream.take_error() {
                Ok(Some(error)) | Err(error) => return report(self.closed(&error)),
                Ok(None) if self.stream.peer_addr().is_err() => return,
                Ok(None) => {
                    self.state = ClientState::Open;
                    report(PoolEvent::Connected);
                }
            }
        }
        if event.is_writable() && !self.unsent.is_empty() && self.flush() {
            report(PoolEvent::Sent);
        }
        if self.state == ClientState::Closed {
            return;
        }
        match buffer {
            Some(buffer) => self.read(buffer, report),
            None if event.is_error() || event.is_read_closed() => {
                let error = self.stream.take_error().ok().flatten();
                report(self.closed(&error.unwrap_or_else(|| ErrorKind::UnexpectedEof.into())));
            }
            None => {}
        }
    }

    fn read(&mut self, buffer: &mut [u8], mut report: impl FnMut(PoolEvent)) {
        let before = self.received.len();
        let failure = loop {
            match self.stream.read(buffer) {
                Ok(0) => break Some(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.received.extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) => break Some(error),
            }
        };
        if self.received.len() > before {
            report(PoolEvent::Received);
        }
        if let Some(error) = failure {
            report(self.closed(&error));
        }
    }

    /// Writes as much as possible; returns whether nothing is left.
    fn flush(&mut self) -> bool {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.broken.get_or_insert_with(|| error.kind());
                    break;
                }
            }
        }
        self.unsent.drain(..sent);
        if self.sends_fin && self.unsent.is_empty() {
            drop(self.stream.shutdown(Shutdown::Write)); // A failure is detected by reading as well.
        }
        self.unsent.is_empty()
    }

    fn closed(&mut self, error: &io::Error) -> PoolEvent {
        self.state = ClientState::Closed;
        let kind = self.broken.unwrap_or_else(|| error.kind());
        PoolEvent::Closed(if kind == ErrorKind::UnexpectedEof {
            CloseKind::Closed
        } else if kind == ErrorKind::ConnectionRefused {
            CloseKind::Refused
        } else if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            CloseKind::Reset
        } else {
            CloseKind::Failed
        })
    }
}
