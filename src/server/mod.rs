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
mod shutdown;
pub mod timers;

use std::{io, net::SocketAddr, time::Duration};

use log::error;
use mio::{Events, Interest, Poll, Token, Waker, event::Event, net::TcpStream};

use crate::{
    group::Group,
    logging::throttle::Complaints,
    notify::Overseer,
    server::{
        compute::Compute,
        connection::{Peer, Service, Turn},
        connections::{PeerId, Peers},
        drain::Drain,
        listeners::{Doors, FIRST_DOOR, Queue, queue_after},
    },
    sys::{
        rlimit::Room,
        signals::{Request, Signals},
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
    doors: Doors,
    peers: Peers,
    service: Service,
    compute: Compute,
    /// Peers that have used their share of the turn and may have more to do.
    again: Vec<usize>,
    room: Room,
    complaints: Complaints,
    drain: Drain,
    overseer: Overseer,
}

impl Server {
    /// A worker that accepts from the listeners of `groups` and serves with `service`.
    pub fn new(
        groups: Vec<Group>,
        peers: Peers,
        service: Service,
        room: Room,
        drain: Drain,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        // First of all: a process that is told to stop while it starts must not miss it.
        let signals = Signals::install(poll.registry(), SIGNALS)?;
        let compute = Compute::new(Waker::new(poll.registry(), COMPUTED)?);
        let doors = Doors::new(poll.registry(), groups)?;
        Ok(Self {
            poll,
            signals,
            doors,
            peers,
            service,
            compute,
            again: Vec::new(),
            room,
            complaints: Complaints::default(),
            drain,
            overseer: Overseer::default(),
        })
    }

    /// Has this one told how the worker fares: that it serves, to begin with.
    pub fn report_to(&mut self, overseer: Overseer, status: &str) {
        self.overseer = overseer;
        self.overseer.serves(status);
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
            self.service.tick();
            self.overseer.beat(self.service.clock.now_ns());
            let again = std::mem::take(&mut self.again);
            for event in &events {
                match event.token() {
                    SIGNALS => {
                        for request in self.signals.pending().collect::<Vec<_>>() {
                            match request {
                                Request::Stop => self.told_to_leave(),
                                Request::Reopen => self.service.reopen_access_log(),
                            }
                        }
                    }
                    COMPUTED => self.hand_out_computed(),
                    token if token >= FIRST_DOOR => self.doors.ready(token),
                    Token(key) => self.wake(key, event),
                }
            }
            for key in again {
                self.give_turn(key);
            }
            self.expire();
            if self.drain.is_draining() {
                self.accept_the_last();
            } else {
                self.accept();
            }
            let has_left = self.leave();
            self.service.rest();
            if has_left {
                self.service.close_access_log();
                return Ok(());
            }
        }
    }

    /// Counts that this worker is here because the one before it has died.
    pub fn count_restart(&self) {
        self.service.app.counters().worker_restarts.add(1);
    }

    /// How long there is nothing to do unless an event comes.
    fn time_to_wait(&self) -> Option<Duration> {
        let now_ns = self.service.clock.now_ns();
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let room_ns = self.next_room_ns(now_ns);
        let doors = self.doors.iter().filter_map(|door| match door.queue {
            Queue::Empty | Queue::Left => None,
            Queue::Waiting | Queue::Shut => room_ns,
            Queue::Resting { until_ns } => room_ns.map(|room_ns| room_ns.max(until_ns)),
        });
        let deadlines = [
            self.peers.next_deadline_ns(),
            self.drain.next_deadline_ns(),
            self.overseer.next_beat_ns(),
        ];
        let deadline_ns = doors.chain(deadlines.into_iter().flatten()).min()?;
        Some(Duration::from_nanos(deadline_ns.saturating_sub(now_ns)))
    }

    fn wake(&mut self, key: usize, event: &Event) {
        // Nobody there: the peer went earlier in this turn.
        let Some(peer) = self.peers.get_mut(key) else { return };
        if event.is_error() {
            // Reset: whatever it waits for, nobody is left to be told.
            return self.dismiss(key);
        }
        if event.is_read_closed() {
            peer.stream_is_ending();
        } else if !event.is_readable() && !peer.is_writing() {
            return; // The first event of a connection that has sent nothing yet: it could be written to.
        }
        self.give_turn(key);
    }

    fn give_turn(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let turn = peer.turn(&mut self.service);
        let wanted = peer.take_wanted();
        self.go_on(key, turn, wanted);
    }

    /// Does what a peer's turn has come to.
    fn go_on(&mut self, key: usize, turn: Turn, wanted: Option<u64>) {
        if let Some(n) = wanted {
            self.ask(key, n);
        }
        match turn {
            Turn::Blocked => self.peers.set_deadline(key, self.service.clock.now_ns()),
            Turn::Yielded => {
                self.peers.set_deadline(key, self.service.clock.now_ns());
                self.service.app.counters().turns_yielded.add(1);
                self.again.push(key);
            }
            Turn::Over => self.dismiss(key),
        }
    }

    fn dismiss(&mut self, key: usize) {
        let id = self.peers.id_of(key);
        // Closing the socket takes it out of the poll.
        let Some(peer) = self.peers.remove(key) else { return };
        self.service.app.counters().connections.sub(1);
        if let (Some(n), Some(id)) = (peer.awaited(), id)
            && self.compute.forget(n, id)
        {
            self.service.app.abandon(n);
        }
    }

    /// Has F(n) computed for a peer.
    #[cold]
    fn ask(&mut self, key: usize, n: u64) {
        let Some(id) = self.peers.id_of(key) else { return };
        if let Err(error) = self.compute.ask(n, id, self.service.clock.now_ns()) {
            error!("cannot compute: {error}");
            self.service.app.counters().computations.refused_thread.add(1);
            self.service.app.abandon(n);
            if self.settle(id) {
                self.again.push(key);
            }
        }
    }

    /// Gives what has been computed to those who have waited for it.
    #[cold]
    fn hand_out_computed(&mut self) {
        for done in self.compute.collect() {
            if let Some(mismatch) = &done.computed.fallback {
                error!("F({}) was wrong at first, {mismatch:?}: computed again", done.n);
            }
            self.service.app.finish(done.n, &done.computed, done.duration_ns);
            // At once, while the number is held here: before the next turn it might be dropped again.
            for id in &done.peers {
                if self.settle(*id) {
                    self.give_turn(id.key);
                }
            }
        }
    }

    /// Lets a peer that has waited for a number go on in its next turn; says whether it is still there.
    fn settle(&mut self, id: PeerId) -> bool {
        self.peers.get_same_mut(id).map(Peer::settle).is_some()
    }

    /// Lets those peers know whose time is up.
    fn expire(&mut self) {
        while let Some(key) = self.peers.pop_expired(self.service.clock.now_ns()) {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.expire(&self.service.app);
                self.give_turn(key);
            }
        }
    }

    fn connections_max(&self) -> usize {
        self.room.connections(self.doors.descriptors())
    }

    fn is_full(&self) -> bool {
        self.peers.len() >= self.connections_max()
    }

    /// When one more connection can be taken, at worst in the place of an idle one; never, as far as we
    /// know, if none is idle.
    fn next_room_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.is_full() {
            return Some(now_ns);
        }
        let (_, idle_since_ns) = self.peers.oldest_idle()?;
        Some(idle_since_ns.saturating_add(EVICTABLE_AFTER_NS).max(now_ns))
    }

    /// When all places are taken, closes the kept connection that has been idle for longest. To be called
    /// when somebody has come, and not before: a guess would close connections for nobody.
    fn make_room(&mut self) {
        if self.is_full()
            && let Some((key, _)) = self.peers.oldest_idle()
        {
            self.service.app.counters().closings.evicted.add(1);
            self.dismiss(key);
        }
    }

    /// Accepts from every listening socket where somebody may be waiting.
    fn accept(&mut self) {
        for index in 0..self.doors.places() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_from(index) {
                    break;
                }
            }
        }
    }

    /// Accepts once, if that may succeed; says whether it may be tried again.
    fn accept_from(&mut self, index: usize) -> bool {
        let now_ns = self.service.clock.now_ns();
        if !self.doors.get_mut(index).is_some_and(|door| door.queue.is_worth_a_try(now_ns)) {
            return false;
        }
        let has_room = self.next_room_ns(now_ns) == Some(now_ns);
        let most = self.connections_max();
        let Some(door) = self.doors.get_mut(index) else { return false };
        let pauses = &self.service.app.counters().accept_pauses;
        if !has_room {
            if std::mem::replace(&mut door.queue, Queue::Shut) != Queue::Shut {
                pauses.full.add(1);
                self.complaints.tell(now_ns, || format!("{most} connections: others wait"));
            }
            return false;
        }
        match door.listener.accept() {
            Ok((socket, address)) => {
                door.queue = Queue::Waiting;
                self.make_room();
                self.admit(socket, address);
                true
            }
            Err(error) => {
                door.queue = queue_after(&error, now_ns);
                if matches!(door.queue, Queue::Resting { .. }) {
                    pauses.error.add(1);
                    self.complaints.tell(now_ns, || format!("cannot accept: {error}"));
                }
                door.queue == Queue::Waiting
            }
        }
    }

    /// Gives a new peer its first turn, and keeps it if that was not the last. Most requests come right
    /// behind the handshake, and a peer that wants a single answer need never be registered.
    fn admit(&mut self, socket: TcpStream, address: SocketAddr) {
        let counters = self.service.app.counters();
        counters.connections_accepted.add(1);
        counters.connections.add(1);
        let mut peer = Peer::new(socket, self.service.address(address));
        if self.drain.is_draining() {
            peer.make_next_answer_the_last();
        }
        let turn = peer.turn(&mut self.service);
        let wanted = peer.take_wanted();
        if turn == Turn::Over && wanted.is_none() {
            self.service.app.counters().connections.sub(1);
            return;
        }
        let key = self.peers.insert(peer);
        self.go_on(key, turn, wanted);
        if let Err(error) = self.register(key) {
            error!("cannot watch a connection: {error}");
            self.dismiss(key);
        }
    }

    /// Once for all: both directions, told when they change.
    fn register(&mut self, key: usize) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(peer.socket_mut(), Token(key), interest)
    }
}
