//! Accepting connections, within the connection limit.

use std::{io, mem, net::SocketAddr};

use log::error;
use mio::{Interest, Token, net::TcpStream};

use crate::{
    app::{RouteSet, Session},
    http::conn::TimeoutKind,
    metrics::{self, PauseReason},
    server::{
        Server,
        connection::{Connection, Outcome},
        connections::ADMIN_CONNECTIONS_MAX,
        listeners::{AcceptState, ListenerEntry, state_after_error},
    },
    sys,
};

/// Maximum number of connections accepted from a listener per iteration, before other connections run.
const ACCEPTS_PER_ITERATION: u32 = 64;

/// How long a keep-alive connection must have been idle before it may be closed in favour of a new one. Busy
/// connections are idle as well, for moments.
const EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// How long a connection must have waited for the rest of a head before it may be closed in favour of a new one. A head
/// is a segment or a few, so most arrive at once; and slots that are held by incomplete heads must not keep health
/// probes out.
const HEAD_EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// How long an admin connection must have been receiving a body, or its client must have accepted nothing of a
/// response, before the connection may be closed in favour of a new one. What operators send and request is short, and
/// slots that are held in this way must not keep probes out.
const ADMIN_STALLED_EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// How long a connection must have lingered after its last response before it may be closed in favour of a new one.
/// Most clients have read the response and closed by then.
const LINGERING_EVICTABLE_AFTER_NS: u64 = 100_000_000;

impl Server {
    /// Accepts from every listener that may have connections waiting.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.places() {
            self.accept_waiting(index);
        }
    }

    /// Accepts the connections that wait at a listener now. The poll reports later ones, so there is no need for a last
    /// attempt that fails: the kernel allocates a socket and a descriptor before it looks into the queue, and that
    /// takes as long as a tenth of a request.
    fn accept_waiting(&mut self, index: usize) {
        let now_ns = self.context.clock.now_ns();
        let Some(entry) = self.listeners.get_mut(index) else { return };
        if !entry.state.should_accept(now_ns) {
            return;
        }
        let routes = entry.routes;
        if !self.has_room(routes, now_ns) {
            return self.wait_for_room(index, now_ns);
        }
        let Some(entry) = self.listeners.get_mut(index) else { return };
        // Systems that do not count report zero.
        let waiting = sys::accept_queue_length(&*entry.listener).ok().filter(|count| *count > 0);
        let attempts = waiting.unwrap_or(u32::MAX).min(ACCEPTS_PER_ITERATION);
        for _ in 0..attempts {
            if !self.accept_from(index) {
                return;
            }
        }
        if !self.has_room(routes, now_ns) {
            self.wait_for_room(index, now_ns);
        } else if waiting == Some(attempts)
            && let Some(entry) = self.listeners.get_mut(index)
        {
            entry.state = AcceptState::Idle;
        }
    }

    /// Accepts one connection, if possible. Returns whether another attempt may succeed.
    pub(super) fn accept_from(&mut self, index: usize) -> bool {
        let now_ns = self.context.clock.now_ns();
        let Some(entry) = self.listeners.get_mut(index) else { return false };
        if !entry.state.should_accept(now_ns) {
            return false;
        }
        let routes = entry.routes;
        if !self.has_room(routes, now_ns) {
            self.wait_for_room(index, now_ns);
            return false;
        }
        let Some(entry) = self.listeners.get_mut(index) else { return false };
        match entry.listener.accept() {
            Ok((socket, address)) => {
                entry.state = AcceptState::Ready;
                self.evict(routes);
                self.admit(socket, address, routes);
                true
            }
            Err(error) => {
                entry.state = state_after_error(&error, now_ns);
                if matches!(entry.state, AcceptState::Backoff { .. }) {
                    let counters = self.context.app.counters();
                    counters.add(metrics::ACCEPT_PAUSES.with(PauseReason::Error), 1);
                    self.error_throttle.warn(now_ns, || {
                        let place = place_of(entry);
                        format!("cannot accept a connection{place}: {error}; retrying")
                    });
                }
                entry.state == AcceptState::Ready
            }
        }
    }

    /// Records that the connection limit of a listener is reached.
    fn wait_for_room(&mut self, index: usize, now_ns: u64) {
        let Some(entry) = self.listeners.get_mut(index) else { return };
        if mem::replace(&mut entry.state, AcceptState::AtLimit) == AcceptState::AtLimit {
            return;
        }
        self.context.app.counters().add(metrics::ACCEPT_PAUSES.with(PauseReason::Full), 1);
        let (routes, place) = (entry.routes, place_of(entry));
        let limit = self.connection_limit(routes);
        // Each kind of address has its own limit, and its own warning.
        let throttle = match routes {
            RouteSet::Admin => &mut self.admin_full_throttle,
            RouteSet::All | RouteSet::Public => &mut self.full_throttle,
        };
        throttle.warn(now_ns, || {
            format!("connection limit ({limit}) reached{place}; new connections wait in the kernel")
        });
    }

    /// Runs the first turn of a new connection, and registers it if that was not the last: most clients send their
    /// request right after the handshake, and a connection with a single request need never be registered.
    fn admit(&mut self, socket: TcpStream, address: SocketAddr, routes: RouteSet) {
        let counters = self.context.app.counters();
        counters.add(metrics::CONNECTIONS_ACCEPTED, 1);
        counters.increment(metrics::CONNECTIONS);
        let session = Session::new(self.connections.next_id(), self.context.loggable(address));
        let mut connection = Connection::new(socket, session.on(routes));
        if self.drain.is_draining() {
            connection.disable_keep_alive();
        }
        let outcome = connection.turn(&mut self.context);
        if outcome == Outcome::Closed {
            self.context.app.counters().decrement(metrics::CONNECTIONS);
            self.context.app.end(connection.session());
            return;
        }
        let key = self.connections.insert(connection);
        self.apply_outcome(key, outcome);
        if let Err(error) = self.register(key) {
            error!("cannot register a connection: {error}");
            self.remove_connection(key);
        }
    }

    /// Registers a connection once and for all: edge-triggered, for both directions and for urgent data.
    fn register(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.poll.registry().register(connection.socket_mut(), Token(key), interest)
    }

    /// When there is room for one more connection that reaches `routes`, possibly in place of one that can be evicted.
    /// None if all are busy.
    pub(super) fn next_room_ns(&self, routes: RouteSet, now_ns: u64) -> Option<u64> {
        if !self.is_full(routes) {
            return Some(now_ns);
        }
        self.next_evictable(routes).map(|(_, evictable_ns)| evictable_ns.max(now_ns))
    }

    /// Whether there is room for one more connection. A connection that could be evicted for it first reads what its
    /// socket holds, or writes what its client accepts: it may have become busy since it was last tried.
    fn has_room(&mut self, routes: RouteSet, now_ns: u64) -> bool {
        let mut tried = None;
        while self.is_full(routes) {
            match self.next_evictable(routes) {
                Some(found) if found.1 > now_ns => return false,
                Some(found) if tried == Some(found) => break,
                Some(found) => tried = self.still_waits(found.0).then_some(found),
                None => return false,
            }
        }
        true
    }

    /// The connection that can be evicted first, and when.
    fn next_evictable(&self, routes: RouteSet) -> Option<(usize, u64)> {
        let oldest = |kind, after_ns| (self.connections.oldest(kind, routes), after_ns);
        let stalled = |found: Option<(usize, u64)>| {
            (found.filter(|_| routes == RouteSet::Admin), ADMIN_STALLED_EVICTABLE_AFTER_NS)
        };
        [
            oldest(TimeoutKind::Linger, LINGERING_EVICTABLE_AFTER_NS),
            oldest(TimeoutKind::Idle, EVICTABLE_AFTER_NS),
            oldest(TimeoutKind::Head, HEAD_EVICTABLE_AFTER_NS),
            stalled(self.connections.oldest(TimeoutKind::Body, routes)),
            stalled(self.connections.longest_stalled_admin()),
        ]
        .into_iter()
        .filter_map(|(found, after_ns)| {
            let (key, since_ns) = found?;
            Some((key, since_ns.saturating_add(after_ns)))
        })
        .min_by_key(|(_, evictable_ns)| *evictable_ns)
    }

    /// At the connection limit, closes the connection that could be evicted first. Call it once a new connection has
    /// been accepted, not before.
    fn evict(&mut self, routes: RouteSet) {
        if self.is_full(routes)
            && let Some((key, _)) = self.next_evictable(routes)
        {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.evict(&self.context.app);
            }
            self.remove_connection(key);
        }
    }

    fn is_full(&self, routes: RouteSet) -> bool {
        self.connections.sharing_slots(routes) >= self.connection_limit(routes)
    }

    fn connection_limit(&self, routes: RouteSet) -> usize {
        match routes {
            RouteSet::Admin => ADMIN_CONNECTIONS_MAX,
            RouteSet::All | RouteSet::Public => {
                self.fd_budget.connections(self.listeners.descriptors())
            }
        }
    }
}

/// Where a listener listens, for a log line.
fn place_of(entry: &ListenerEntry) -> String {
    let bound = entry.listener.local_addr();
    bound.map_or_else(|_| String::new(), |address| format!(" on {address}"))
}
