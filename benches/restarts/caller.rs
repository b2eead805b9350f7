//! One connection as a client sees it that waits for everything, and each way in which that can fail.

use crate::lab::reply::{Asked, Reply};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Whoever waits so long for anything is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 * 1024;

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens.
    Refused,
    /// The connection was reset before any byte of the answer.
    Reset,
    /// The connection ended in order before any byte of the answer.
    Unanswered,
    /// It ended, in either way, in the middle of the answer.
    Cut,
    /// There is another answer than there should be.
    Wrong,
    /// Nothing happens any more.
    Stuck,
}

/// A failure, with what the system or the answer said.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) failure: Failure,
    pub(crate) note: String,
}

impl From<Loss> for io::Error {
    fn from(loss: Loss) -> Self {
        Self::other(format!("{:?}: {}", loss.failure, loss.note))
    }
}

/// Whether the connection outlives an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Stays,
    Closes,
}

/// What has come of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing, as it should be.
    Over,
    /// The server has closed the connection, in order.
    Closed,
}

/// How an answer is read: so many bytes at a time, and a pause before each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) sip: usize,
    pub(crate) pause: Duration,
}

impl Pace {
    /// As it comes.
    pub(crate) const AT_ONCE: Self = Self { sip: READ_BYTES, pause: Duration::ZERO };
}

/// A connection, or one to be.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: Socket,
    target: SocketAddr,
    inbox: Vec<u8>,
}

impl Caller {
    /// A socket with this address of its own: each address has ports of its own, and those that ended
    /// connections leave behind are not free at once. `room` is for the kernel's receive buffer.
    pub(crate) fn new(
        target: SocketAddr,
        source: Ipv4Addr,
        room: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        if let Some(bytes) = room {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        Ok(Self { socket, target, inbox: Vec::new() })
    }

    pub(crate) fn connect(&self) -> Result<(), Loss> {
        self.socket.connect(&self.target.into()).map_err(|problem| self.loss(&problem))
    }

    /// Its own address: the server's name for it.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        let outcome = (&self.socket).write_all(bytes);
        outcome.map_err(|problem| self.loss(&problem))
    }

    /// Reads one answer, which is to have this content.
    pub(crate) fn hear(&mut self, content: &[u8], pace: Pace) -> Result<Then, Loss> {
        let (then, is_right) = self.hear_any(pace, |reply| {
            (reply.status == 200 && reply.body == content, format!("status {}", reply.status))
        })?;
        match is_right {
            (true, _) => Ok(then),
            (false, note) => Err(Loss { failure: Failure::Wrong, note }),
        }
    }

    /// Reads one answer, and returns what `take` makes of it.
    pub(crate) fn hear_any<T>(
        &mut self,
        pace: Pace,
        take: impl Fn(&Reply<'_>) -> T,
    ) -> Result<(Then, T), Loss> {
        let wrong = |note: &str| Loss { failure: Failure::Wrong, note: note.to_owned() };
        loop {
            if let Some(reply) = Reply::parse(&self.inbox, Asked::Get).map_err(wrong)? {
                let then = if reply.closes() { Then::Closes } else { Then::Stays };
                let (taken, length) = (take(&reply), reply.length);
                self.inbox.drain(..length);
                return Ok((then, taken));
            }
            if !pace.pause.is_zero() {
                std::thread::sleep(pace.pause);
            }
            if self.read(pace.sip).map_err(|problem| self.loss(&problem))? == 0 {
                return Err(self.loss(&ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Sees to it that nothing comes any more but the end of the stream.
    pub(crate) fn hear_end(&mut self) -> Result<(), Loss> {
        match self.read(READ_BYTES) {
            Ok(0) if self.inbox.is_empty() => Ok(()),
            Ok(_) => Err(self.unasked()),
            Err(problem) => Err(self.loss(&problem)),
        }
    }

    /// Does nothing for a while, but sees if the server closes meanwhile.
    pub(crate) fn rest(&mut self, pause: Duration) -> Result<Rest, Loss> {
        self.set_patience(pause)?;
        let rest = match self.read(READ_BYTES) {
            Ok(0) if self.inbox.is_empty() => Ok(Rest::Closed),
            Ok(_) => Err(self.unasked()),
            Err(problem) if problem.kind() == ErrorKind::WouldBlock && self.inbox.is_empty() => {
                Ok(Rest::Over)
            }
            Err(problem) => Err(self.loss(&problem)),
        };
        self.set_patience(PATIENCE)?;
        rest
    }

    fn set_patience(&self, patience: Duration) -> Result<(), Loss> {
        let outcome = self.socket.set_read_timeout(Some(patience));
        outcome.map_err(|problem| self.loss(&problem))
    }

    fn unasked(&self) -> Loss {
        let note = self.inbox.escape_ascii().take(60).map(char::from).collect();
        Loss { failure: Failure::Wrong, note }
    }

    /// Reads at most so many bytes into the inbox.
    fn read(&mut self, most: usize) -> io::Result<usize> {
        let had = self.inbox.len();
        self.inbox.resize(had + most, 0);
        let room = self.inbox.get_mut(had..).unwrap_or_default();
        let outcome = loop {
            match (&self.socket).read(room) {
                // A read with a time limit does not go on by itself where the machine was halted.
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.inbox.truncate(had + *outcome.as_ref().unwrap_or(&0));
        outcome
    }

    fn loss(&self, problem: &io::Error) -> Loss {
        use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
        let kind = problem.kind();
        let is_reset = matches!(kind, ConnectionReset | BrokenPipe);
        let failure = if kind == ConnectionRefused {
            Failure::Refused
        } else if (is_reset || kind == UnexpectedEof) && !self.inbox.is_empty() {
            Failure::Cut
        } else if is_reset {
            Failure::Reset
        } else if kind == UnexpectedEof {
            Failure::Unanswered
        } else {
            Failure::Stuck
        };
        Loss { failure, note: problem.to_string() }
    }
}
