//! The event loop of a worker: accepts, and gives each peer that is ready a turn.
//!
//! It parses and renders nothing. No error of one peer ends it or reaches another; it returns when it has
//! been told to stop, or when the poll itself fails.

pub mod compute;
pub mod connection;
pub mod connections;
pub mod drain;
pub mod listeners;
pub mod process_stats;
mod sharing;
mod shutdown;
pub mod timers;

use std::{io, net::SocketAddr, time::Duration};

use log::error;
use mio::{Events, Interest, Poll, Token, Waker, event::Event, net::TcpStream};

use crate::{
    group::Group,
    logging::throttle::LogThrottle,
    metrics::{self, CloseReason, PauseReason, RejectReason},
    notify::StatusReporter,
    server::{
        compute::Compute,
        connection::{Connection, Outcome, WorkerContext},
        connections::{ConnectionId, Connections},
        drain::Drain,
        listeners::{AcceptState, FIRST_LISTENER, Listeners, state_after_error},
    },
    sys::{
        rlimit::FdBudget,
        signals::{OnHangup, Request, Signals},
    },
};

/// Readiness events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Connections accepted before the other peers have a turn.
const ACCEPTS_PER_TURN: u32 = 64;
/// How long a kept connection must have been idle before it may be closed in favour of a new one. The busy
/// are idle as well, for moments.
const EVICTABLE_AFTER_NS: u64 = 1_000_000_000;

/// Tokens of what is neither a peer, whose tokens are their keys from zero up, nor a door.
const SIGNALS: Token = Token(usize::MAX - 1);
const COMPUTED: Token = Token(usize::MAX - 2);

/// A worker.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    connections: Connections,
    context: WorkerContext,
    compute: Compute,
    /// Connections that have used their share of the turn and may have more to do.
    again: Vec<usize>,
    fd_budget: FdBudget,
    throttle: LogThrottle,
    drain: Drain,
    reporter: StatusReporter,
}

impl Server {
    /// A worker that accepts from the listeners of `group`.
    pub fn new(
        group: Group,
        connections: Connections,
        context: WorkerContext,
        fd_budget: FdBudget,
        drain: Drain,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let signals = Signals::register(poll.registry(), SIGNALS)?;
        let compute = Compute::new(Waker::new(poll.registry(), COMPUTED)?);
        let listeners = Listeners::new(poll.registry(), group)?;
        Ok(Self {
            poll,
            signals,
            listeners,
            connections,
            context,
            compute,
            again: Vec::new(),
            fd_budget,
            throttle: LogThrottle::default(),
            drain,
            reporter: StatusReporter::default(),
        })
    }

    /// Has this one told how the worker fares: that it serves, to begin with.
    pub fn report_to(&mut self, reporter: StatusReporter, status: &str) {
        self.reporter = reporter;
        self.reporter.ready(status);
    }

    /// Serves until told to stop, and then until that is done in order.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.time_to_wait())
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            self.context.tick();
            self.reporter.heartbeat(self.context.clock.now_ns());
            let again = std::mem::take(&mut self.again);
            for event in &events {
                match event.token() {
                    SIGNALS => {
                        for request in self.signals.pending()? {
                            match request {
                                Request::Stop(signal) => self.begin_shutdown(signal),
                                Request::Reopen => self.context.reopen_access_log(),
                            }
                        }
                    }
                    COMPUTED => self.deliver_completed(),
                    token if token >= FIRST_LISTENER => self.listeners.ready(token),
                    Token(key) => self.wake(key, event),
                }
            }
            for key in again {
                self.drive(key);
            }
            self.expire();
            if self.drain.is_draining() {
                self.drain_backlog();
            } else {
                self.accept();
            }
            self.update_listeners();
            let has_left = self.advance_shutdown();
            self.context.end_turn();
            if has_left {
                self.context.close_access_log();
                return Ok(());
            }
        }
    }

    /// Sets what SIGHUP means from now on. A worker ignores it.
    pub const fn set_on_hangup(&mut self, on_hangup: OnHangup) {
        self.signals.set_on_hangup(on_hangup);
    }

    /// Counts that this worker is here because the one before it has died.
    pub fn count_restart(&self) {
        self.context.app.counters().add(metrics::WORKER_RESTARTS, 1);
    }

    /// How long there is nothing to do unless an event comes.
    fn time_to_wait(&self) -> Option<Duration> {
        let now_ns = self.context.clock.now_ns();
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let room_ns = self.next_room_ns(now_ns);
        let listeners = self.listeners.iter().filter_map(|entry| match entry.state {
            AcceptState::Idle | AcceptState::Stopped => None,
            AcceptState::Ready | AcceptState::AtLimit => room_ns,
            AcceptState::Backoff { until_ns } => room_ns.map(|room_ns| room_ns.max(until_ns)),
        });
        let deadlines = [
            self.connections.next_deadline_ns(),
            self.drain.next_deadline_ns(),
            self.reporter.next_beat_ns(),
            self.listeners.next_check_ns(),
            if self.listeners.is_paused() { room_ns } else { None },
        ];
        let deadline_ns = listeners.chain(deadlines.into_iter().flatten()).min()?;
        Some(Duration::from_nanos(deadline_ns.saturating_sub(now_ns)))
    }

    fn wake(&mut self, key: usize, event: &Event) {
        // Nobody there: the peer went earlier in this turn.
        let Some(connection) = self.connections.get_mut(key) else { return };
        if event.is_error() {
            // Reset: whatever it waits for, nobody is left to be told.
            return self.remove_connection(key);
        }
        if event.is_read_closed() {
            connection.mark_read_closed();
        } else if !event.is_readable() && !connection.is_writing() {
            return; // The first event of a connection that has sent nothing yet: it could be written to.
        }
        self.drive(key);
    }

    fn drive(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let turn = connection.turn(&mut self.context);
        let wanted = connection.take_wanted();
        self.apply_outcome(key, turn, wanted);
    }

    /// Does what a peer's turn has come to.
    fn apply_outcome(&mut self, key: usize, turn: Outcome, wanted: Option<u64>) {
        if let Some(n) = wanted {
            self.ask(key, n);
        }
        match turn {
            Outcome::WouldBlock => self.connections.set_deadline(key, self.context.clock.now_ns()),
            Outcome::Yield => {
                self.connections.set_deadline(key, self.context.clock.now_ns());
                self.context.app.counters().add(metrics::CONNECTION_YIELDS, 1);
                self.again.push(key);
            }
            Outcome::Closed => self.remove_connection(key),
        }
    }

    fn remove_connection(&mut self, key: usize) {
        let id = self.connections.id_of(key);
        // Closing the socket takes it out of the poll.
        let Some(connection) = self.connections.remove(key) else { return };
        self.context.app.counters().decrement(metrics::CONNECTIONS);
        if let (Some(n), Some(id)) = (connection.awaited(), id)
            && self.compute.cancel(n, id)
        {
            self.context.app.abandon(n);
        }
    }

    /// Has F(n) computed for a peer.
    #[cold]
    fn ask(&mut self, key: usize, n: u64) {
        let Some(id) = self.connections.id_of(key) else { return };
        if let Err(error) = self.compute.submit(n, id, self.context.clock.now_ns()) {
            error!("cannot start the compute thread: {error}");
            let rejected = metrics::COMPUTATIONS_REJECTED.with(RejectReason::Thread);
            self.context.app.counters().add(rejected, 1);
            self.context.app.abandon(n);
            if self.settle(id) {
                self.again.push(key);
            }
        }
    }

    /// Gives what has been computed to those who have waited for it.
    #[cold]
    fn deliver_completed(&mut self) {
        for completed in self.compute.take_completed() {
            if let Some(mismatch) = &completed.computed.fallback {
                error!(
                    "F({}) failed verification ({mismatch:?}); recomputed with ibig",
                    completed.n
                );
            }
            self.context.app.finish(completed.n, &completed.computed, completed.duration_ns);
            // At once, while the number is held here: before the next turn it might be dropped again.
            for id in &completed.waiters {
                if self.settle(*id) {
                    self.drive(id.key);
                }
            }
        }
    }

    /// Lets a peer that has waited for a number go on in its next turn; says whether it is still there.
    fn settle(&mut self, id: ConnectionId) -> bool {
        self.connections.get_same_mut(id).map(Connection::settle).is_some()
    }

    /// Lets those peers know whose time is up.
    fn expire(&mut self) {
        while let Some(key) = self.connections.pop_expired(self.context.clock.now_ns()) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.expire(&self.context.app);
                self.drive(key);
            }
        }
    }

    fn connections_max(&self) -> usize {
        self.fd_budget.connections(self.listeners.descriptors())
    }

    fn is_full(&self) -> bool {
        self.connections.len() >= self.connections_max()
    }

    /// When one more connection can be taken, at worst in the place of an idle one; never, as far as we
    /// know, if none is idle.
    fn next_room_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.is_full() {
            return Some(now_ns);
        }
        let (_, idle_since_ns) = self.connections.oldest_idle()?;
        Some(idle_since_ns.saturating_add(EVICTABLE_AFTER_NS).max(now_ns))
    }

    /// When all places are taken, closes the kept connection that has been idle for longest. To be called
    /// when somebody has come, and not before: a guess would close connections for nobody.
    fn evict_idle(&mut self) {
        if self.is_full()
            && let Some((key, _)) = self.connections.oldest_idle()
        {
            let evicted = metrics::CONNECTIONS_CLOSED.with(CloseReason::Evicted);
            self.context.app.counters().add(evicted, 1);
            self.remove_connection(key);
        }
    }

    /// Accepts from every listening socket where somebody may be waiting.
    fn accept(&mut self) {
        for index in 0..self.listeners.places() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_from(index) {
                    break;
                }
            }
        }
    }

    /// Accepts once, if that may succeed; says whether it may be tried again.
    fn accept_from(&mut self, index: usize) -> bool {
        let now_ns = self.context.clock.now_ns();
        if !self.listeners.get_mut(index).is_some_and(|entry| entry.state.should_accept(now_ns)) {
            return false;
        }
        let has_room = self.next_room_ns(now_ns) == Some(now_ns);
        let most = self.connections_max();
        let Some(entry) = self.listeners.get_mut(index) else { return false };
        let counters = self.context.app.counters();
        if !has_room {
            if std::mem::replace(&mut entry.state, AcceptState::AtLimit) != AcceptState::AtLimit {
                counters.add(metrics::ACCEPT_PAUSES.with(PauseReason::Full), 1);
                self.throttle.warn(now_ns, || {
                    format!("connection limit ({most}) reached; new connections wait in the kernel")
                });
            }
            return false;
        }
        match entry.listener.accept() {
            Ok((socket, address)) => {
                entry.state = AcceptState::Ready;
                self.evict_idle();
                self.admit(socket, address);
                true
            }
            Err(error) => {
                entry.state = state_after_error(&error, now_ns);
                if matches!(entry.state, AcceptState::Backoff { .. }) {
                    counters.add(metrics::ACCEPT_PAUSES.with(PauseReason::Error), 1);
                    self.throttle
                        .warn(now_ns, || format!("cannot accept a connection: {error}; retrying"));
                }
                entry.state == AcceptState::Ready
            }
        }
    }

    /// Gives a new peer its first turn, and keeps it if that was not the last. Most requests come right
    /// behind the handshake, and a peer that wants a single answer need never be registered.
    fn admit(&mut self, socket: TcpStream, address: SocketAddr) {
        let counters = self.context.app.counters();
        counters.add(metrics::CONNECTIONS_ACCEPTED, 1);
        counters.increment(metrics::CONNECTIONS);
        let mut connection = Connection::new(socket, self.context.address(address));
        if self.drain.is_draining() {
            connection.disable_keep_alive();
        }
        let turn = connection.turn(&mut self.context);
        let wanted = connection.take_wanted();
        if turn == Outcome::Closed && wanted.is_none() {
            self.context.app.counters().decrement(metrics::CONNECTIONS);
            return;
        }
        let key = self.connections.insert(connection);
        self.apply_outcome(key, turn, wanted);
        if let Err(error) = self.register(key) {
            error!("cannot register a connection: {error}");
            self.remove_connection(key);
        }
    }

    /// Once for all: both directions, told when they change.
    fn register(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(connection.socket_mut(), Token(key), interest)
    }
}
