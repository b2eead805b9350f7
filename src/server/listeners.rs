//! The listening sockets a worker accepts from: they come and go with the processes that share a port.
//!
//! The [`Group`] decides which. They are registered with `EPOLLEXCLUSIVE`: the kernel wakes the first process in the
//! order of registration that sleeps. So an owner registers first, and neighbours again behind it.

use std::{io, rc::Rc};

use log::error;
use mio::{Registry, Token, net::TcpListener};
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

use crate::group::{Group, ListenerId, Sharing};

/// Tokens from here up are for listeners, then for the group. Those of connections, counted from zero, are far below.
pub const FIRST_LISTENER: Token = Token(usize::MAX / 2);
const FIRST_GROUP: usize = usize::MAX / 4 * 3;

/// Maximum number of connections accepted from a listener by a process that shuts down.
const LAST_ACCEPTS_MAX: u32 = 4096;

/// Pause of accepting when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// The listeners, and the group that decides which they are.
#[derive(Debug)]
pub struct Listeners {
    registry: Registry,
    slab: Slab<ListenerEntry>,
    group: Group,
    mode: Mode,
}

/// What the listeners are registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Accepting.
    Watching,
    /// Nothing for now: a process that cannot accept must not be woken instead of one that can.
    Paused,
    /// Nothing any more: what waits is accepted, and nothing that arrives later.
    Released,
}

/// A listening socket, and the state of its queue.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Which one.
    pub id: ListenerId,
    /// The socket, of which the group has this very descriptor as well.
    pub listener: Rc<TcpListener>,
    /// The state of its queue.
    pub state: AcceptState,
    /// Connections that may still be accepted while this process shuts down. A queue has room for so many; more have
    /// arrived meanwhile.
    pub last_accepts: u32,
}

/// The state of a listener's queue. Readiness is reported once, so it must not be forgotten that there is more to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptState {
    /// Empty as far as is known; the poll reports new connections.
    Idle,
    /// A connection may be waiting.
    Ready,
    /// A connection may be waiting, and the connection limit is reached.
    AtLimit,
    /// A connection may be waiting, but accepting has failed.
    Backoff {
        /// When to try again.
        until_ns: u64,
    },
    /// Nothing is accepted any more.
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
    /// Registers the listeners that this group watches, and later those that it adds.
    pub fn new(registry: &Registry, mut group: Group) -> io::Result<Self> {
        let registry = registry.try_clone()?;
        group.register(&registry, FIRST_GROUP)?;
        let mode = Mode::Watching;
        let mut listeners = Self { registry, slab: Slab::new(), group, mode };
        listeners.watch();
        // Not before: those that register it again queue behind this process.
        listeners.group.announce();
        Ok(listeners)
    }

    /// One more than the greatest index of an entry. There may be no entry at an index.
    pub fn places(&self) -> usize {
        self.slab.iter().next_back().map_or(0, |(place, _)| place + 1)
    }

    /// The entry at an index.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut ListenerEntry> {
        self.slab.get_mut(place)
    }

    /// All listeners.
    pub fn iter(&self) -> impl Iterator<Item = &ListenerEntry> {
        self.slab.iter().map(|(_, entry)| entry)
    }

    /// Whether nothing is accepted any more, from any of them.
    pub fn all_stopped(&self) -> bool {
        self.iter().all(|entry| entry.state == AcceptState::Stopped)
    }

    /// The number of descriptors that they and the group hold.
    pub fn descriptors(&self) -> usize {
        self.group.descriptors()
    }

    /// Whether the metrics include those of all processes on the port.
    pub const fn sharing(&self) -> Sharing {
        self.group.sharing()
    }

    /// When [`Listeners::check`] is due.
    pub const fn next_check_ns(&self) -> Option<u64> {
        self.group.next_check_ns()
    }

    /// Looks for processes on the port that are not connected, if it is time.
    pub fn check(&mut self, now_ns: u64) {
        if self.next_check_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.group.check(now_ns);
            self.apply_changes();
        }
    }

    /// Handles an event for a token from [`FIRST_LISTENER`] up.
    pub fn ready(&mut self, token: Token) {
        if let Some(token) = token.0.checked_sub(FIRST_GROUP) {
            self.group.ready(token);
            self.apply_changes();
        } else if let Some(entry) = self.slab.get_mut(token.0 - FIRST_LISTENER.0)
            && entry.state == AcceptState::Idle
        {
            entry.state = AcceptState::Ready;
        }
    }

    /// Stops watching while this process cannot accept.
    pub fn pause(&mut self) {
        if self.mode == Mode::Watching {
            (0..self.places()).for_each(|place| self.deregister(place));
            self.mode = Mode::Paused;
        }
    }

    /// Watches again. The poll reports connections that wait already.
    pub fn resume(&mut self) {
        if self.mode == Mode::Paused {
            self.mode = Mode::Watching;
            (0..self.places()).for_each(|place| self.register(place));
        }
    }

    /// Whether the listeners are not watched for now.
    pub fn is_paused(&self) -> bool {
        self.mode == Mode::Paused
    }

    /// Stops watching, as this process shuts down. Connections that wait in the queues may have been reported to this
    /// process alone, so they are still accepted. The descriptors stay open as long as this.
    pub fn release(&mut self) {
        (0..self.places()).for_each(|place| self.deregister(place));
        self.mode = Mode::Released;
        self.group.leave();
        let held: Vec<_> = self.group.held().map(|(id, held)| (id, Rc::clone(held))).collect();
        for (id, listener) in held {
            if self.place_of(id).is_none() {
                self.slab.insert(ListenerEntry::new(id, listener));
            }
        }
        self.mark_all_ready();
    }

    /// Marks every listener as possibly ready.
    fn mark_all_ready(&mut self) {
        for (_, entry) in &mut self.slab {
            entry.state = AcceptState::Ready;
        }
    }

    fn apply_changes(&mut self) {
        if self.group.take_changed().is_empty() {
            return;
        }
        match self.mode {
            Mode::Released => self.mark_all_ready(),
            Mode::Watching | Mode::Paused => self.watch(),
        }
    }

    /// Registers the listeners that the group watches, and no others. Those of other processes are registered again, which
    /// moves this process behind the owner and reports connections that wait already.
    fn watch(&mut self) {
        let watched = self.group.watched();
        for place in 0..self.places() {
            let is_watched =
                |entry: &ListenerEntry| watched.iter().any(|found| found.id == entry.id);
            if self.slab.get(place).is_some_and(|entry| !is_watched(entry)) {
                self.deregister(place);
                drop(self.slab.try_remove(place));
            }
        }
        for found in watched {
            match self.place_of(found.id) {
                None => {
                    let place = self.slab.insert(ListenerEntry::new(found.id, found.listener));
                    self.register(place);
                }
                Some(place) if found.is_own => {
                    if let Some(entry) = self.slab.get_mut(place) {
                        entry.state = AcceptState::Ready;
                    }
                }
                Some(place) => {
                    self.deregister(place);
                    self.register(place);
                }
            }
        }
    }

    fn place_of(&self, id: ListenerId) -> Option<usize> {
        self.slab.iter().find(|(_, entry)| entry.id == id).map(|(place, _)| place)
    }

    fn register(&self, place: usize) {
        let Some(entry) = self.slab.get(place).filter(|_| self.mode == Mode::Watching) else {
            return;
        };
        // mio has no interest for this; the data of an event is its token.
        let token = EventData::new_u64((FIRST_LISTENER.0 + place) as u64);
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        if let Err(error) = epoll::add(&self.registry, &*entry.listener, token, flags) {
            error!("cannot register a listener: {error}");
        }
    }

    /// The descriptor stays open, so closing does not remove it from the poll.
    fn deregister(&self, place: usize) {
        let Some(entry) = self.slab.get(place).filter(|_| self.mode == Mode::Watching) else {
            return;
        };
        if let Err(error) = epoll::delete(&self.registry, &*entry.listener) {
            error!("cannot deregister a listener: {error}");
        }
    }
}

impl ListenerEntry {
    const fn new(id: ListenerId, listener: Rc<TcpListener>) -> Self {
        Self { id, listener, state: AcceptState::Idle, last_accepts: LAST_ACCEPTS_MAX }
    }
}

/// The state of a queue after `accept` has failed.
pub fn state_after_error(error: &io::Error, now_ns: u64) -> AcceptState {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    if error.kind() == WouldBlock {
        AcceptState::Idle
    } else if matches!(error.kind(), ConnectionAborted | Interrupted) {
        // That connection was reset while it waited; the next may be there.
        AcceptState::Ready
    } else {
        AcceptState::Backoff { until_ns: now_ns.saturating_add(ACCEPT_PAUSE_NS) }
    }
}
