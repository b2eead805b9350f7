//! The connections of a worker by key, and their deadlines.
//!
//! The key of a connection is its index here and its token in the poll. Memory grows with the number of connections
//! and is released when they are removed.

use slab::Slab;

use crate::{
    app::{ConnectionId, RouteSet},
    http::conn::TimeoutKind,
    server::{connection::Connection, delivery::PERIODS_PER_TIMEOUT, timers::Timers},
};

/// Maximum number of connections of the admin addresses. They do not count against the connection limit, so probes
/// succeed when the other addresses are full.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;

/// With fewer slots than this none are released: they would soon be needed again.
const SLOTS_MIN: usize = 256;

/// The connections by key, and their deadlines.
#[derive(Debug)]
pub struct Connections {
    slab: Slab<Connection>,
    /// The keys of those of the admin addresses.
    admin: Vec<usize>,
    timers: Timers,
    /// Identifiers given out so far, modulo 2^32.
    generation: u32,
    /// Slots are released when no more connections than this are left.
    shrink_at: usize,
}

impl Connections {
    /// Returns an empty collection with these time limits in nanoseconds, in the order of [`TimeoutKind::ALL`].
    pub fn new(mut time_limits_ns: [u64; TimeoutKind::COUNT]) -> Self {
        if let Some(limit_ns) = time_limits_ns.get_mut(TimeoutKind::Write as usize) {
            *limit_ns /= PERIODS_PER_TIMEOUT;
        }
        Self {
            slab: Slab::new(),
            admin: Vec::new(),
            timers: Timers::new(time_limits_ns),
            generation: 0,
            shrink_at: 0,
        }
    }

    /// Number of connections.
    pub fn count(&self) -> usize {
        self.slab.len()
    }

    /// Number of connections that share the slots of those that reach `routes`.
    pub fn sharing_slots(&self, routes: RouteSet) -> usize {
        match routes {
            RouteSet::Admin => self.admin.len(),
            RouteSet::All | RouteSet::Public => self.slab.len() - self.admin.len(),
        }
    }

    /// Returns a new identifier, for the next connection that is inserted.
    pub fn next_id(&mut self) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1);
        ConnectionId { key: self.slab.vacant_key(), generation: self.generation }
    }

    /// Inserts a connection that was made with [`Self::next_id`]. Returns its key.
    pub fn insert(&mut self, connection: Connection) -> usize {
        let id = connection.id();
        let routes = connection.session().routes();
        let key = self.slab.insert(connection);
        if routes == RouteSet::Admin {
            self.admin.push(key);
        }
        debug_assert_eq!(id.key, key, "another connection was inserted meanwhile");
        self.shrink_at = self.slab.capacity() / 4;
        key
    }

    /// The keys of all connections. Cold: it makes a list, so that connections can be removed meanwhile.
    pub fn keys(&self) -> Vec<usize> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    /// The connection with this key, if it still exists.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut Connection> {
        self.slab.get_mut(key)
    }

    /// The connection with this identifier, if it still exists.
    pub fn get_by_id_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.key).filter(|connection| connection.id() == id)
    }

    /// Removes a connection and its deadline.
    pub fn remove(&mut self, key: usize) -> Option<Connection> {
        self.timers.cancel(key);
        let connection = self.slab.try_remove(key)?;
        if connection.session().routes() == RouteSet::Admin {
            self.admin.retain(|admin| *admin != key);
        }
        if self.slab.len() < self.shrink_at {
            self.shrink();
        }
        Some(connection)
    }

    /// Sets the deadline for what a connection waits for, unless that is the same wait as before.
    pub fn set_deadline(&mut self, key: usize, now_ns: u64) {
        let Some(connection) = self.slab.get_mut(key) else { return };
        let Some(wait) = connection.take_wait_change() else { return };
        match wait.timeout {
            Some(kind) => self.timers.set(key, kind, now_ns),
            None => self.timers.cancel(key),
        }
    }

    /// When the next iteration must begin at the latest, for the sake of deadlines.
    pub fn next_wake_up_ns(&self, now_ns: u64) -> Option<u64> {
        self.timers.next_wake_up_ns(now_ns)
    }

    /// Postpones all deadlines if an iteration has begun late, as in [`Timers::resume`].
    pub fn resume(&mut self, previous_ns: u64, due_ns: u64, now_ns: u64) {
        self.timers.resume(previous_ns, due_ns, now_ns);
    }

    /// The time limit of this kind. That of a write is a period of its timeout.
    pub fn limit_ns(&self, kind: TimeoutKind) -> u64 {
        self.timers.limit_ns(kind)
    }

    /// Removes a deadline that has passed. Returns the key of its connection.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<usize> {
        self.timers.pop_expired(now_ns)
    }

    /// Whether this is the key of a connection of an admin address.
    pub fn is_admin(&self, key: usize) -> bool {
        self.admin.contains(&key)
    }

    /// Whether a connection of an admin address has been waiting for a request, or for its client to receive the
    /// response, only since `since_ns` or later.
    pub fn is_admin_active(&self, since_ns: u64) -> bool {
        self.admin.iter().any(|key| {
            let waits = self.timers.since(*key);
            waits.is_some_and(|(kind, from_ns)| {
                matches!(kind, TimeoutKind::Head | TimeoutKind::Body | TimeoutKind::Write)
                    && from_ns >= since_ns
            })
        })
    }

    /// The connection of an admin address whose client has accepted nothing of a response for longest, and since when.
    pub fn longest_stalled_admin(&self) -> Option<(usize, u64)> {
        let stalled = self.admin.iter().filter_map(|key| {
            let connection = self.slab.get(*key)?;
            Some((*key, connection.stalled_since_ns()?))
        });
        stalled.min_by_key(|(_, since_ns)| *since_ns)
    }

    /// The connection that has waited longest for an event of this kind, and since when, of those that share the slots
    /// with connections that reach `routes`.
    pub fn oldest(&self, kind: TimeoutKind, routes: RouteSet) -> Option<(usize, u64)> {
        match routes {
            RouteSet::Admin => {
                let waiting = self.admin.iter().filter_map(|key| {
                    let (found, since_ns) = self.timers.since(*key)?;
                    (found == kind).then_some((*key, since_ns))
                });
                waiting.min_by_key(|(_, since_ns)| *since_ns)
            }
            // It passes over few.
            RouteSet::All | RouteSet::Public => {
                self.timers.waiting(kind).find(|(key, _)| !self.admin.contains(key))
            }
        }
    }

    /// Releases the slots after the last one in use. Halving the mark makes the total cost of all attempts linear
    /// in the number of connections removed, even if a connection in a high slot makes them futile.
    #[cold]
    fn shrink(&mut self) {
        if self.slab.capacity() > SLOTS_MIN {
            self.slab.shrink_to_fit();
            self.timers.shrink_to(self.slab.capacity());
        }
        self.shrink_at = self.slab.len() / 2;
    }
}
