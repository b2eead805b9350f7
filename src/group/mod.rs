//! The processes that share a port: an idle one accepts what a busy, stopped or dead one cannot.
//!
//! A listening socket that closes resets the connections in its queue, although others listen on the port. So one rule
//! holds: *every process holds every listener it knows of until it exits, and every process that holds a listener may
//! accept from it.* [`pool`] decides which of them a process watches: its own first, then a few of its neighbours', and
//! all that have no owner.
//!
//! # Protocol, version 2
//!
//! Processes find each other by abstract Unix names, `fibsrv.ADDRESS.ID`, listed in `/proc/net/unix`, if their addresses
//! overlap. Any two are connected by one link (`SOCK_SEQPACKET`); links to other users are closed. On a new link both
//! sides send `Hello`, and then the memory of the metrics, each listener that they own or that has no owner, and `End`.
//! A listener is sent to all when it is opened, before it listens; again when its owner has registered it, so that others
//! queue behind the owner; and again when it has no owner any more. A process that is gone closes its links.
//!
//! Nothing has to be agreed: a lost message costs balance, a wrong owner costs a spare listener. A timer compares the
//! listed processes with the connected ones and connects to those that are missing (`check`).
//!
//! A supervisor is the member for its workers. They inherit all listeners, and others come to them by a channel, which
//! is a link like others.

mod channel;
mod check;
mod join;
mod link;
mod links;
pub mod message;
pub mod pool;
mod protocol;
mod rendezvous;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    rc::Rc,
};

use mio::{Interest, Registry, Token, net::TcpListener, unix::SourceFd};

pub use self::{channel::Channel, check::Sharing, pool::ListenerId};
use self::{
    links::Links,
    message::{Hello, Message},
    pool::{Owner, Pool},
};

/// Tokens for the sockets where other processes connect; those of links follow.
const MEETINGS_MAX: usize = 1024;
/// In [`Hello`]: the process counts in private memory.
const PRIVATE: u64 = u64::MAX;

/// A listener that the loop is to watch.
#[derive(Debug)]
pub struct Watched {
    /// Which one.
    pub id: ListenerId,
    /// The socket, of which the group has this very descriptor as well.
    pub listener: Rc<TcpListener>,
    /// Whether it is this process's own.
    pub is_own: bool,
}

/// This process among those that share its ports.
#[derive(Debug)]
pub struct Group {
    addresses: Vec<SocketAddr>,
    id: u64,
    pool: Pool,
    /// All listeners, held until this process exits.
    listeners: BTreeMap<ListenerId, Rc<TcpListener>>,
    links: Links,
    /// What is known of the process at the other end of a link.
    members: BTreeMap<usize, Member>,
    meetings: Vec<OwnedFd>,
    registered: Option<(Registry, usize)>,
    memory: Memory,
    /// Listeners that are new, or have another owner.
    changed: Vec<ListenerId>,
    check: check::Check,
}

/// The memory that this process counts in.
#[derive(Debug, Default)]
struct Memory {
    descriptor: Option<OwnedFd>,
    /// What [`Hello`] says about it.
    id: u64,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event that has happened or not")]
struct Member {
    hello: Option<Hello>,
    /// What it has sent while this process joins.
    memory: Option<OwnedFd>,
    /// The number under which it was listed.
    expected: Option<u64>,
    has_sent_list: bool,
    has_received_list: bool,
    /// Whether this process has connected to it, and not the other way round.
    is_initiated: bool,
    /// Whether it was there in the last comparison.
    was_checked: bool,
    /// Whether it has sent nothing for too long.
    is_silent: bool,
    is_logged: bool,
}

impl Member {
    /// The number in its names.
    fn id(&self) -> Option<u64> {
        self.hello.map(|hello| hello.id).or(self.expected)
    }
}

impl Group {
    /// A group without listeners and links.
    fn new(addresses: Vec<SocketAddr>, id: u64) -> Self {
        Self {
            addresses,
            id,
            pool: Pool::default(),
            listeners: BTreeMap::new(),
            links: Links::new(),
            members: BTreeMap::new(),
            meetings: Vec::new(),
            registered: None,
            memory: Memory::default(),
            changed: Vec::new(),
            check: check::Check::default(),
        }
    }

    /// The addresses of the listeners that this process owns.
    pub fn own_addresses(&self) -> BTreeSet<SocketAddr> {
        self.own().into_iter().filter_map(|(_, own)| own.local_addr().ok()).collect()
    }

    /// The listeners that this process owns.
    pub fn own(&self) -> Vec<(ListenerId, Rc<TcpListener>)> {
        let own = self.pool.owners().filter(|(_, owner)| *owner == Owner::This);
        own.filter_map(|(id, _)| Some((id, Rc::clone(self.listeners.get(&id)?)))).collect()
    }

    /// The listeners that another version of this process needs: others do not own them, and may not hold them.
    pub fn to_inherit(&self) -> Vec<Rc<TcpListener>> {
        let needed = self.pool.owners().filter(|(_, owner)| !matches!(owner, Owner::Other(_)));
        needed.filter_map(|(id, _)| self.listeners.get(&id).map(Rc::clone)).collect()
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let memory = usize::from(self.memory.descriptor.is_some());
        self.listeners.len() + self.links.len() + self.meetings.len() + memory
    }

    /// Registers links and the sockets where others connect, with tokens from `first` up.
    pub fn register(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        for (index, meeting) in self.meetings.iter().enumerate().take(MEETINGS_MAX) {
            let raw = meeting.as_raw_fd();
            registry.register(&mut SourceFd(&raw), Token(first + index), Interest::READABLE)?;
        }
        self.links.watch(registry, first + MEETINGS_MAX)?;
        self.registered = Some((registry.try_clone()?, first));
        Ok(())
    }

    /// The listeners to accept from, this process's own first.
    pub fn watched(&self) -> Vec<Watched> {
        let own = |id| self.pool.owners().any(|entry| entry == (id, Owner::This));
        let watched = self.pool.watched().into_iter();
        watched
            .filter_map(|id| {
                let listener = Rc::clone(self.listeners.get(&id)?);
                Some(Watched { id, listener, is_own: own(id) })
            })
            .collect()
    }

    /// All listeners that this process holds.
    pub fn held(&self) -> impl Iterator<Item = (ListenerId, &Rc<TcpListener>)> {
        self.listeners.iter().map(|(id, listener)| (*id, listener))
    }

    /// The listeners that have changed since the last call.
    pub fn take_changed(&mut self) -> Vec<ListenerId> {
        std::mem::take(&mut self.changed)
    }

    /// Handles an event for the token `first + token`.
    pub fn ready(&mut self, token: usize) {
        match token.checked_sub(MEETINGS_MAX) {
            None => self.accept_links(),
            Some(key) => self.read(key),
        }
        self.settle();
    }

    /// Sends the listeners that this process owns to all others. Call it when they are registered: others then queue
    /// behind this process.
    pub fn announce(&mut self) {
        for (_, listener) in self.own() {
            self.links.broadcast(Message::Own, Some(listener.as_fd()));
        }
        self.settle();
    }

    /// Gives up the ownership of all listeners, as this process is shutting down. The descriptors are held until it
    /// exits.
    pub fn leave(&mut self) {
        let own = self.pool.leave();
        self.broadcast_held(&own);
        self.settle();
    }
}
