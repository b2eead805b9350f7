//! Whose business each listener of the group is, as this process sees it.
//!
//! Pure: events in, actions out. Listeners are never forgotten; what changes is who accepts from them. When
//! in doubt, two accept from the same one, which is always safe, rather than nobody.

use std::collections::{BTreeMap, BTreeSet};

/// Most listeners that a process keeps for others.
pub const LISTENERS_MAX: usize = 256;

/// Which listener: the same for all processes, and never used again while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// Which other process, by this process's link to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub usize);

/// Whose business a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process's.
    Me,
    /// That process's, or of somebody for whom that process speaks.
    Peer(LinkId),
    /// Nobody's: its owner has left or died. All accept from it until one says that it is his.
    Nobody,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This process takes a listener for its own: a new one, or an orphan.
    Claim(ListenerId),
    /// That process says that a listener is its own.
    Mine(LinkId, ListenerId),
    /// That process says that a listener is another's. Who that is says so himself, if he can.
    Held(LinkId, ListenerId),
    /// That process says that a listener is nobody's.
    Orphan(LinkId, ListenerId),
    /// That process does not accept from its listeners any more.
    Released(LinkId),
    /// That process is gone, or is not listened to any more.
    HungUp(LinkId),
    /// This process is about to leave.
    Leave,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin to accept from this listener.
    Accept(ListenerId),
    /// Accept from it no more.
    Stop(ListenerId),
    /// Tell all others that it is nobody's. They may know; who has just come does not.
    Tell(ListenerId),
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    owners: BTreeMap<ListenerId, Owner>,
    /// What this process accepts from.
    accepted: BTreeSet<ListenerId>,
    /// The other processes that accept, and mean to go on with it.
    serving: BTreeSet<LinkId>,
    stance: Stance,
}

/// What this process means to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stance {
    #[default]
    Stay,
    Leave,
}

impl Ledger {
    /// Each listener, and whose business it is.
    pub fn owners(&self) -> impl Iterator<Item = (ListenerId, Owner)> {
        self.owners.iter().map(|(id, owner)| (*id, *owner))
    }

    /// An orphan to take over, if there is one.
    pub fn orphan(&self) -> Option<ListenerId> {
        self.owners().find(|(_, owner)| *owner == Owner::Nobody).map(|(id, _)| id)
    }

    /// Whether this listener is in the ledger, or could be put there.
    pub fn has_place_for(&self, id: ListenerId) -> bool {
        self.owners.len() < LISTENERS_MAX || self.owners.contains_key(&id)
    }

    /// Takes in what has happened; says what is to be done. A listener of others for which there is no place
    /// is not taken in.
    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            // Always: the bound is for what others control.
            Event::Claim(id) => {
                self.owners.insert(id, Owner::Me);
            }
            Event::Mine(link, id) => {
                self.serving.insert(link);
                // What is ours stays so: if two believe that of a listener, both accept from it.
                if self.has_place_for(id) && self.owners.get(&id) != Some(&Owner::Me) {
                    self.owners.insert(id, Owner::Peer(link));
                }
            }
            Event::Held(link, id) if self.has_place_for(id) => {
                self.owners.entry(id).or_insert(Owner::Peer(link));
            }
            // If it is another's, he has told us himself, and would tell if that had changed.
            Event::Orphan(link, id) if self.has_place_for(id) => {
                let owner = self.owners.entry(id).or_insert(Owner::Nobody);
                if *owner == Owner::Peer(link) {
                    *owner = Owner::Nobody;
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
                // Said to all in one word; and they know which those are.
                self.disown(Owner::Me);
            }
        }
        self.adjust(&mut actions);
        actions
    }

    /// Makes orphans of all listeners of this owner.
    fn disown(&mut self, owner: Owner) -> Vec<ListenerId> {
        let theirs = self.owners.iter_mut().filter(|(_, of)| **of == owner);
        theirs
            .map(|(id, of)| {
                *of = Owner::Nobody;
                *id
            })
            .collect()
    }

    /// From what is accepted to what is to be accepted.
    fn adjust(&mut self, actions: &mut Vec<Action>) {
        for (id, owner) in &self.owners {
            let is_ours = match (self.stance, owner) {
                (_, Owner::Peer(_)) => false,
                (Stance::Stay, Owner::Me | Owner::Nobody) => true,
                // Who leaves hands over, if there is somebody to whom.
                (Stance::Leave, Owner::Me | Owner::Nobody) => self.serving.is_empty(),
            };
            if is_ours && self.accepted.insert(*id) {
                actions.push(Action::Accept(*id));
            } else if !is_ours && self.accepted.remove(id) {
                actions.push(Action::Stop(*id));
            }
        }
    }
}
