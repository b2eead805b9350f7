//! The listening sockets that a worker accepts from.
//!
//! The [`Group`] determines them. They are registered with `EPOLLEXCLUSIVE`: the kernel wakes the first process, in
//! the order of registration, that sleeps. So an owner registers first, and its neighbours again after it. This module
//! tracks the state of each accept queue. The event loop accepts.

use std::{io, net::SocketAddr, rc::Rc};

use log::error;
use mio::{Registry, Token, net::TcpListener};
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

use crate::{
    app::RouteSet,
    group::{Group, ListenerId, Sharing},
    sys::listener::is_admin,
};

/// First token of listeners. Those of the group follow from `FIRST_GROUP`. Tokens of connections count from
/// zero and stay far below.
pub const FIRST_LISTENER: Token = Token(usize::MAX / 2);
const FIRST_GROUP: usize = usize::MAX / 4 * 3;

/// Maximum number of connections accepted from a listener during shutdown.
const LAST_ACCEPTS_MAX: u32 = 4096;

/// How long accepting pauses when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 50_000_000;

/// How often this process tries to accept from an admin listener during shutdown. It is not registered any more, so
/// that other processes on the port are woken first.
const ADMIN_ACCEPT_NS: u64 = 50_000_000;

/// The listeners, and the group that adds and removes them.
#[derive(Debug)]
pub struct Listeners {
    registry: Registry,
    slab: Slab<ListenerEntry>,
    group: Group,
    /// The registration of the admin listeners.
    admin: Registration,
    /// The registration of the others.
    registration: Registration,
}

/// Whether the listeners are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    /// They are.
    Watching,
    /// They are not, for now: a process that cannot accept must not be woken instead of one that can.
    Paused,
    /// They are not, for good: connections in the queues are accepted, and none that arrive later.
    Released,
}

/// A listening socket and the state of its accept queue.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Identity of the listener.
    pub id: ListenerId,
    /// The socket. The group shares this descriptor.
    pub listener: Rc<TcpListener>,
    /// What its connections reach.
    pub routes: RouteSet,
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
    /// The queue was found empty, or all connections that were counted in it have been accepted. The poll reports later
    /// ones.
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
    pub fn should_accept(self, now_ns: u64) -> bool {
        self.next_accept_ns().is_some_and(|earliest_ns| earliest_ns <= now_ns)
    }

    /// When `accept` should be tried, if there is room.
    pub const fn next_accept_ns(self) -> Option<u64> {
        match self {
            Self::Idle | Self::Stopped => None,
            Self::Ready | Self::AtLimit => Some(0),
            Self::Backoff { until_ns } => Some(until_ns),
        }
    }
}

impl Listeners {
    /// Registers the listeners that the group watches. Those that it adds later follow.
    pub fn new(registry: &Registry, mut group: Group) -> io::Result<Self> {
        let registry = registry.try_clone()?;
        group.register(&registry, FIRST_GROUP)?;
        let (admin, registration) = (Registration::Watching, Registration::Watching);
        let mut listeners = Self { registry, slab: Slab::new(), group, admin, registration };
        listeners.watch();
        // After the registration, so that processes that register them again are behind this one.
        listeners.group.announce();
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

    /// Whether accepting has stopped on every listener, but for the admin listeners.
    pub fn all_stopped(&self) -> bool {
        let mut others = self.iter().filter(|entry| entry.routes != RouteSet::Admin);
        others.all(|entry| entry.state == AcceptState::Stopped)
    }

    /// Returns the number of descriptors held by the listeners and the group.
    pub fn descriptors(&self) -> usize {
        self.group.descriptors()
    }

    /// Returns whether the metrics include those of all processes on the port.
    pub const fn sharing(&self) -> Sharing {
        self.group.sharing()
    }

    /// The group that determines the listeners.
    pub const fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    /// Returns when [`Listeners::check`] is due.
    pub const fn next_check_ns(&self) -> Option<u64> {
        self.group.next_check_ns()
    }

    /// Connects to processes on the port that are not connected, if a check is due.
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

    /// Deregisters the listeners that share the slots of `routes`, while this process cannot accept from them.
    pub fn pause(&mut self, routes: RouteSet) {
        if self.registration(routes) == Registration::Watching {
            self.places_of(routes).into_iter().for_each(|place| self.deregister(place));
            *self.registration_mut(routes) = Registration::Paused;
        }
    }

    /// Registers those listeners again. The poll reports connections that wait already.
    pub fn resume(&mut self, routes: RouteSet) {
        if self.is_paused(routes) {
            *self.registration_mut(routes) = Registration::Watching;
            self.places_of(routes).into_iter().for_each(|place| self.register(place));
        }
    }

    /// Whether those listeners are deregistered for now.
    pub fn is_paused(&self, routes: RouteSet) -> bool {
        self.registration(routes) == Registration::Paused
    }

    const fn registration(&self, routes: RouteSet) -> Registration {
        match routes {
            RouteSet::Admin => self.admin,
            RouteSet::All | RouteSet::Public => self.registration,
        }
    }

    const fn registration_mut(&mut self, routes: RouteSet) -> &mut Registration {
        match routes {
            RouteSet::Admin => &mut self.admin,
            RouteSet::All | RouteSet::Public => &mut self.registration,
        }
    }

    /// The indices of the listeners that share the slots of `routes`.
    fn places_of(&self, routes: RouteSet) -> Vec<usize> {
        let is_admin = routes == RouteSet::Admin;
        let of =
            self.slab.iter().filter(|(_, entry)| (entry.routes == RouteSet::Admin) == is_admin);
        of.map(|(place, _)| place).collect()
    }

    /// Deregisters all listeners for shutdown. Connections in the queues may have been reported to this process alone,
    /// so they are still accepted. The descriptors stay open until this value is dropped.
    pub fn release(&mut self) {
        (0..self.places()).for_each(|place| self.deregister(place));
        (self.admin, self.registration) = (Registration::Released, Registration::Released);
        self.group.leave();
        let held: Vec<_> = self.group.held().map(|(id, held)| (id, Rc::clone(held))).collect();
        for (id, listener) in held {
            if self.place_of(id).is_none() {
                self.insert(id, listener);
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
        match self.registration {
            Registration::Released => self.mark_all_ready(),
            Registration::Watching | Registration::Paused => self.watch(),
        }
    }

    /// Registers the listeners that the group watches, and no others. Those of other processes are registered again.
    /// This moves this process behind the owner, and the poll reports connections that wait already.
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
                    let place = self.insert(found.id, found.listener);
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

    fn insert(&mut self, id: ListenerId, listener: Rc<TcpListener>) -> usize {
        let routes = routes_of(&listener, self.group.admin_addresses());
        let (state, last_accepts) = (AcceptState::Idle, LAST_ACCEPTS_MAX);
        self.slab.insert(ListenerEntry { id, listener, routes, state, last_accepts })
    }

    fn place_of(&self, id: ListenerId) -> Option<usize> {
        self.slab.iter().find(|(_, entry)| entry.id == id).map(|(place, _)| place)
    }

    fn register(&self, place: usize) {
        let Some(entry) = self.registered(place) else { return };
        // mio has no interest for EPOLLEXCLUSIVE. It reads its token from the data of an event.
        let token = EventData::new_u64((FIRST_LISTENER.0 + place) as u64);
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        if let Err(error) = epoll::add(&self.registry, &*entry.listener, token, flags) {
            error!("cannot register a listener: {error}");
        }
    }

    /// The listener at an index, if such listeners are registered.
    fn registered(&self, place: usize) -> Option<&ListenerEntry> {
        let entry = self.slab.get(place);
        entry.filter(|entry| self.registration(entry.routes) == Registration::Watching)
    }

    /// Removes a listener from the poll. The kernel does not, because the descriptor stays open.
    fn deregister(&self, place: usize) {
        let Some(entry) = self.registered(place) else { return };
        if let Err(error) = epoll::delete(&self.registry, &*entry.listener) {
            error!("cannot deregister a listener: {error}");
        }
    }
}

impl ListenerEntry {
    /// Ends an attempt to empty the queue during shutdown. Accepting stops once it is empty or `last_accepts` is used
    /// up: connections that arrive later are not accepted, except on admin addresses, where readiness is reported to
    /// the end.
    pub fn end_last_accepts(&mut self, now_ns: u64) {
        if self.state != AcceptState::Idle && self.last_accepts > 0 {
            return;
        }
        self.state = match self.routes {
            RouteSet::All | RouteSet::Public => AcceptState::Stopped,
            RouteSet::Admin => {
                self.last_accepts = LAST_ACCEPTS_MAX;
                AcceptState::Backoff { until_ns: now_ns.saturating_add(ADMIN_ACCEPT_NS) }
            }
        };
    }
}

/// Returns what connections of a listener reach.
fn routes_of(listener: &TcpListener, admin: &[SocketAddr]) -> RouteSet {
    match listener.local_addr() {
        _ if admin.is_empty() => RouteSet::All,
        Ok(bound) if is_admin(bound, admin) => RouteSet::Admin,
        Ok(_) | Err(_) => RouteSet::Public,
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
