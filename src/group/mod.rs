//! The processes that share a port: an idle one accepts connections that a busy, stopped or dead one cannot.
//!
//! Closing a listening socket resets all connections in its accept queue, even if other sockets listen on the port.
//! This leads to one rule: *each process holds every listener it knows of until it exits, and each process that holds a
//! listener may accept from it.* [`pool`] decides which of them a process watches: its own first, then those of a few
//! neighbours, and all that have no owner.
//!
//! # Protocol, version 2
//!
//! Processes find each other by abstract Unix names, `fibsrv.ADDRESS.ID`, listed in `/proc/net/unix`, if their
//! addresses overlap. Any two are connected by one link (`SOCK_SEQPACKET`). Only links between processes of one user
//! are kept. On a new link both processes send `Hello`, then the memory for shared metrics, then all listeners that
//! they hold, and then `End`. A listener is sent to all processes
//!
//! 1. when it is opened, before it listens;
//! 2. when its owner has registered it, so that the others register again, behind the owner;
//! 3. when it has no owner any more.
//!
//! A process that exits closes its links. Nothing needs an agreement: a lost message costs balance, and a wrong owner
//! costs a spare listener. A timer compares the listed processes with the connected ones and connects to those that are
//! missing (`check`).
//!
//! A supervisor is the member for its workers. They inherit all listeners. Later listeners reach them through a
//! channel, which is a link like others.

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

pub use self::{channel::Channel, check::Sharing, message::Stop, pool::ListenerId};
use self::{
    links::Links,
    message::{Hello, Message},
    pool::Pool,
};

/// Maximum number of tokens for rendezvous sockets. Those of links follow.
const RENDEZVOUS_MAX: usize = 1024;
/// Identity of the memory in [`Hello`] if the process counts in private memory.
const PRIVATE: u64 = u64::MAX;

/// A listener that the event loop registers.
#[derive(Debug)]
pub struct Watched {
    /// Identity of the listener.
    pub id: ListenerId,
    /// The socket. The group shares this descriptor.
    pub listener: Rc<TcpListener>,
    /// Whether this process owns it.
    pub is_own: bool,
}

/// Membership of this process in the group of its addresses, which may be a group of one.
#[derive(Debug, Default)]
pub struct Group {
    addresses: Vec<SocketAddr>,
    /// Those of them that serve only the admin routes.
    admin_addresses: Vec<SocketAddr>,
    id: u64,
    pool: Pool,
    /// All listeners, held until this process exits.
    listeners: BTreeMap<ListenerId, Rc<TcpListener>>,
    links: Links,
    /// The processes at the other ends of the links.
    members: BTreeMap<usize, Member>,
    /// Sockets to which other processes connect.
    rendezvous: Vec<OwnedFd>,
    memory: Memory,
    /// The request of the supervisor to stop, until it is taken.
    stop: Option<Stop>,
    /// Listeners that are new, or have another owner.
    changed: Vec<ListenerId>,
    check: check::Check,
}

/// The memory that this process counts in.
#[derive(Debug, Default)]
struct Memory {
    descriptor: Option<OwnedFd>,
    /// Its identity in [`Hello`].
    id: u64,
    /// A process that has sent its memory and then exited, or executed an upgrade, while this one joins.
    departed: Option<Member>,
    /// The memory that this process is to count in from now on, until it is taken.
    agreed: Option<OwnedFd>,
    /// The identity of memory that this process cannot use.
    rejected: Option<u64>,
}

/// A process at the other end of a link.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event that has happened or not")]
struct Member {
    hello: Option<Hello>,
    /// The memory that it has sent, until this process has chosen its own.
    memory: Option<OwnedFd>,
    /// The ID in the name by which this process found it.
    expected: Option<u64>,
    has_sent_list: bool,
    has_received_list: bool,
    /// Whether this process opened the link.
    is_initiated: bool,
    /// Whether it was connected at the last check.
    was_checked: bool,
    /// Whether it has sent nothing in time.
    is_silent: bool,
    is_logged: bool,
}

impl Member {
    /// Returns the ID in its names.
    fn id(&self) -> Option<u64> {
        self.hello.map(|hello| hello.id).or(self.expected)
    }
}

impl Group {
    /// Creates a group of one, without a listener.
    fn new(addresses: Vec<SocketAddr>, id: u64) -> Self {
        Self { addresses, id, ..Self::default() }
    }

    /// Sets the addresses that serve only the admin routes.
    pub fn set_admin_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.admin_addresses = addresses;
    }

    /// Returns the addresses that serve only the admin routes.
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Returns the addresses of the listeners that this process owns.
    pub fn own_addresses(&self) -> BTreeSet<SocketAddr> {
        self.own().into_iter().filter_map(|(_, own)| own.local_addr().ok()).collect()
    }

    /// Returns the listeners that this process owns.
    pub fn own(&self) -> Vec<(ListenerId, Rc<TcpListener>)> {
        let own = self.listeners.iter().filter(|(id, _)| self.pool.is_own(**id));
        own.map(|(id, listener)| (*id, Rc::clone(listener))).collect()
    }

    /// Returns the listeners that the next version of this process owns, and those that it only holds. The owner of the
    /// latter may be stopped, and unable to send them again.
    pub fn to_inherit(&self) -> [Vec<&TcpListener>; 2] {
        let (own, held) = self.held().partition::<Vec<_>, _>(|(id, _)| self.pool.is_own(*id));
        [own, held].map(|listeners| listeners.into_iter().map(|(_, held)| &**held).collect())
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let memory = usize::from(self.memory.descriptor.is_some());
        self.listeners.len() + self.links.len() + self.rendezvous.len() + memory
    }

    /// Registers rendezvous sockets and links under tokens from `first` up.
    pub fn register(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        for (index, socket) in self.rendezvous.iter().enumerate().take(RENDEZVOUS_MAX) {
            let raw = socket.as_raw_fd();
            registry.register(&mut SourceFd(&raw), Token(first + index), Interest::READABLE)?;
        }
        self.links.watch(registry, first + RENDEZVOUS_MAX)
    }

    /// Returns the listeners to register. Those that this process owns are first.
    pub fn watched(&self) -> Vec<Watched> {
        let watched = self.pool.watched().into_iter().filter_map(|id| {
            let listener = Rc::clone(self.listeners.get(&id)?);
            Some(Watched { id, listener, is_own: self.pool.is_own(id) })
        });
        watched.collect()
    }

    /// Iterates over all listeners that this process holds.
    pub fn held(&self) -> impl Iterator<Item = (ListenerId, &Rc<TcpListener>)> {
        self.listeners.iter().map(|(id, listener)| (*id, listener))
    }

    /// Returns the request of the supervisor to stop, once.
    pub const fn take_stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// Records a request to stop, if this is a worker.
    fn request_stop(&mut self, stop: Stop) {
        if self.pool.is_of_worker() {
            self.stop = self.stop.max(Some(stop));
        }
    }

    /// Returns the listeners that have changed since the last call.
    pub fn take_changed(&mut self) -> Vec<ListenerId> {
        std::mem::take(&mut self.changed)
    }

    /// Handles a readiness event. `token` is the offset from the first token.
    pub fn ready(&mut self, token: usize) {
        match token.checked_sub(RENDEZVOUS_MAX) {
            None => self.accept_links(),
            Some(key) => self.read(key),
        }
        self.settle();
    }

    /// Sends the listeners that this process owns to all others. Call it when they are registered: the others then
    /// register behind this process.
    pub fn announce(&mut self) {
        for (_, listener) in self.own() {
            self.links.broadcast(Message::Own, Some(listener.as_fd()));
        }
        self.settle();
    }

    /// Releases the ownership of all listeners for shutdown. The descriptors stay open until this process exits.
    pub fn leave(&mut self) {
        let own = self.pool.leave();
        self.broadcast_held(&own);
        self.settle();
    }
}
