//! Accepting connections, within the connection limit.

use std::{io, mem, net::SocketAddr};

use log::error;
use mio::{Interest, Token, net::TcpStream};

use crate::{
    app::{RouteSet, Session},
    http::conn::TimeoutKind,
    metrics::{self, CloseReason, PauseReason},
    server::{
        Server,
        connection::{Connection, Outcome},
        connections::ADMIN_CONNECTIONS_MAX,
        listeners::{AcceptState, state_after_error},
    },
};

/// Maximum number of connections accepted from a listener per iteration, before other connections run.
const ACCEPTS_PER_ITERATION: u32 = 64;

/// How long a keep-alive connection must have been idle before it may be closed in favour of a new one. Busy
/// connections are idle as well, for moments.
const EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// How long a connection must have waited for the rest of a head before it may be closed in favour of a new one. A head is
/// a segment or a few, so most arrive at once; and slots that are held by incomplete heads must not keep health probes out.
const HEAD_EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// How long a connection must have lingered after its last response before it may be closed in favour of a new one. Most
/// clients have read the response and closed by then.
const LINGERING_EVICTABLE_AFTER_NS: u64 = 100_000_000;

impl Server {
    /// Accepts from every listener that may have connections waiting.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.places() {
            for _ in 0..ACCEPTS_PER_ITERATION {
                if !self.accept_from(index) {
                    break;
                }
            }
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
        let has_room = self.has_room(routes, now_ns);
        let limit = self.connection_limit(routes);
        let Some(entry) = self.listeners.get_mut(index) else { return false };
        let counters = self.context.app.counters();
        if !has_room {
            if mem::replace(&mut entry.state, AcceptState::AtLimit) != AcceptState::AtLimit {
                counters.add(metrics::ACCEPT_PAUSES.with(PauseReason::Full), 1);
                let message = || {
                    format!(
                        "connection limit ({limit}) reached; new connections wait in the kernel"
                    )
                };
                self.full_throttle.warn(now_ns, message);
            }
            return false;
        }
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
                    counters.add(metrics::ACCEPT_PAUSES.with(PauseReason::Error), 1);
                    let place = entry.listener.local_addr();
                    let place =
                        place.map_or_else(|_| String::new(), |address| format!(" on {address}"));
                    self.error_throttle.warn(now_ns, || {
                        format!("cannot accept a connection{place}: {error}; retrying")
                    });
                }
                entry.state == AcceptState::Ready
            }
        }
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

    /// When there is room for one more connection that reaches `routes`, possibly in place of one that lingers, is idle or has an incomplete
    /// head. None if all are busy.
    pub(super) fn next_room_ns(&self, routes: RouteSet, now_ns: u64) -> Option<u64> {
        if !self.is_full(routes) {
            return Some(now_ns);
        }
        self.next_evictable(routes).map(|(_, evictable_ns)| evictable_ns.max(now_ns))
    }

    /// Whether there is room for one more connection. A connection that could be evicted for it first reads what its
    /// socket holds: it may have become busy since it was last read.
    fn has_room(&mut self, routes: RouteSet, now_ns: u64) -> bool {
        while self.is_full(routes) {
            match self.next_evictable(routes) {
                Some((key, evictable_ns)) if evictable_ns <= now_ns => {
                    if self.still_waits(key) {
                        break;
                    }
                }
                _ => return false,
            }
        }
        true
    }

    /// The connection that can be evicted first, and when.
    fn next_evictable(&self, routes: RouteSet) -> Option<(usize, u64)> {
        [
            (TimeoutKind::Linger, LINGERING_EVICTABLE_AFTER_NS),
            (TimeoutKind::Idle, EVICTABLE_AFTER_NS),
            (TimeoutKind::Head, HEAD_EVICTABLE_AFTER_NS),
        ]
        .into_iter()
        .filter_map(|(kind, after_ns)| {
            let (key, since_ns) = self.connections.oldest(kind, routes)?;
            Some((key, since_ns.saturating_add(after_ns)))
        })
        .min_by_key(|(_, evictable_ns)| *evictable_ns)
    }

    /// At the connection limit, closes the connection that could be evicted first. Call it once a new connection has been
    /// accepted, not before.
    fn evict(&mut self, routes: RouteSet) {
        if self.is_full(routes)
            && let Some((key, _)) = self.next_evictable(routes)
        {
            let evicted = metrics::CONNECTIONS_CLOSED.with(CloseReason::Evicted);
            self.context.app.counters().add(evicted, 1);
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
