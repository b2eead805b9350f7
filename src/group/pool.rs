//! The listening sockets that the processes on a port hold, and which of them this process watches.
//!
//! Pure. Listeners are never forgotten. Every process that holds a listener may accept from it, so a wrong view of
//! ownership costs balance and never a connection. An owner watches its own listener, everyone watches a listener
//! without an owner, and a few neighbours of the owner accept when the owner is busy, stopped or dead.

use std::collections::BTreeMap;

/// Maximum number of listeners held for other processes.
pub const LISTENERS_MAX: usize = 256;

/// How many listeners further on the ring the neighbours that watch a listener are found. More of them would all be
/// woken for a connection that arrives while none of them sleeps.
const NEIGHBOURS: usize = 3;

/// A listener, by the number that all processes know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// Another process, by this process's link to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub usize);

/// The process that a listener belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process.
    This,
    /// The process at the other end of that link.
    Other(LinkId),
    /// None: its owner has shut down or exited. A process that starts may adopt it.
    Nobody,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: Owner,
    /// Its port: neighbours are those of the same port.
    port: u16,
}

/// What this process intends to do.
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
}

impl Pool {
    /// Each listener with its owner.
    pub fn owners(&self) -> impl Iterator<Item = (ListenerId, Owner)> {
        self.entries.iter().map(|(id, entry)| (*id, entry.owner))
    }

    /// The listeners without an owner.
    pub fn ownerless(&self) -> impl Iterator<Item = ListenerId> {
        self.owners().filter(|(_, owner)| *owner == Owner::Nobody).map(|(id, _)| id)
    }

    /// Whether this listener is held, or could be.
    pub fn has_place_for(&self, id: ListenerId) -> bool {
        self.entries.len() < LISTENERS_MAX || self.entries.contains_key(&id)
    }

    /// Records a listener of this process, without a limit: the limit is for what others send.
    pub fn own(&mut self, id: ListenerId, port: u16) {
        self.entries.insert(id, Entry { owner: Owner::This, port });
    }

    /// Records that a process owns a listener. One of this process stays its own.
    pub fn own_by(&mut self, link: LinkId, id: ListenerId, port: u16) {
        if self.has_place_for(id) {
            let entry = self.entries.entry(id).or_insert(Entry { owner: Owner::Nobody, port });
            if entry.owner != Owner::This {
                entry.owner = Owner::Other(link);
            }
        }
    }

    /// Records that a process holds a listener and knows no owner of it.
    pub fn held_by(&mut self, link: LinkId, id: ListenerId, port: u16) {
        if self.has_place_for(id) {
            let entry = self.entries.entry(id).or_insert(Entry { owner: Owner::Nobody, port });
            // If it is another's, the owner itself has sent it.
            if entry.owner == Owner::Other(link) {
                entry.owner = Owner::Nobody;
            }
        }
    }

    /// Records that a process is gone; returns the listeners that have no owner now.
    pub fn disconnect(&mut self, link: LinkId) -> Vec<ListenerId> {
        self.disown(Owner::Other(link))
    }

    /// Records that a process is at the end of another link from now on.
    pub fn transfer(&mut self, from: LinkId, to: LinkId) {
        for entry in self.entries.values_mut().filter(|entry| entry.owner == Owner::Other(from)) {
            entry.owner = Owner::Other(to);
        }
    }

    /// Records that this process is shutting down; returns the listeners that have no owner now.
    pub fn leave(&mut self) -> Vec<ListenerId> {
        self.mode = Mode::Leaving;
        self.disown(Owner::This)
    }

    fn disown(&mut self, owner: Owner) -> Vec<ListenerId> {
        let entries = self.entries.iter_mut().filter(|(_, entry)| entry.owner == owner);
        entries
            .map(|(id, entry)| {
                entry.owner = Owner::Nobody;
                *id
            })
            .collect()
    }

    /// The listeners to watch, this process's own first: the kernel wakes the first waiter that sleeps.
    pub fn watched(&self) -> Vec<ListenerId> {
        if self.mode == Mode::Leaving {
            return Vec::new();
        }
        let own = self.entries.iter().filter(|(_, entry)| entry.owner == Owner::This);
        let others = self.entries.iter().filter(|(id, entry)| match entry.owner {
            Owner::This => false,
            Owner::Nobody => true,
            Owner::Other(_) => self.is_neighbour(**id, entry.port),
        });
        own.chain(others).map(|(id, _)| *id).collect()
    }

    /// Whether this process owns one of the next listeners after `id`, in the order of their numbers and around the
    /// end; or none at all.
    fn is_neighbour(&self, id: ListenerId, port: u16) -> bool {
        let owned =
            |(_, entry): &(&ListenerId, &Entry)| entry.port == port && entry.owner != Owner::Nobody;
        let after = self.entries.range(id..).skip(1).filter(owned);
        let before = self.entries.range(..id).filter(owned);
        let is_own = |(_, entry): (&ListenerId, &Entry)| entry.owner == Owner::This;
        let has_own = self.entries.iter().filter(owned).any(is_own);
        !has_own || after.chain(before).take(NEIGHBOURS).any(is_own)
    }
}
