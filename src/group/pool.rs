//! The listening sockets that the processes on a port hold, and which of them this process watches. Does no I/O.
//!
//! Listeners are never removed. Each process that holds a listener may accept from it, so a wrong view of ownership
//! costs balance and never a connection. An owner watches its own listeners. Every process watches a listener without
//! an owner. A few neighbours of an owner accept when the owner is busy, stopped or dead.

use std::collections::BTreeMap;

/// Maximum number of listeners held for other processes.
pub const LISTENERS_MAX: usize = 256;

/// Number of owners, next in the order of listeners, that watch a listener as well. All watchers are woken for a
/// connection that arrives while none of them sleeps, so the number is small.
const NEIGHBOURS: usize = 3;

/// Identity of a listener, the same in all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// Another process, identified by the link to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub usize);

/// The process that owns a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process.
    This,
    /// The process at the other end of that link.
    Other(LinkId),
    /// A process to which this one is not connected.
    Unknown,
    /// No process: the owner has shut down or exited. A process that starts may adopt it.
    Unowned,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: Owner,
    /// Its port. Only owners of listeners on the same port are neighbours.
    port: u16,
}

/// Whether this process accepts connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Serving,
    Leaving,
}

/// The listeners and their owners.
#[derive(Debug, Default)]
pub struct Pool {
    entries: BTreeMap<ListenerId, Entry>,
    mode: Mode,
    view: View,
}

/// Whether this process can distinguish the owners of listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum View {
    /// It is connected to them.
    #[default]
    Member,
    /// A worker knows the owners by its supervisor only.
    Worker,
}

impl Pool {
    /// Returns the empty pool of a worker.
    pub fn of_worker() -> Self {
        Self { view: View::Worker, ..Self::default() }
    }

    /// Whether this process is a worker, which knows the others by its supervisor only.
    pub const fn is_of_worker(&self) -> bool {
        matches!(self.view, View::Worker)
    }

    /// Whether this process owns a listener.
    pub fn is_own(&self, id: ListenerId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.owner == Owner::This)
    }

    /// Iterates over the listeners and their owners.
    pub fn owners(&self) -> impl Iterator<Item = (ListenerId, Owner)> {
        self.entries.iter().map(|(id, entry)| (*id, entry.owner))
    }

    /// Iterates over the listeners without an owner.
    pub fn ownerless(&self) -> impl Iterator<Item = ListenerId> {
        self.owners().filter(|(_, owner)| *owner == Owner::Unowned).map(|(id, _)| id)
    }

    /// Returns whether this listener is held, or may be added.
    pub fn has_place_for(&self, id: ListenerId) -> bool {
        self.entries.len() < LISTENERS_MAX || self.entries.contains_key(&id)
    }

    /// Records a listener of this process. The limit applies only to listeners of other processes.
    pub fn own(&mut self, id: ListenerId, port: u16) {
        self.entries.insert(id, Entry { owner: Owner::This, port });
    }

    /// Records that another process owns a listener. Has no effect on a listener of this process.
    pub fn own_by(&mut self, link: LinkId, id: ListenerId, port: u16) {
        if self.has_place_for(id) {
            let entry = self.entries.entry(id).or_insert(Entry { owner: Owner::Unowned, port });
            if entry.owner != Owner::This {
                entry.owner = Owner::Other(link);
            }
        }
    }

    /// Records that another process holds a listener and knows no owner of it.
    pub fn held_by(&mut self, link: LinkId, id: ListenerId, port: u16) {
        if self.has_place_for(id) {
            let entry = self.entries.entry(id).or_insert(Entry { owner: Owner::Unowned, port });
            // If a third process owns it, that process has sent it.
            if entry.owner == Owner::Other(link) || entry.owner == Owner::Unknown {
                entry.owner = Owner::Unowned;
            }
        }
    }

    /// Records a listener that a process owns to which this one may not be connected.
    pub fn owned_elsewhere(&mut self, id: ListenerId, port: u16) {
        if self.has_place_for(id) {
            self.entries.entry(id).or_insert(Entry { owner: Owner::Unknown, port });
        }
    }

    /// Records that this process is connected to all others. Returns the listeners that have no owner now: an owner
    /// would have sent them.
    pub fn mark_complete(&mut self) -> Vec<ListenerId> {
        self.disown(Owner::Unknown)
    }

    /// Records that a process has exited. Returns the listeners that have no owner now.
    pub fn disconnect(&mut self, link: LinkId) -> Vec<ListenerId> {
        self.disown(Owner::Other(link))
    }

    /// Records that a process is reached through another link from now on.
    pub fn transfer(&mut self, from: LinkId, to: LinkId) {
        for entry in self.entries.values_mut().filter(|entry| entry.owner == Owner::Other(from)) {
            entry.owner = Owner::Other(to);
        }
    }

    /// Records that this process shuts down. Returns the listeners that have no owner now.
    pub fn leave(&mut self) -> Vec<ListenerId> {
        self.mode = Mode::Leaving;
        self.disown(Owner::This)
    }

    fn disown(&mut self, owner: Owner) -> Vec<ListenerId> {
        let entries = self.entries.iter_mut().filter(|(_, entry)| entry.owner == owner);
        entries
            .map(|(id, entry)| {
                entry.owner = Owner::Unowned;
                *id
            })
            .collect()
    }

    /// Returns the listeners to watch. Those of this process are first: the kernel wakes the first watcher that sleeps.
    pub fn watched(&self) -> Vec<ListenerId> {
        if self.mode == Mode::Leaving {
            return Vec::new();
        }
        let own = self.entries.iter().filter(|(_, entry)| entry.owner == Owner::This);
        let others = self.entries.iter().filter(|(id, entry)| match entry.owner {
            Owner::This => false,
            Owner::Unowned | Owner::Unknown => true,
            Owner::Other(_) => self.is_neighbour(**id, entry),
        });
        own.chain(others).map(|(id, _)| *id).collect()
    }

    /// Returns whether this process owns one of the next listeners of other owners after `id`, in circular order, or
    /// owns none at all. So another process watches each listener, and not only other workers of the supervisor that
    /// owns it.
    fn is_neighbour(&self, id: ListenerId, entry: &Entry) -> bool {
        let owned = |(_, other): &(&ListenerId, &Entry)| {
            other.port == entry.port
                && matches!(other.owner, Owner::This | Owner::Other(_))
                && (self.is_of_worker() || other.owner != entry.owner)
        };
        let after = self.entries.range(id..).skip(1).filter(owned);
        let before = self.entries.range(..id).filter(owned);
        let is_own = |(_, entry): (&ListenerId, &Entry)| entry.owner == Owner::This;
        let has_own = self.entries.iter().filter(owned).any(is_own);
        !has_own || after.chain(before).take(NEIGHBOURS).any(is_own)
    }
}
