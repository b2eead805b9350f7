//! The listening sockets a worker accepts from: they come and go with the processes that share a port.
//!
//! Which ones, the [`Group`] of each address says. What is known about each queue is kept here; accepting is
//! the loop's.

use std::{io, os::fd::AsRawFd as _, rc::Rc};

use log::error;
use mio::{Interest, Registry, Token, net::TcpListener, unix::SourceFd};
use slab::Slab;

use crate::group::{Change, Group, ListenerId};

/// Tokens from here up are for listeners, then for groups. Those of peers, counted from zero, do not come near.
pub const FIRST_LISTENER: Token = Token(usize::MAX / 2);
const FIRST_GROUP: usize = usize::MAX / 4 * 3;

/// Connections accepted at most from a listener by a process that leaves.
const LAST_ACCEPTS_MAX: u32 = 4096;

/// How long accepting rests when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// The listeners, and the groups that open and shut them.
#[derive(Debug)]
pub struct Listeners {
    registry: Registry,
    slab: Slab<ListenerEntry>,
    groups: Vec<Group>,
    /// Descriptors of the groups.
    descriptors: usize,
}

/// A listening socket, and what is known about its queue.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Which one.
    pub id: ListenerId,
    /// The socket, of which the group has this very descriptor as well.
    pub listener: Rc<TcpListener>,
    /// What is known about its queue.
    pub state: AcceptState,
    /// Connections that may still be accepted when this process is about to leave. A queue has room for so many;
    /// more have come meanwhile.
    pub last_accepts: u32,
}

/// What is known about the queue of a listening socket. As readiness is told once only, it must not be
/// forgotten that there is more to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptState {
    /// Empty as far as we know; the poll will tell.
    Idle,
    /// Somebody may be waiting.
    Ready,
    /// Somebody may be waiting, and all places are taken.
    AtLimit,
    /// Somebody may be waiting, but it is of no use to try before this time.
    Backoff {
        /// This one.
        until_ns: u64,
    },
    /// Whoever waits is not our business any more.
    Stopped,
}

impl AcceptState {
    /// Whether somebody may be waiting whom it is of use to try to accept now.
    pub const fn should_accept(self, now_ns: u64) -> bool {
        match self {
            Self::Idle | Self::Stopped => false,
            Self::Ready | Self::AtLimit => true,
            Self::Backoff { until_ns } => until_ns <= now_ns,
        }
    }
}

impl Listeners {
    /// The listeners that these groups begin with, and all that they open later.
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

    /// One more than the greatest place of a door. There may be nobody at a place.
    pub fn places(&self) -> usize {
        self.slab.iter().next_back().map_or(0, |(place, _)| place + 1)
    }

    /// The door at a place.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut ListenerEntry> {
        self.slab.get_mut(place)
    }

    /// All listeners.
    pub fn iter(&self) -> impl Iterator<Item = &ListenerEntry> {
        self.slab.iter().map(|(_, entry)| entry)
    }

    /// Whether nobody is to be accepted any more, at any of them.
    pub fn all_stopped(&self) -> bool {
        self.iter().all(|entry| entry.state == AcceptState::Stopped)
    }

    /// Has every queue looked at again.
    pub fn mark_all_ready(&mut self) {
        for (_, entry) in &mut self.slab {
            entry.state = AcceptState::Ready;
        }
    }

    /// How many descriptors they and their groups have.
    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Takes in an event for a token from [`FIRST_LISTENER`] up.
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

    /// Hands all listeners over to the other processes on the port. Those that nobody else is there for stay. The
    /// descriptors are kept as long as this is.
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
        // Others may have been told of those who wait, and the poll does not tell that again.
        let state = AcceptState::Ready;
        entry.insert(ListenerEntry { id, listener, state, last_accepts: LAST_ACCEPTS_MAX });
        Ok(())
    }

    fn shut(&mut self, id: ListenerId) {
        let place = self.slab.iter().find(|(_, entry)| entry.id == id).map(|(place, _)| place);
        let Some(entry) = place.and_then(|place| self.slab.try_remove(place)) else { return };
        // The descriptor stays open, so that it has to be taken out of the poll.
        if let Err(error) = self.registry.deregister(&mut SourceFd(&entry.listener.as_raw_fd())) {
            error!("cannot deregister a listener: {error}");
        }
    }
}

/// What a failed attempt to accept tells about the queue.
pub fn state_after_error(error: &io::Error, now_ns: u64) -> AcceptState {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    if error.kind() == WouldBlock {
        AcceptState::Idle
    } else if matches!(error.kind(), ConnectionAborted | Interrupted) {
        // That one went away while it waited; the next may not have.
        AcceptState::Ready
    } else {
        AcceptState::Backoff { until_ns: now_ns.saturating_add(ACCEPT_PAUSE_NS) }
    }
}
