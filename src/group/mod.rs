//! The group of independent processes on one port. No connection in an accept queue is lost when one of them
//! leaves or exits.
//!
//! Closing a listening socket resets all connections in its accept queue, even if other sockets listen on the
//! port. This leads to one rule: *the set of listening sockets only grows while any process of the group
//! runs. What changes is which process accepts from which listener.* Each process holds a duplicate of every
//! listener. It accepts from its own listeners and from orphans, which are listeners without an owner.
//!
//! # Protocol, version 1
//!
//! Processes find each other by abstract Unix names, `fibsrv.ADDRESS.NUMBER`, listed in `/proc/net/unix`.
//! There is one link (`SOCK_SEQPACKET`) between any two. Only links between processes of one user are kept. A
//! process that joins
//!
//! 1. takes the lock, the name `fibsrv.ADDRESS.lock`;
//! 2. binds a name of its own, by which later processes find it, and connects to all existing members;
//! 3. sends `AskRegion` and `Hello` to each;
//! 4. receives from each the shared memory region, which this module does not interpret. Then it receives
//!    `Mine`, `Orphan` or `Held` for each listener that is owned by the sender, by no process or by another
//!    process, with its descriptor. `End` is last;
//! 5. adopts an orphan if there is one, else opens a listener. It sends `Mine` for it to all and releases the
//!    lock.
//!
//! A member that receives `Mine` stops accepting from that listener. A member that leaves sends `Released`,
//! and its listeners become orphans. When a member exits, its links are closed, which means the same.
//!
//! A member that sees a listener become an orphan sends `Orphan` to all. That message is for a member that
//! has just joined and never received the listener from its owner, because the owner exited before it could
//! send `Mine`. Until then the new member records the sender of `Held` as the owner. Any message may be
//! repeated, or sent to a member that has the information already.
//!
//! A worker under a supervisor inherits listeners, and announces them in step 5. Its supervisor requests the
//! existing listeners before it opens any, and disconnects again. To the others it looks like a process that
//! exited early.
//!
//! A member that does not respond in time is not waited for. Its link stays open, so it receives all messages
//! and may respond later. A member that sends an invalid message is disconnected. In either case this process
//! has its own listener, as it would without a group.
//!
//! [`message`] defines the messages and [`ledger`] decides. Neither uses sockets. `link`, `links` and
//! `rendezvous` use the sockets. `join` implements joining.

mod join;
pub mod ledger;
mod link;
mod links;
pub mod message;
mod rendezvous;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    rc::Rc,
};

use log::{info, warn};
use mio::{Interest, Registry, Token, net::TcpListener, unix::SourceFd};
use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};

pub use self::{
    join::{Found, Joined},
    ledger::ListenerId,
};
use self::{
    ledger::{Action, Event, Ledger, LinkId, Owner},
    link::Received,
    links::{LINKS_MAX, Links},
    message::Message,
};
use crate::sys::listener;

/// Maximum number of messages read from a link, or of links accepted, before other sources are processed.
const PER_TURN: usize = 64;
/// Maximum number of messages read from a failed link: more than the kernel queues for one.
const LAST_WORDS_MAX: usize = 4096;

/// Change that the event loop applies to a listener.
#[derive(Debug)]
pub enum Change {
    /// Start accepting from it. Connections may be waiting already, which the poll does not report.
    Accept(ListenerId, Rc<TcpListener>),
    /// Stop accepting from it.
    Stop(ListenerId),
}

/// Membership of this process in the group of an address, which may be a group of one.
#[derive(Debug)]
pub struct Group {
    address: SocketAddr,
    ledger: Ledger,
    /// All listeners of the group, held until this process exits.
    listeners: BTreeMap<ListenerId, Rc<TcpListener>>,
    links: Links,
    meeting: Meeting,
    region: Option<OwnedFd>,
    /// Links with a pending `Hello`, which requests all listeners.
    asking: BTreeSet<usize>,
    changes: Vec<Change>,
    stage: Stage,
    foreign_user: ForeignUser,
}

/// Rendezvous socket by which other processes find this one.
#[derive(Debug)]
enum Meeting {
    /// No socket is open.
    None,
    /// The socket is open but not registered yet.
    Open(OwnedFd),
    /// The socket is registered under this token.
    Watched(OwnedFd, Registry, Token),
}

/// Progress of joining.
#[derive(Debug)]
enum Stage {
    /// The lists of these links are still incomplete.
    Joining { awaited: BTreeSet<usize>, region: Option<OwnedFd> },
    /// No list is waited for.
    Joined,
}

/// Whether a process of another user has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForeignUser {
    Unseen,
    /// Logged once, for any number of processes.
    Reported,
}

impl Group {
    /// Number of tokens that a group needs.
    pub const TOKENS: usize = 1 + LINKS_MAX;

    /// Creates a group of one, without a listener.
    fn new(address: SocketAddr, region: Option<OwnedFd>) -> Self {
        Self {
            address,
            ledger: Ledger::default(),
            listeners: BTreeMap::new(),
            links: Links::new(),
            meeting: Meeting::None,
            region,
            asking: BTreeSet::new(),
            changes: Vec::new(),
            stage: Stage::Joining { awaited: BTreeSet::new(), region: None },
            foreign_user: ForeignUser::Unseen,
        }
    }

    /// Returns the address on which the group listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of descriptors held.
    pub fn descriptors(&self) -> usize {
        self.listeners.len() + self.links.len() + usize::from(self.region.is_some()) + 1
    }

    /// Registers the rendezvous socket and the links under tokens from `first` up. Returns the listeners to
    /// accept from initially.
    pub fn watch(&mut self, registry: &Registry, first: Token) -> io::Result<Vec<Change>> {
        if let Meeting::Open(socket) = mem::replace(&mut self.meeting, Meeting::None) {
            let raw = socket.as_raw_fd();
            registry.register(&mut SourceFd(&raw), first, Interest::READABLE)?;
            self.meeting = Meeting::Watched(socket, registry.try_clone()?, first);
        }
        self.links.watch(registry, first.0 + 1)?;
        Ok(mem::take(&mut self.changes))
    }

    /// Handles a readiness event. `token` is the offset from the first token.
    pub fn ready(&mut self, token: usize) -> Vec<Change> {
        match token.checked_sub(1) {
            None => self.meet(),
            Some(key) => self.read(key),
        }
        self.settle();
        mem::take(&mut self.changes)
    }

    /// Hands the listeners of this process over to the others, if there are any. The descriptors stay open
    /// until it exits. If all others leave as well, later changes make it accept again.
    pub fn release(&mut self) -> Vec<Change> {
        self.links.tell(Message::Released, None);
        self.apply(Event::Leave);
        self.settle();
        mem::take(&mut self.changes)
    }

    /// Accepts links from processes that join.
    fn meet(&mut self) {
        for _ in 0..PER_TURN {
            let Meeting::Watched(meeting, ..) = &self.meeting else { return };
            match accept_with(meeting, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => drop(self.take_in(socket)),
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(_) => return,
            }
        }
        // Reregister: the poll does not report the remaining ones again by itself.
        if let Meeting::Watched(meeting, registry, token) = &self.meeting {
            let raw = meeting.as_raw_fd();
            let mut source = SourceFd(&raw);
            if let Err(error) = registry.reregister(&mut source, *token, Interest::READABLE) {
                warn!("cannot watch for processes that join: {error}");
            }
        }
    }

    /// Adds a link over a socket, if the other process runs as the same user.
    fn take_in(&mut self, socket: OwnedFd) -> Option<usize> {
        if rendezvous::is_same_user(socket.as_fd()) {
            return self.links.insert(socket);
        }
        if self.foreign_user == ForeignUser::Unseen {
            self.foreign_user = ForeignUser::Reported;
            warn!("{}: a process of another user is left alone", self.address);
        }
        None
    }

    /// Receives and handles messages of a link.
    fn read(&mut self, key: usize) {
        for _ in 0..PER_TURN {
            if !self.read_message(key) {
                return;
            }
        }
        self.links.come_back_to(key);
    }

    /// Receives and handles one message. Returns whether there may be more.
    fn read_message(&mut self, key: usize) -> bool {
        match self.links.receive(key) {
            Received::Message(message, descriptor) => {
                self.hear(key, message, descriptor);
                true
            }
            Received::Nothing => false,
            Received::HungUp => {
                self.links.fail(key);
                false
            }
            Received::Violation(violation) => {
                self.refuse(key, &violation);
                false
            }
        }
    }

    fn hear(&mut self, key: usize, message: Message, descriptor: Option<OwnedFd>) {
        match (message, descriptor) {
            (Message::Hello, _) => {
                self.asking.insert(key);
            }
            (Message::AskRegion, _) => {
                if let Some(region) = &self.region {
                    self.links.say(key, Message::SharedMemory, Some(region.as_fd()));
                }
            }
            (Message::SharedMemory, given) => {
                if let Stage::Joining { region, .. } = &mut self.stage {
                    *region = region.take().or(given);
                }
            }
            (Message::Mine, Some(descriptor)) => {
                self.learn(key, descriptor, |id| Event::Mine(LinkId(key), id));
            }
            (Message::Held, Some(descriptor)) => {
                self.learn(key, descriptor, |id| Event::Held(LinkId(key), id));
            }
            (Message::Orphan, Some(descriptor)) => {
                self.learn(key, descriptor, |id| Event::Orphan(LinkId(key), id));
            }
            (Message::Released, _) => self.apply(Event::Released(LinkId(key))),
            (Message::End, _) => {
                if let Stage::Joining { awaited, .. } = &mut self.stage {
                    awaited.remove(&key);
                }
            }
            // A message without its required descriptor is rejected when it is decoded.
            (Message::Unknown, _) | (Message::Mine | Message::Held | Message::Orphan, None) => {}
        }
    }

    /// Responds to `Hello`.
    fn introduce(&mut self, key: usize) {
        for (id, owner) in self.ledger.owners() {
            let message = match owner {
                Owner::Me => Message::Mine,
                Owner::Unowned => Message::Orphan,
                Owner::Peer(_) => Message::Held,
            };
            if let Some(listener) = self.listeners.get(&id) {
                self.links.say(key, message, Some(listener.as_fd()));
            }
        }
        self.links.say(key, Message::End, None);
    }

    /// Adopts a listener received from another process.
    fn learn(&mut self, key: usize, descriptor: OwnedFd, event: impl FnOnce(ListenerId) -> Event) {
        let admitted = listener::admit(descriptor, self.address)
            .and_then(|listener| Ok((ListenerId(listener::identity(&listener)?), listener)));
        match admitted {
            Ok((id, listener)) => {
                if self.hold(id, listener) {
                    self.apply(event(id));
                } else {
                    warn!("{}: too many listeners, one is left to others", self.address);
                }
            }
            Err(unfit) => self.refuse(key, &unfit),
        }
    }

    /// Stores a listener. Returns whether there was room for it.
    fn hold(&mut self, id: ListenerId, listener: TcpListener) -> bool {
        let has_place = self.ledger.has_place_for(id);
        if has_place {
            self.listeners.entry(id).or_insert_with(|| Rc::new(listener));
        }
        has_place
    }

    fn apply(&mut self, event: Event) {
        for action in self.ledger.apply(event) {
            match action {
                Action::Accept(id) => {
                    let listener = self.listeners.get(&id).map(Rc::clone);
                    self.changes.extend(listener.map(|listener| Change::Accept(id, listener)));
                }
                Action::Stop(id) => self.changes.push(Change::Stop(id)),
                Action::Tell(id) => {
                    info!("{}: another process has left a listener", self.address);
                    let listener = self.listeners.get(&id);
                    if let Some(listener) = listener {
                        self.links.tell(Message::Orphan, Some(listener.as_fd()));
                    }
                }
            }
        }
    }

    /// Disconnects a process that sent an invalid message or descriptor.
    fn refuse(&mut self, key: usize, reason: &dyn std::fmt::Display) {
        warn!("{}: a process that sends {reason} is left alone", self.address);
        self.part(key);
    }

    /// Responds to pending `Hello` messages and closes failed links.
    fn settle(&mut self) {
        if !self.asking.is_empty() {
            // A process that joins now must learn everything that earlier members have sent, in case they and
            // this process exit.
            for key in self.links.keys() {
                self.read(key);
            }
            for key in mem::take(&mut self.asking) {
                self.introduce(key);
            }
        }
        while let Some(key) = self.links.failed() {
            // Possibly only sending failed, and received messages are still queued.
            for _ in 0..LAST_WORDS_MAX {
                if !self.read_message(key) {
                    break;
                }
            }
            self.part(key);
        }
    }

    fn part(&mut self, key: usize) {
        self.links.part(key);
        if let Stage::Joining { awaited, .. } = &mut self.stage {
            awaited.remove(&key);
        }
        self.apply(Event::HungUp(LinkId(key)));
    }
}
