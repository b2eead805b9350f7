//! Ownership of each listener of the group, as this process sees it.
//!
//! Pure: events in, actions out. Listeners are never removed. What changes is which process accepts from
//! them. In case of doubt two processes accept from the same listener, which is always safe, rather than
//! none.

use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of listeners that a process keeps for others.
pub const LISTENERS_MAX: usize = 256;

/// Identity of a listener: the same in all processes, and never reused while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// Identity of another process: the key of this process's link to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub usize);

/// Owner of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process.
    Me,
    /// The process of this link, or another process for which it sent `Held`.
    Peer(LinkId),
    /// No process: the owner has left or exited. All processes accept from it until one claims it.
    Unowned,
}

/// Event that changes ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This process claims a listener: a new one, or an orphan.
    Claim(ListenerId),
    /// The process of this link sent `Mine`: it owns the listener.
    Mine(LinkId, ListenerId),
    /// The process of this link sent `Held`: another process owns the listener. The owner sends `Mine`
    /// itself, if it can.
    Held(LinkId, ListenerId),
    /// The process of this link sent `Orphan`: the listener has no owner.
    Orphan(LinkId, ListenerId),
    /// The process of this link no longer accepts from its listeners.
    Released(LinkId),
    /// The process of this link has exited or was disconnected.
    HungUp(LinkId),
    /// This process is about to leave.
    Leave,
}

/// Action in response to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start accepting from this listener.
    Accept(ListenerId),
    /// Stop accepting from this listener.
    Stop(ListenerId),
    /// Send `Orphan` for this listener to all others. Most have the information already, but a process that
    /// has just joined does not.
    Tell(ListenerId),
}

/// The owners of all listeners, and the listeners that this process accepts from.
#[derive(Debug, Default)]
pub struct Ledger {
    owners: BTreeMap<ListenerId, Owner>,
    /// The listeners that this process accepts from.
    accepted: BTreeSet<ListenerId>,
    /// The other processes that accept and are not leaving.
    serving: BTreeSet<LinkId>,
    stance: Stance,
}

/// Whether this process stays in the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stance {
    #[default]
    Stay,
    Leave,
}

impl Ledger {
    /// Iterates over the listeners and their owners.
    pub fn owners(&self) -> impl Iterator<Item = (ListenerId, Owner)> {
        self.owners.iter().map(|(id, owner)| (*id, *owner))
    }

    /// Returns an orphan to adopt, if there is one.
    pub fn orphan(&self) -> Option<ListenerId> {
        self.owners().find(|(_, owner)| *owner == Owner::Unowned).map(|(id, _)| id)
    }

    /// Whether this listener is in the ledger or could be added.
    pub fn has_place_for(&self, id: ListenerId) -> bool {
        self.owners.len() < LISTENERS_MAX || self.owners.contains_key(&id)
    }

    /// Handles an event and returns the resulting actions. A listener of another process is ignored if there
    /// is no room for it.
    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            // Without a check: the bound applies only to what other processes control.
            Event::Claim(id) => {
                self.owners.insert(id, Owner::Me);
            }
            Event::Mine(link, id) => {
                self.serving.insert(link);
                // A listener of this process stays so. If two processes claim it, both accept from it.
                if self.has_place_for(id) && self.owners.get(&id) != Some(&Owner::Me) {
                    self.owners.insert(id, Owner::Peer(link));
                }
            }
            Event::Held(link, id) if self.has_place_for(id) => {
                self.owners.entry(id).or_insert(Owner::Peer(link));
            }
            // A listener of a third process is left as it is: that process sent `Mine`, and would report a
            // change.
            Event::Orphan(link, id) if self.has_place_for(id) => {
                let owner = self.owners.entry(id).or_insert(Owner::Unowned);
                if *owner == Owner::Peer(link) {
                    *owner = Owner::Unowned;
                }
            }
            Event::Held(..) | Event::Orphan(..) => {}
            Event::Released(link) | Event::HungUp(link) => {
                self.serving.remove(&link);
                let orphaned = self.disown(Owner::Peer(link));
                actions.extend(orphaned.into_iter().map(Action::Tell));
            }
            Event::Leave => {
                self.stance = Stance::Leave;
                // One `Released` covers all of them: the others know which they are.
                self.disown(Owner::Me);
            }
        }
        self.adjust(&mut actions);
        actions
    }

    /// Makes all listeners of this owner orphans and returns them.
    fn disown(&mut self, owner: Owner) -> Vec<ListenerId> {
        let theirs = self.owners.iter_mut().filter(|(_, of)| **of == owner);
        theirs
            .map(|(id, of)| {
                *of = Owner::Unowned;
                *id
            })
            .collect()
    }

    /// Adds the actions that bring accepting in line with ownership.
    fn adjust(&mut self, actions: &mut Vec<Action>) {
        for (id, owner) in &self.owners {
            let is_ours = match (self.stance, owner) {
                (_, Owner::Peer(_)) => false,
                (Stance::Stay, Owner::Me | Owner::Unowned) => true,
                // A process that leaves hands over, if another one serves.
                (Stance::Leave, Owner::Me | Owner::Unowned) => self.serving.is_empty(),
            };
            if is_ours && self.accepted.insert(*id) {
                actions.push(Action::Accept(*id));
            } else if !is_ours && self.accepted.remove(id) {
                actions.push(Action::Stop(*id));
            }
        }
    }
}
