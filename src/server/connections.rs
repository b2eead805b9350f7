//! The connections of a worker: where they are kept, and when their time is up.
//!
//! A connection's key is its place here and its token in the poll. Memory grows with the connections there
//! are and is given back when they leave.

use slab::Slab;

use crate::{
    http::conn::Waiting,
    server::{
        connection::Connection,
        timers::{CLASSES, Class, Timers},
    },
};

/// Below so many places nothing is given back: it would only be taken again.
const PLACES_MIN: usize = 256;

/// Which peer: keys are used again, this is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// Its key.
    pub key: usize,
    /// How many peers there were before it, modulo 2^32.
    pub generation: u32,
}

/// The peers by key, and their deadlines.
#[derive(Debug)]
pub struct Connections {
    slab: Slab<Connection>,
    timers: Timers,
    /// Connections taken in so far, modulo 2^32.
    generation: u32,
    /// With so few peers left the places are to be shrunk.
    shrink_at: usize,
}

impl Connections {
    /// No peers yet, and these time limits in nanoseconds, in the order of [`Class::ALL`].
    pub fn new(time_limits_ns: [u64; CLASSES]) -> Self {
        Self { slab: Slab::new(), timers: Timers::new(time_limits_ns), generation: 0, shrink_at: 0 }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Takes a peer in; returns its key.
    pub fn insert(&mut self, mut connection: Connection) -> usize {
        self.generation = self.generation.wrapping_add(1);
        connection.set_generation(self.generation);
        let key = self.slab.insert(connection);
        self.shrink_at = self.slab.capacity() / 4;
        key
    }

    /// The keys of all connections. Cold: it makes a list, so that peers may come and go meanwhile.
    pub fn keys(&self) -> Vec<usize> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    /// The peer with this key, if it is still there.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut Connection> {
        self.slab.get_mut(key)
    }

    /// What tells the peer with this key from all others.
    pub fn id_of(&self, key: usize) -> Option<ConnectionId> {
        self.slab
            .get(key)
            .map(|connection| ConnectionId { key, generation: connection.generation() })
    }

    /// That very peer, if it is still there.
    pub fn get_same_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.key).filter(|connection| connection.generation() == id.generation)
    }

    /// Lets a peer go, and its deadline with it.
    pub fn remove(&mut self, key: usize) -> Option<Connection> {
        self.timers.cancel(key);
        let connection = self.slab.try_remove(key)?;
        if self.slab.len() < self.shrink_at {
            self.shrink();
        }
        Some(connection)
    }

    /// Sets the deadline of a peer according to what it waits for, unless it waits for the same as before:
    /// a time limit is for the whole of a head, a body or an idle time, however often bytes come.
    pub fn set_deadline(&mut self, key: usize, now_ns: u64) {
        let Some(connection) = self.slab.get_mut(key) else { return };
        let Some(waiting) = connection.take_wait_change() else { return };
        match class_of(waiting) {
            Some(class) => self.timers.set(key, class, now_ns),
            None => self.timers.cancel(key),
        }
    }

    /// The earliest deadline of all.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timers.next_deadline_ns()
    }

    /// A peer whose deadline has come. It has none any more.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<usize> {
        self.timers.pop_expired(now_ns)
    }

    /// The kept connection that has been idle for longest, and since when.
    pub fn oldest_idle(&self) -> Option<(usize, u64)> {
        self.timers.oldest(Class::Idle)
    }

    /// Gives back the places behind the last one in use. Halving the mark makes the total cost of all
    /// attempts, also of those that a peer in a high place thwarts, linear in the number of peers gone.
    #[cold]
    fn shrink(&mut self) {
        if self.slab.capacity() > PLACES_MIN {
            self.slab.shrink_to_fit();
            self.timers.shrink_to(self.slab.capacity());
        }
        self.shrink_at = self.slab.len() / 2;
    }
}

/// The class of deadline for a wait, if it has one: for an answer, it is the peer that waits for us.
const fn class_of(waiting: Waiting) -> Option<Class> {
    match waiting {
        Waiting::Head => Some(Class::Head),
        Waiting::Body => Some(Class::Body),
        Waiting::Idle => Some(Class::Idle),
        Waiting::Write => Some(Class::Write),
        Waiting::Linger => Some(Class::Linger),
        Waiting::Answer => None,
    }
}
