//! Independent processes on one port: no connection that waits to be accepted is lost when one of them leaves
//! or dies.
//!
//! A listening socket that closes resets all who wait in its queue, though others listen on the port. So the
//! one rule: *the set of listening sockets only grows while any process of the group lives; what changes is
//! who accepts from which.* Each process holds a duplicate of every listener, and accepts from its own and
//! from those that are nobody's, the orphans.
//!
//! # Protocol, version 1
//!
//! Processes meet at abstract Unix names, `fibsrv.ADDRESS.NUMBER`, listed in `/proc/net/unix`; there is one
//! link (`SOCK_SEQPACKET`) between any two. Only links between processes of one user are kept.
//! A process that joins
//!
//! 1. takes the lock, the name `fibsrv.ADDRESS.lock`;
//! 2. binds a name of its own, where those that come later find it, and connects to all that are there;
//! 3. sends `AskRegion` and `Hello` to each;
//! 4. receives from each the region, which is none of our business, then `Mine`, `Orphan` or `Held` for each
//!    listener that is the sender's, nobody's or another's, with its descriptor, then `End`;
//! 5. makes an orphan its own if there is one, else opens a listener; sends `Mine` for it to all, and frees
//!    the lock.
//!
//! Who hears `Mine` stops accepting from that listener. Who leaves says `Released`, and its listeners are
//! orphans. Who dies hangs up, which means the same. Who sees a listener become an orphan says `Orphan` to
//! all. It is for one that has just joined and never heard of that listener from its owner, who died before
//! he could tell: until then, he who has said `Held` stands for it. All of it may be said twice, or to
//! somebody who knows.
//!
//! A worker under a supervisor was born with listeners, and brings them along in step 5. Its supervisor asks
//! for what there is before it opens any, and leaves again: to the others it was one that died early.
//!
//! Who does not answer in time is not waited for, but the link stays, so that it is told everything and may
//! tell later. Who says what makes no sense is not listened to any more. In either case this process has its
//! own listener, as it would without a group.
//!
//! [`message`] has the messages, [`ledger`] decides; both know no sockets. `link`, `links` and `names` have
//! the sockets, `join` is how it begins.

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

/// Messages read from a link, and links accepted, before the others have a turn.
const PER_TURN: usize = 64;
/// Messages heard from a process that is gone: more than the kernel keeps of one.
const LAST_WORDS_MAX: usize = 4096;

/// What the loop is to do with a listener.
#[derive(Debug)]
pub enum Change {
    /// Accept from it. Somebody may be waiting: the poll does not tell that.
    Accept(ListenerId, Rc<TcpListener>),
    /// Accept from it no more.
    Stop(ListenerId),
}

/// This process as a member of the group of an address, which may be a group of one.
#[derive(Debug)]
pub struct Group {
    address: SocketAddr,
    ledger: Ledger,
    /// All listeners of the group, held until this process ends.
    listeners: BTreeMap<ListenerId, Rc<TcpListener>>,
    links: Links,
    meeting: Meeting,
    region: Option<OwnedFd>,
    /// Those who have asked for all listeners.
    asking: BTreeSet<usize>,
    changes: Vec<Change>,
    stage: Stage,
    strangers: Strangers,
}

/// Where others find this process.
#[derive(Debug)]
enum Meeting {
    /// Nowhere.
    None,
    /// There, but nobody looks yet.
    Open(OwnedFd),
    /// There, with the token under which it is watched.
    Watched(OwnedFd, Registry, Token),
}

/// How far this process is with joining.
#[derive(Debug)]
enum Stage {
    /// These still have to say what they have.
    Joining { awaited: BTreeSet<usize>, region: Option<OwnedFd> },
    /// Nobody is waited for any more.
    Joined,
}

/// Whether somebody of another user has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strangers {
    Unseen,
    /// Said once, however many come.
    StopRequest,
}

impl Group {
    /// How many tokens a group needs.
    pub const TOKENS: usize = 1 + LINKS_MAX;

    /// A group of one, without a listener.
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
            strangers: Strangers::Unseen,
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        self.listeners.len() + self.links.len() + usize::from(self.region.is_some()) + 1
    }

    /// Has the links watched, under tokens from `first` up; says what to accept from to begin with.
    pub fn watch(&mut self, registry: &Registry, first: Token) -> io::Result<Vec<Change>> {
        if let Meeting::Open(socket) = mem::replace(&mut self.meeting, Meeting::None) {
            let raw = socket.as_raw_fd();
            registry.register(&mut SourceFd(&raw), first, Interest::READABLE)?;
            self.meeting = Meeting::Watched(socket, registry.try_clone()?, first);
        }
        self.links.watch(registry, first.0 + 1)?;
        Ok(mem::take(&mut self.changes))
    }

    /// Does what is to be done when there is an event for the token so many after the first.
    pub fn ready(&mut self, token: usize) -> Vec<Change> {
        match token.checked_sub(1) {
            None => self.meet(),
            Some(key) => self.read(key),
        }
        self.settle();
        mem::take(&mut self.changes)
    }

    /// Hands this process's listeners over to the others, if there are any. The descriptors are kept until it
    /// ends. If all others leave as well, it is asked to accept again.
    pub fn release(&mut self) -> Vec<Change> {
        self.links.tell(Message::Released, None);
        self.apply(Event::Leave);
        self.settle();
        mem::take(&mut self.changes)
    }

    /// Takes in those who have come to join.
    fn meet(&mut self) {
        for _ in 0..PER_TURN {
            let Meeting::Watched(meeting, ..) = &self.meeting else { return };
            match accept_with(meeting, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => drop(self.take_in(socket)),
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(_) => return,
            }
        }
        // The poll does not tell again by itself that there are more.
        if let Meeting::Watched(meeting, registry, token) = &self.meeting {
            let raw = meeting.as_raw_fd();
            let mut source = SourceFd(&raw);
            if let Err(error) = registry.reregister(&mut source, *token, Interest::READABLE) {
                warn!("cannot watch for processes that join: {error}");
            }
        }
    }

    /// Makes a link of a socket, if it leads to somebody of the same user.
    fn take_in(&mut self, socket: OwnedFd) -> Option<usize> {
        if rendezvous::is_same_user(socket.as_fd()) {
            return self.links.insert(socket);
        }
        if self.strangers == Strangers::Unseen {
            self.strangers = Strangers::StopRequest;
            warn!("{}: a process of another user is left alone", self.address);
        }
        None
    }

    /// Listens to what comes over a link.
    fn read(&mut self, key: usize) {
        for _ in 0..PER_TURN {
            if !self.read_message(key) {
                return;
            }
        }
        self.links.come_back_to(key);
    }

    /// Listens to one message; says whether there may be more.
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
            // What carries no descriptor and should is refused before.
            (Message::Unknown, _) | (Message::Mine | Message::Held | Message::Orphan, None) => {}
        }
    }

    /// Answers `Hello`.
    fn introduce(&mut self, key: usize) {
        for (id, owner) in self.ledger.owners() {
            let message = match owner {
                Owner::Me => Message::Mine,
                Owner::Nobody => Message::Orphan,
                Owner::Peer(_) => Message::Held,
            };
            if let Some(listener) = self.listeners.get(&id) {
                self.links.say(key, message, Some(listener.as_fd()));
            }
        }
        self.links.say(key, Message::End, None);
    }

    /// Takes in a listener that a process has told of.
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

    /// Keeps a listener; says whether there was a place for it.
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

    /// Has done with a process that does not make sense.
    fn refuse(&mut self, key: usize, reason: &dyn std::fmt::Display) {
        warn!("{}: a process that sends {reason} is left alone", self.address);
        self.part(key);
    }

    /// Answers those who have asked, and parts with those whose links have failed.
    fn settle(&mut self) {
        if !self.asking.is_empty() {
            // Who joins now is to know all that those who joined before have said, in case they and we die.
            for key in self.links.keys() {
                self.read(key);
            }
            for key in mem::take(&mut self.asking) {
                self.introduce(key);
            }
        }
        while let Some(key) = self.links.failed() {
            // It may be that only the way there is closed.
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
