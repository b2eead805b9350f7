//! The ledgers of several simulated processes that exchange messages, without sockets. For any events in any
//! order, some process accepts from each listener in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::group::ledger::{Action, Event, LISTENERS_MAX, Ledger, LinkId, ListenerId, Owner};

/// Message in transit from one process to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Hello,
    Mine(ListenerId),
    Held(ListenerId),
    Orphan(ListenerId),
    Released,
    End,
    HungUp,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Waits for the lists of these processes.
    Joining(BTreeSet<usize>),
    Serving,
    Leaving,
    Gone,
}

#[derive(Debug)]
struct Process {
    state: State,
    ledger: Ledger,
    links: BTreeSet<usize>,
    accepted: BTreeSet<ListenerId>,
}

/// Next event of the simulation. Numbers select among the processes or messages that exist.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join,
    /// The process that joins stops waiting.
    LosePatience,
    Leave(usize),
    Kill(usize),
    Deliver(usize),
}

#[derive(Debug, Default)]
struct World {
    processes: Vec<Process>,
    wires: BTreeMap<(usize, usize), VecDeque<Wire>>,
    opened: u64,
    /// Listeners up to this number were closed when the last member exited.
    forgotten: u64,
    has_hurried: Hurry,
}

/// Whether a process has stopped waiting for lists. Then two may adopt the same orphan.
#[derive(Debug, Default, PartialEq, Eq)]
enum Hurry {
    #[default]
    Never,
    Once,
}

impl World {
    fn living(&self) -> Vec<usize> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| process.state != State::Gone).map(|(at, _)| at).collect()
    }

    fn joining(&self) -> Option<usize> {
        self.processes.iter().position(|process| matches!(process.state, State::Joining(_)))
    }

    fn step(&mut self, step: Step) {
        let living = self.living();
        let choose = |number: usize| living.get(number % living.len().max(1)).copied();
        match step {
            Step::Join => self.join(&living),
            Step::LosePatience => {
                if let Some(at) = self.joining() {
                    self.has_hurried = Hurry::Once;
                    self.finish_joining(at);
                }
            }
            Step::Leave(number) => {
                if let Some(at) = choose(number)
                    && self.processes[at].state == State::Serving
                {
                    self.processes[at].state = State::Leaving;
                    self.tell(at, Wire::Released);
                    self.apply(at, Event::Leave);
                }
            }
            Step::Kill(number) => {
                if let Some(at) = choose(number) {
                    self.kill(at);
                }
            }
            Step::Deliver(number) => {
                let full: Vec<_> = self.wires.iter().filter(|(_, wire)| !wire.is_empty()).collect();
                if let Some(((from, to), _)) = full.get(number % full.len().max(1)) {
                    self.deliver(*from, *to);
                }
            }
        }
    }

    /// Starts a process that joins. One joins at a time, as there is a lock.
    fn join(&mut self, living: &[usize]) {
        if self.joining().is_some() {
            return;
        }
        let at = self.processes.len();
        let others: BTreeSet<_> = living.iter().copied().collect();
        self.processes.push(Process {
            state: State::Joining(others.clone()),
            ledger: Ledger::default(),
            links: others,
            accepted: BTreeSet::new(),
        });
        self.tell(at, Wire::Hello);
        self.finish_if_answered(at);
    }

    fn finish_if_answered(&mut self, at: usize) {
        if matches!(&self.processes[at].state, State::Joining(awaited) if awaited.is_empty()) {
            self.finish_joining(at);
        }
    }

    fn finish_joining(&mut self, at: usize) {
        self.processes[at].state = State::Serving;
        let id = self.processes[at].ledger.orphan().unwrap_or_else(|| {
            self.opened += 1;
            ListenerId(self.opened)
        });
        self.apply(at, Event::Claim(id));
        self.tell(at, Wire::Mine(id));
    }

    /// Ends a process. Messages from it are still delivered, and those to it are lost.
    fn kill(&mut self, at: usize) {
        self.processes[at].state = State::Gone;
        self.wires.retain(|(_, to), _| *to != at);
        let is_member =
            |process: &Process| matches!(process.state, State::Serving | State::Leaving);
        if !self.processes.iter().any(is_member) {
            self.forgotten = self.opened;
        }
        for other in self.living() {
            // Sent to every process, even if the link has not been accepted yet.
            self.wires.entry((at, other)).or_default().push_back(Wire::HungUp);
        }
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        if self.processes[to].state != State::Gone {
            self.wires.entry((from, to)).or_default().push_back(wire);
        }
    }

    fn tell(&mut self, from: usize, wire: Wire) {
        for to in self.processes[from].links.clone() {
            self.send(from, to, wire);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(wire) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return;
        };
        let link = LinkId(from);
        // Only now: a link is accepted when the event loop handles it.
        self.processes[to].links.insert(from);
        match wire {
            Wire::Hello => {
                // Earlier messages from others are received first.
                for other in 0..self.processes.len() {
                    while self.wires.get(&(other, to)).is_some_and(|wire| !wire.is_empty()) {
                        self.deliver(other, to);
                    }
                }
                let owners: Vec<_> = self.processes[to].ledger.owners().collect();
                for (id, owner) in owners {
                    match owner {
                        Owner::Me => self.send(to, from, Wire::Mine(id)),
                        Owner::Unowned => self.send(to, from, Wire::Orphan(id)),
                        Owner::Peer(_) => self.send(to, from, Wire::Held(id)),
                    }
                }
                self.send(to, from, Wire::End);
            }
            Wire::Mine(id) => self.apply(to, Event::Mine(link, id)),
            Wire::Held(id) => self.apply(to, Event::Held(link, id)),
            Wire::Orphan(id) => self.apply(to, Event::Orphan(link, id)),
            Wire::Released => self.apply(to, Event::Released(link)),
            Wire::HungUp => {
                self.processes[to].links.remove(&from);
                self.apply(to, Event::HungUp(link));
            }
            Wire::End => {}
        }
        if matches!(wire, Wire::End | Wire::HungUp)
            && let State::Joining(awaited) = &mut self.processes[to].state
        {
            awaited.remove(&from);
            self.finish_if_answered(to);
        }
    }

    fn apply(&mut self, at: usize, event: Event) {
        for action in self.processes[at].ledger.apply(event) {
            let accepted = &mut self.processes[at].accepted;
            match action {
                Action::Accept(id) => assert!(accepted.insert(id), "accepted twice"),
                Action::Stop(id) => assert!(accepted.remove(&id), "stopped twice"),
                Action::Tell(id) => self.tell(at, Wire::Orphan(id)),
            }
        }
    }

    /// Delivers all messages.
    fn settle(&mut self) {
        while self.wires.values().any(|wire| !wire.is_empty()) {
            self.step(Step::Deliver(0));
        }
    }

    fn check(&self) {
        let living = self.living();
        if living.is_empty() {
            return;
        }
        for id in (1..=self.opened).map(ListenerId) {
            let is_held = living
                .iter()
                .any(|at| self.processes[*at].ledger.owners().any(|(held, _)| held == id));
            // A process that has not waited for the lists may never learn of a listener.
            if !is_held && (id.0 <= self.forgotten || self.has_hurried == Hurry::Once) {
                continue;
            }
            let accepting: Vec<_> =
                living.iter().filter(|at| self.processes[**at].accepted.contains(&id)).collect();
            assert!(!accepting.is_empty(), "no process accepts from {id:?}: {self:#?}");
            let owners = living.iter().filter(|at| {
                self.processes[**at].ledger.owners().any(|entry| entry == (id, Owner::Me))
            });
            let owners: Vec<_> = owners.collect();
            if self.has_hurried == Hurry::Never && !owners.is_empty() {
                assert_eq!(accepting, owners, "{id:?} was claimed, and others accept: {self:#?}");
                assert_eq!(owners.len(), 1, "{id:?} was claimed twice: {self:#?}");
            }
        }
    }
}

fn steps(is_hurried: impl Strategy<Value = bool>) -> impl Strategy<Value = Vec<Step>> {
    is_hurried.prop_flat_map(|is_hurried| {
        let hurry = if is_hurried { Step::LosePatience } else { Step::Deliver(1) };
        let step = prop_oneof![
            3 => Just(Step::Join),
            1 => Just(hurry),
            1 => any::<usize>().prop_map(Step::Leave),
            1 => any::<usize>().prop_map(Step::Kill),
            8 => any::<usize>().prop_map(Step::Deliver),
        ];
        prop::collection::vec(step, 0..120)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn each_listener_is_accepted_from_in_the_end(steps in steps(any::<bool>())) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}

#[test]
fn rolling_restarts_need_two_listeners() {
    let mut world = World::default();
    world.step(Step::Join);
    for _ in 0..100 {
        world.step(Step::Join);
        world.settle();
        world.step(Step::Leave(0));
        world.settle();
        world.check();
        world.step(Step::Kill(0));
        world.settle();
        world.check();
    }
    assert_eq!(world.opened, 2);
}

#[test]
fn listeners_of_other_processes_are_bounded() {
    let mut ledger = Ledger::default();
    for number in 0..1000 {
        ledger.apply(Event::Mine(LinkId(0), ListenerId(number)));
        ledger.apply(Event::Held(LinkId(0), ListenerId(1000 + number)));
        ledger.apply(Event::Orphan(LinkId(0), ListenerId(2000 + number)));
    }
    assert_eq!(ledger.owners().count(), LISTENERS_MAX);
    assert!(!ledger.has_place_for(ListenerId(5000)) && ledger.has_place_for(ListenerId(1)));
    let own = ListenerId(5000);
    assert_eq!(ledger.apply(Event::Claim(own)), [Action::Accept(own)], "its own is always added");
}

#[test]
fn a_listener_is_accepted_from_by_its_owner_or_by_all_processes() {
    let (own, other, peer) = (ListenerId(1), ListenerId(2), LinkId(7));
    let mut ledger = Ledger::default();
    assert_eq!(ledger.apply(Event::Claim(own)), [Action::Accept(own)]);
    assert_eq!(ledger.apply(Event::Mine(peer, other)), []);
    assert_eq!(ledger.apply(Event::Mine(peer, own)), [], "two processes may claim it");
    let orphaned = [Action::Tell(other), Action::Accept(other)];
    assert_eq!(ledger.apply(Event::Released(peer)), orphaned);
    assert_eq!(ledger.apply(Event::Released(peer)), []);
    assert_eq!(ledger.orphan(), Some(other));
    assert_eq!(ledger.apply(Event::Mine(peer, other)), [Action::Stop(other)]);
    let third = LinkId(8);
    assert_eq!(ledger.apply(Event::Orphan(third, other)), [], "its owner would have reported it");
    assert_eq!(ledger.apply(Event::Held(third, other)), [], "its owner has sent Mine");
    assert_eq!(ledger.apply(Event::Leave), [Action::Stop(own)]);
    let orphaned = [Action::Tell(other), Action::Accept(own), Action::Accept(other)];
    assert_eq!(ledger.apply(Event::HungUp(peer)), orphaned, "no other process is left");
}
