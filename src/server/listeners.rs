//! The listening sockets a worker accepts from: they come and go with the processes that share a port.
//!
//! Which ones, the [`Group`] of each address says. What is known about each queue is kept here; accepting is
//! the loop's.

use std::{io, os::fd::AsRawFd as _, rc::Rc};

use log::error;
use mio::{Interest, Registry, Token, net::TcpListener, unix::SourceFd};
use slab::Slab;

use crate::group::{Change, Group, ListenerId};

/// Tokens from here up are for doors, then for groups. Those of peers, counted from zero, do not come near.
pub const FIRST_DOOR: Token = Token(usize::MAX / 2);
const FIRST_GROUP: usize = usize::MAX / 4 * 3;

/// Connections accepted at most from a listener by a process that leaves.
const LAST_ACCEPTS_MAX: u32 = 4096;

/// How long accepting rests when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// The doors, and the groups that open and shut them.
#[derive(Debug)]
pub struct Doors {
    registry: Registry,
    slab: Slab<Door>,
    groups: Vec<Group>,
    /// Descriptors of the groups.
    descriptors: usize,
}

/// A listening socket, and what is known about its queue.
#[derive(Debug)]
pub struct Door {
    /// Which one.
    pub id: ListenerId,
    /// The socket, of which the group has this very descriptor as well.
    pub listener: Rc<TcpListener>,
    /// What is known about its queue.
    pub queue: Queue,
    /// Connections that may still be accepted when this process is about to leave. A queue has room for so many;
    /// more have come meanwhile.
    pub last_accepts: u32,
}

/// What is known about the queue of a listening socket. As readiness is told once only, it must not be
/// forgotten that there is more to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Empty as far as we know; the poll will tell.
    Empty,
    /// Somebody may be waiting.
    Waiting,
    /// Somebody may be waiting, and all places are taken.
    Shut,
    /// Somebody may be waiting, but it is of no use to try before this time.
    Resting {
        /// This one.
        until_ns: u64,
    },
    /// Whoever waits is not our business any more.
    Left,
}

impl Queue {
    /// Whether somebody may be waiting whom it is of use to try to accept now.
    pub const fn is_worth_a_try(self, now_ns: u64) -> bool {
        match self {
            Self::Empty | Self::Left => false,
            Self::Waiting | Self::Shut => true,
            Self::Resting { until_ns } => until_ns <= now_ns,
        }
    }
}

impl Doors {
    /// The doors that these groups begin with, and all that they open later.
    pub fn new(registry: &Registry, groups: Vec<Group>) -> io::Result<Self> {
        let registry = registry.try_clone()?;
        let mut doors = Self { registry, slab: Slab::new(), groups, descriptors: 0 };
        for index in 0..doors.groups.len() {
            let Some(group) = doors.groups.get_mut(index) else { break };
            let first = Token(FIRST_GROUP + index * Group::TOKENS);
            let changes = group.watch(&doors.registry, first)?;
            doors.change(changes);
        }
        Ok(doors)
    }

    /// One more than the greatest place of a door. There may be nobody at a place.
    pub fn places(&self) -> usize {
        self.slab.iter().next_back().map_or(0, |(place, _)| place + 1)
    }

    /// The door at a place.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Door> {
        self.slab.get_mut(place)
    }

    /// All doors.
    pub fn iter(&self) -> impl Iterator<Item = &Door> {
        self.slab.iter().map(|(_, door)| door)
    }

    /// Whether nobody is to be accepted any more, at any of them.
    pub fn are_left(&self) -> bool {
        self.iter().all(|door| door.queue == Queue::Left)
    }

    /// Has every queue looked at again.
    pub fn suspect_all(&mut self) {
        for (_, door) in &mut self.slab {
            door.queue = Queue::Waiting;
        }
    }

    /// How many descriptors they and their groups have.
    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Takes in an event for a token from [`FIRST_DOOR`] up.
    pub fn ready(&mut self, token: Token) {
        if let Some(place) = token.0.checked_sub(FIRST_GROUP) {
            let (index, token) = (place / Group::TOKENS, place % Group::TOKENS);
            let changes = self.groups.get_mut(index).map(|group| group.ready(token));
            self.change(changes.unwrap_or_default());
        } else if let Some(door) = self.slab.get_mut(token.0 - FIRST_DOOR.0)
            && door.queue == Queue::Empty
        {
            door.queue = Queue::Waiting;
        }
    }

    /// Hands all doors over to the other processes on the port. Those that nobody else is there for stay. The
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
                        error!("cannot watch a listener: {error}");
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
        let token = Token(FIRST_DOOR.0 + entry.key());
        self.registry.register(&mut SourceFd(&raw), token, Interest::READABLE)?;
        // Others may have been told of those who wait, and the poll does not tell that again.
        let queue = Queue::Waiting;
        entry.insert(Door { id, listener, queue, last_accepts: LAST_ACCEPTS_MAX });
        Ok(())
    }

    fn shut(&mut self, id: ListenerId) {
        let place = self.slab.iter().find(|(_, door)| door.id == id).map(|(place, _)| place);
        let Some(door) = place.and_then(|place| self.slab.try_remove(place)) else { return };
        // The descriptor stays open, so that it has to be taken out of the poll.
        if let Err(error) = self.registry.deregister(&mut SourceFd(&door.listener.as_raw_fd())) {
            error!("cannot leave a listener to others: {error}");
        }
    }
}

/// What a failed attempt to accept tells about the queue.
pub fn queue_after(error: &io::Error, now_ns: u64) -> Queue {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    if error.kind() == WouldBlock {
        Queue::Empty
    } else if matches!(error.kind(), ConnectionAborted | Interrupted) {
        // That one went away while it waited; the next may not have.
        Queue::Waiting
    } else {
        Queue::Resting { until_ns: now_ns.saturating_add(ACCEPT_PAUSE_NS) }
    }
}
