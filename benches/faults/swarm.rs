//! The client engine: thousands of non-blocking connections of one thread.
//!
//! A scenario opens links and says bytes; [`Swarm::turn`] tells what has happened to them.

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    mem,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    time::{Duration, Instant},
};

/// Names a link; never used twice.
pub(crate) type Id = usize;

/// Attackers come from this many loopback addresses, each with its own range of ports.
const SOURCES: usize = 32;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Closed,
    Refused,
    Reset,
    Failed,
}

/// What can happen to a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    Connected,
    /// There is more in its inbox.
    Arrived,
    /// All that was said has gone to the kernel.
    Flushed,
    /// Said once; the link stays until it is let go.
    Ended(End),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    stage: Stage,
    outbox: Vec<u8>,
    /// Whether FIN follows the outbox.
    finishes: bool,
    /// Why writing failed. The kernel tells it once only, and the end is seen by reading.
    broken: Option<ErrorKind>,
    pub(crate) inbox: Vec<u8>,
    pub(crate) opened: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
    Ended,
}

/// Who the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// From 127.0.0.1, reading what arrives.
    Honest,
    /// From other loopback addresses, reading what arrives.
    Reading,
    /// From other loopback addresses, with a small send buffer (what it holds is no cost of the
    /// server), never reading unless told to.
    Deaf,
}

/// Connections to one address, and their poll.
#[derive(Debug)]
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    target: SocketAddr,
    manner: Manner,
    links: HashMap<Id, Link>,
    pending: Vec<(Id, Happening)>,
    opened: usize,
    buffer: Vec<u8>,
}

impl Swarm {
    pub(crate) fn new(target: SocketAddr, manner: Manner) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            target,
            manner,
            links: HashMap::new(),
            pending: Vec::new(),
            opened: 0,
            buffer: vec![0; 1 << 16],
        })
    }

    /// How many links there are.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn ids(&self) -> Vec<Id> {
        self.links.keys().copied().collect()
    }

    pub(crate) fn link(&mut self, id: Id) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Begins a connection.
    pub(crate) fn open(&mut self) -> io::Result<Id> {
        let id = self.opened;
        self.opened += 1;
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.manner == Manner::Deaf {
            socket.set_send_buffer_size(1 << 15)?;
        }
        if self.manner != Manner::Honest {
            let host = u8::try_from(id % SOURCES).unwrap_or_default() + 1;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)).into())?;
        }
        match socket.connect(&self.target.into()) {
            Err(problem) if problem.raw_os_error() != Some(115) => return Err(problem), // EINPROGRESS
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(id), interest)?;
        let link = Link {
            stream,
            stage: Stage::Connecting,
            outbox: Vec::new(),
            finishes: false,
            broken: None,
            inbox: Vec::new(),
            opened: Instant::now(),
        };
        self.links.insert(id, link);
        Ok(id)
    }

    /// Sends bytes, now or as soon as it is connected and the kernel takes them.
    pub(crate) fn say(&mut self, id: Id, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(&id) {
            link.outbox.extend_from_slice(bytes);
            if link.stage == Stage::Open && link.flush() {
                self.pending.push((id, Happening::Flushed));
            }
        }
    }

    /// Reads at most `most` bytes and forgets them: how the deaf read slowly.
    pub(crate) fn sip(&mut self, id: Id, most: usize) {
        let room = self.buffer.get_mut(..most).unwrap_or_default();
        if let Some(link) = self.links.get_mut(&id)
            && let Err(problem) = link.stream.read(room)
            && problem.kind() != ErrorKind::WouldBlock
        {
            self.pending.push((id, link.end(&problem)));
        }
    }

    /// Says that nothing more will be said, once all that was said has been sent.
    pub(crate) fn finish(&mut self, id: Id) {
        if let Some(link) = self.links.get_mut(&id) {
            link.finishes = true;
            if link.stage == Stage::Open {
                link.flush();
            }
        }
    }

    /// Closes the connection in the kernel's way: FIN, or RST if something was left unread.
    pub(crate) fn leave(&mut self, id: Id) -> Option<Link> {
        self.links.remove(&id)
    }

    /// Breaks the connection: RST, whatever is under way.
    pub(crate) fn reset(&mut self, id: Id) {
        if let Some(link) = self.links.remove(&id) {
            drop(SockRef::from(&link.stream).set_linger(Some(Duration::ZERO))); // Then it is a FIN.
        }
    }

    /// Waits until something happens, at most `patience`, and tells what.
    pub(crate) fn turn(&mut self, patience: Duration) -> io::Result<Vec<(Id, Happening)>> {
        let patience = if self.pending.is_empty() { patience } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(problem) if problem.kind() != ErrorKind::Interrupted => return Err(problem),
            _ => {}
        }
        let mut told = mem::take(&mut self.pending);
        let is_deaf = self.manner == Manner::Deaf;
        for event in &self.events {
            let id = event.token().0;
            if let Some(link) = self.links.get_mut(&id) {
                let buffer = if is_deaf { None } else { Some(self.buffer.as_mut_slice()) };
                link.on(event, buffer, |happening| told.push((id, happening)));
            }
        }
        Ok(told)
    }
}

impl Link {
    /// Works off an event, reading into `buffer` unless the link is deaf.
    fn on(&mut self, event: &Event, buffer: Option<&mut [u8]>, mut tell: impl FnMut(Happening)) {
        if self.stage == Stage::Connecting {
            match self.stream.take_error() {
                Ok(Some(problem)) | Err(problem) => return tell(self.end(&problem)),
                Ok(None) if self.stream.peer_addr().is_err() => return,
                Ok(None) => {
                    self.stage = Stage::Open;
                    tell(Happening::Connected);
                }
            }
        }
        if event.is_writable() && !self.outbox.is_empty() && self.flush() {
            tell(Happening::Flushed);
        }
        if self.stage == Stage::Ended {
            return;
        }
        match buffer {
            Some(buffer) => self.read(buffer, tell),
            None if event.is_error() || event.is_read_closed() => {
                let problem = self.stream.take_error().ok().flatten();
                tell(self.end(&problem.unwrap_or_else(|| ErrorKind::UnexpectedEof.into())));
            }
            None => {}
        }
    }

    fn read(&mut self, buffer: &mut [u8], mut tell: impl FnMut(Happening)) {
        let had = self.inbox.len();
        let end = loop {
            match self.stream.read(buffer) {
                Ok(0) => break Some(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.inbox.extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => break None,
                Err(problem) => break Some(problem),
            }
        };
        if self.inbox.len() > had {
            tell(Happening::Arrived);
        }
        if let Some(problem) = end {
            tell(self.end(&problem));
        }
    }

    /// Writes what it can; true if nothing is left.
    fn flush(&mut self) -> bool {
        let mut sent = 0;
        while let Some(rest) = self.outbox.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => sent += length,
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => break,
                Err(problem) => {
                    self.broken.get_or_insert_with(|| problem.kind());
                    break;
                }
            }
        }
        self.outbox.drain(..sent);
        if self.finishes && self.outbox.is_empty() {
            drop(self.stream.shutdown(Shutdown::Write)); // A failure shows as an end, too.
        }
        self.outbox.is_empty()
    }

    fn end(&mut self, problem: &io::Error) -> Happening {
        self.stage = Stage::Ended;
        let kind = self.broken.unwrap_or_else(|| problem.kind());
        Happening::Ended(if kind == ErrorKind::UnexpectedEof {
            End::Closed
        } else if kind == ErrorKind::ConnectionRefused {
            End::Refused
        } else if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            End::Reset
        } else {
            End::Failed
        })
    }
}
