//! The listening sockets that a worker accepts from.
//!
//! The set changes with the processes that share a port: the [`Group`] of each address determines it. This
//! module tracks the state of each accept queue. The event loop accepts.

use std::{io, os::fd::AsRawFd as _, rc::Rc};

use log::error;
use mio::{Interest, Registry, Token, net::TcpListener, unix::SourceFd};
use slab::Slab;

use crate::group::{Change, Group, ListenerId};

/// First token of listeners. Those of groups follow from `FIRST_GROUP`. Tokens of connections count from
/// zero and stay far below.
pub const FIRST_LISTENER: Token = Token(usize::MAX / 2);
const FIRST_GROUP: usize = usize::MAX / 4 * 3;

/// Maximum number of connections accepted from a listener during shutdown.
const LAST_ACCEPTS_MAX: u32 = 4096;

/// How long accepting pauses when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// The listeners, and the groups that add and remove them.
#[derive(Debug)]
pub struct Listeners {
    registry: Registry,
    slab: Slab<ListenerEntry>,
    groups: Vec<Group>,
    /// Number of descriptors held by the groups.
    descriptors: usize,
}

/// A listening socket and the state of its accept queue.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Identity of the listener.
    pub id: ListenerId,
    /// The socket. The group shares this descriptor.
    pub listener: Rc<TcpListener>,
    /// State of the accept queue.
    pub state: AcceptState,
    /// Connections that may still be accepted during shutdown. A queue has room for this many. Any more have
    /// arrived since shutdown began.
    pub last_accepts: u32,
}

/// State of the accept queue of a listening socket. The poll reports readiness only once, so this state must
/// record that there is more to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptState {
    /// The queue was empty when last tried. The poll reports the next connection.
    Idle,
    /// Connections may be waiting.
    Ready,
    /// Connections may be waiting, but the connection limit is reached.
    AtLimit,
    /// Connections may be waiting, but `accept` failed and is retried later.
    Backoff {
        /// Time of the next attempt.
        until_ns: u64,
    },
    /// This process no longer accepts from this listener.
    Stopped,
}

impl AcceptState {
    /// Whether `accept` should be tried now.
    pub const fn should_accept(self, now_ns: u64) -> bool {
        match self {
            Self::Idle | Self::Stopped => false,
            Self::Ready | Self::AtLimit => true,
            Self::Backoff { until_ns } => until_ns <= now_ns,
        }
    }
}

impl Listeners {
    /// Registers the initial listeners of these groups. Listeners that the groups add later follow.
    pub fn new(registry: &Registry, groups: Vec<Group>) -> io::Result<Self> {
        let registry = registry.try_clone()?;
        let mut listeners = Self { registry, slab: Slab::new(), groups, descriptors: 0 };
        for index in 0..listeners.groups.len() {
            let Some(group) = listeners.groups.get_mut(index) else { break };
            let first = Token(FIRST_GROUP + index * Group::TOKENS);
            let changes = group.watch(&listeners.registry, first)?;
            listeners.change(changes);
        }
        Ok(listeners)
    }

    /// Returns one more than the greatest index in use. Lower indices may be vacant.
    pub fn places(&self) -> usize {
        self.slab.iter().next_back().map_or(0, |(place, _)| place + 1)
    }

    /// Returns the listener at an index.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut ListenerEntry> {
        self.slab.get_mut(place)
    }

    /// Iterates over all listeners.
    pub fn iter(&self) -> impl Iterator<Item = &ListenerEntry> {
        self.slab.iter().map(|(_, entry)| entry)
    }

    /// Whether accepting has stopped on every listener.
    pub fn all_stopped(&self) -> bool {
        self.iter().all(|entry| entry.state == AcceptState::Stopped)
    }

    /// Marks every listener as possibly ready.
    pub fn mark_all_ready(&mut self) {
        for (_, entry) in &mut self.slab {
            entry.state = AcceptState::Ready;
        }
    }

    /// Returns the number of descriptors held by the listeners and their groups.
    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Handles a readiness event for a token from [`FIRST_LISTENER`] up.
    pub fn ready(&mut self, token: Token) {
        if let Some(place) = token.0.checked_sub(FIRST_GROUP) {
            let (index, token) = (place / Group::TOKENS, place % Group::TOKENS);
            let changes = self.groups.get_mut(index).map(|group| group.ready(token));
            self.change(changes.unwrap_or_default());
        } else if let Some(entry) = self.slab.get_mut(token.0 - FIRST_LISTENER.0)
            && entry.state == AcceptState::Idle
        {
            entry.state = AcceptState::Ready;
        }
    }

    /// Hands all listeners over to the other processes on the port. A listener without another process stays.
    /// The descriptors stay open until this value is dropped.
    pub fn release(&mut self) {
        let changes = self.groups.iter_mut().flat_map(Group::release).collect();
        self.change(changes);
    }

    fn change(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Accept(id, listener) => {
                    if let Err(error) = self.open(id, listener) {
                        error!("cannot register a listener: {error}");
                    }
                }
                Change::Stop(id) => self.shut(id),
            }
        }
        self.descriptors = self.groups.iter().map(Group::descriptors).sum();
    }

    fn open(&mut self, id: ListenerId, listener: Rc<TcpListener>) -> io::Result<()> {
        let raw = listener.as_raw_fd();
        let entry = self.slab.vacant_entry();
        let token = Token(FIRST_LISTENER.0 + entry.key());
        self.registry.register(&mut SourceFd(&raw), token, Interest::READABLE)?;
        // Another process may have received the event for connections that wait already; the poll does not
        // repeat it.
        let state = AcceptState::Ready;
        entry.insert(ListenerEntry { id, listener, state, last_accepts: LAST_ACCEPTS_MAX });
        Ok(())
    }

    fn shut(&mut self, id: ListenerId) {
        let place = self.slab.iter().find(|(_, entry)| entry.id == id).map(|(place, _)| place);
        let Some(entry) = place.and_then(|place| self.slab.try_remove(place)) else { return };
        // The descriptor stays open, so it must be deregistered explicitly.
        if let Err(error) = self.registry.deregister(&mut SourceFd(&entry.listener.as_raw_fd())) {
            error!("cannot deregister a listener: {error}");
        }
    }
}

/// Returns the state of the queue after a failed `accept`.
pub fn state_after_error(error: &io::Error, now_ns: u64) -> AcceptState {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    if error.kind() == WouldBlock {
        AcceptState::Idle
    } else if matches!(error.kind(), ConnectionAborted | Interrupted) {
        // The client of that connection closed it while it waited. There may be others.
        AcceptState::Ready
    } else {
        AcceptState::Backoff { until_ns: now_ns.saturating_add(ACCEPT_PAUSE_NS) }
    }
}
