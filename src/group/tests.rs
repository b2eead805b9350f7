//! The ledgers of several simulated processes that exchange messages, without sockets. For any events in any
//! order, some process accepts from each listener in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::group::pool::{LISTENERS_MAX, LinkId, ListenerId, Owner, Pool};

const PORT: u16 = 3000;

/// Message in transit from one process to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// The first message on a link. The response is a list.
    Hello,
    Own(ListenerId),
    Held(ListenerId),
    Foreign(ListenerId),
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Serving,
    Leaving,
    Gone,
}

#[derive(Debug)]
struct Process {
    state: State,
    pool: Pool,
    links: BTreeSet<usize>,
    has_sent_list: BTreeSet<usize>,
}

/// Next event of the simulation. Numbers select among the processes or messages that exist.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A process joins, after this number of messages in transit has been delivered.
    Join(usize),
    Leave(usize),
    Kill(usize),
    /// A link fails, and the messages in transit are lost.
    Cut(usize),
    /// The check of a process connects it to those that are missing.
    Check(usize),
    Deliver(usize),
}

#[derive(Debug, Default)]
struct World {
    processes: Vec<Process>,
    wires: BTreeMap<(usize, usize), VecDeque<Wire>>,
    opened: u64,
}

impl World {
    fn running(&self) -> Vec<usize> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| process.state != State::Gone).map(|(at, _)| at).collect()
    }

    fn step(&mut self, step: Step) {
        let running = self.running();
        let choose = |number: usize| running.get(number % running.len().max(1)).copied();
        match step {
            Step::Join(deliveries) => self.join(deliveries),
            Step::Leave(number) => {
                if let Some(at) = choose(number)
                    && self.processes[at].state == State::Serving
                {
                    self.processes[at].state = State::Leaving;
                    for id in self.processes[at].pool.leave() {
                        self.broadcast(at, Wire::Held(id));
                    }
                }
            }
            Step::Kill(number) => {
                if let Some(at) = choose(number) {
                    self.processes[at].state = State::Gone;
                    self.wires.retain(|(_, to), _| *to != at);
                    for other in self.processes[at].links.clone() {
                        self.send(at, other, Wire::Closed);
                    }
                }
            }
            Step::Cut(number) => {
                let Some(at) = choose(number) else { return };
                let Some(other) = self.processes[at].links.iter().next().copied() else { return };
                for (from, to) in [(at, other), (other, at)] {
                    self.wires.remove(&(from, to));
                    self.close(from, to);
                }
            }
            Step::Check(number) => {
                if let Some(at) = choose(number) {
                    self.check_links(at);
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

    fn join(&mut self, deliveries: usize) {
        let at = self.processes.len();
        self.processes.push(Process {
            state: State::Serving,
            pool: Pool::default(),
            links: BTreeSet::new(),
            has_sent_list: BTreeSet::new(),
        });
        self.check_links(at);
        for _ in 0..deliveries {
            self.step(Step::Deliver(0));
        }
        let id = self.processes[at].pool.ownerless().next().unwrap_or_else(|| {
            self.opened += 1;
            ListenerId(self.opened)
        });
        self.processes[at].pool.own(id, PORT);
        self.broadcast(at, Wire::Own(id));
    }

    fn check_links(&mut self, at: usize) {
        for other in self.running() {
            if other != at && self.processes[at].links.insert(other) {
                self.processes[other].links.insert(at);
                self.send(at, other, Wire::Hello);
                self.send(other, at, Wire::Hello);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        if self.processes[to].state != State::Gone {
            self.wires.entry((from, to)).or_default().push_back(wire);
        }
    }

    fn broadcast(&mut self, from: usize, wire: Wire) {
        for to in self.processes[from].links.clone() {
            self.send(from, to, wire);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(wire) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return;
        };
        let link = LinkId(from);
        match wire {
            Wire::Hello => {
                if self.processes[to].has_sent_list.insert(from) {
                    let owners: Vec<_> = self.processes[to].pool.owners().collect();
                    for (id, owner) in owners {
                        match owner {
                            Owner::This => self.send(to, from, Wire::Own(id)),
                            Owner::Unowned => self.send(to, from, Wire::Held(id)),
                            Owner::Other(_) | Owner::Unknown => {
                                self.send(to, from, Wire::Foreign(id));
                            }
                        }
                    }
                }
            }
            Wire::Own(id) => self.processes[to].pool.own_by(link, id, PORT),
            Wire::Held(id) => self.processes[to].pool.held_by(link, id, PORT),
            Wire::Foreign(id) => self.processes[to].pool.owned_elsewhere(id, PORT),
            Wire::Closed => self.close(from, to),
        }
    }

    fn close(&mut self, from: usize, to: usize) {
        self.processes[to].links.remove(&from);
        self.processes[to].has_sent_list.remove(&from);
        self.processes[to].pool.disconnect(LinkId(from));
        for id in self.processes[to].pool.ownerless().collect::<Vec<_>>() {
            self.broadcast(to, Wire::Held(id));
        }
    }

    /// Delivers all messages, and performs the checks of all processes.
    fn settle(&mut self) {
        for round in 0..4 {
            while self.wires.values().any(|wire| !wire.is_empty()) {
                self.step(Step::Deliver(0));
            }
            for at in self.running() {
                self.check_links(at);
                // Once all are connected and have received the lists of all.
                if round == 2 {
                    for id in self.processes[at].pool.mark_complete() {
                        self.broadcast(at, Wire::Held(id));
                    }
                }
            }
        }
    }

    fn check(&self) {
        let running = self.running();
        let serving: Vec<_> =
            running.iter().filter(|at| self.processes[**at].state == State::Serving).collect();
        if serving.is_empty() {
            return;
        }
        for id in (1..=self.opened).map(ListenerId) {
            let holds = |at: &usize| self.processes[*at].pool.owners().any(|(held, _)| held == id);
            if !running.iter().any(holds) {
                continue; // closed with its last holder
            }
            assert!(running.iter().all(holds), "{id:?} is not held by all: {self:#?}");
            let watching =
                serving.iter().filter(|at| self.processes[***at].pool.watched().contains(&id));
            let watching = watching.count();
            assert!(watching > 0, "{id:?} is not watched: {self:#?}");
            assert!(watching >= serving.len().min(2), "{id:?} has no neighbour: {self:#?}");
            let owners = |at: &usize| {
                self.processes[*at].pool.owners().any(|entry| entry == (id, Owner::This))
            };
            let is_owned = running.iter().any(owners);
            for at in &running {
                // The other way round is possible where two have adopted it and one has left: that costs balance only.
                let is_ownerless = self.processes[*at].pool.ownerless().any(|other| other == id);
                assert!(is_owned || is_ownerless, "{id:?} in {at}: {self:#?}");
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_usize..16).prop_map(Step::Join),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Kill),
        1 => any::<usize>().prop_map(Step::Cut),
        1 => any::<usize>().prop_map(Step::Check),
        8 => any::<usize>().prop_map(Step::Deliver),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn each_listener_is_watched_in_the_end(steps in steps()) {
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
    world.step(Step::Join(1000));
    for _ in 0..100 {
        world.settle();
        world.step(Step::Leave(0));
        world.settle();
        world.step(Step::Join(1000));
        world.settle();
        world.check();
        world.step(Step::Kill(0));
        world.settle();
        world.check();
    }
    assert!(world.opened <= 2, "{}", world.opened);
}

#[test]
fn listeners_of_other_processes_are_bounded() {
    let mut pool = Pool::default();
    for number in 0..1000 {
        pool.own_by(LinkId(0), ListenerId(number), PORT);
        pool.held_by(LinkId(0), ListenerId(1000 + number), PORT);
    }
    assert_eq!(pool.owners().count(), LISTENERS_MAX);
    assert!(!pool.has_place_for(ListenerId(5000)) && pool.has_place_for(ListenerId(1)));
    let own = ListenerId(5000);
    pool.own(own, PORT);
    assert_eq!(pool.watched().first(), Some(&own), "its own is not limited");
}

/// The pool of the process that owns listener `own` of this many, each of another owner.
fn pool_of(own: u64, count: u64) -> Pool {
    let mut pool = Pool::default();
    for number in 0..count {
        let link = LinkId(usize::try_from(number).unwrap());
        pool.own_by(link, ListenerId(number), PORT);
    }
    pool.own(ListenerId(own), PORT);
    pool
}

#[test]
fn a_few_neighbours_watch_a_listener() {
    for count in [1, 2, 3, 4, 8, 64] {
        let mut watchers = BTreeMap::<_, u64>::new();
        for own in 0..count {
            let watched = pool_of(own, count).watched();
            assert_eq!(watched.first(), Some(&ListenerId(own)), "its own comes first");
            for id in watched {
                *watchers.entry(id).or_default() += 1;
            }
        }
        let expected = count.min(4);
        assert!(watchers.values().all(|found| *found == expected), "{count}: {watchers:?}");
    }
}

#[test]
fn another_process_watches_the_listeners_of_a_supervisor() {
    for (mut pool, watched) in [(Pool::default(), 65), (Pool::of_worker(), 4)] {
        for number in 0..64 {
            pool.own_by(LinkId(0), ListenerId(number), PORT);
        }
        pool.own(ListenerId(64), PORT);
        assert_eq!(pool.watched().len(), watched);
    }
}

#[test]
fn a_listener_without_an_owner_is_watched_by_all() {
    let mut pool = pool_of(9, 10);
    assert!(!pool.watched().contains(&ListenerId(2)));
    assert_eq!(pool.disconnect(LinkId(2)), [ListenerId(2)]);
    assert!(pool.watched().contains(&ListenerId(2)));
    pool.own_by(LinkId(30), ListenerId(2), PORT);
    assert!(!pool.watched().contains(&ListenerId(2)), "it was adopted");
    pool.held_by(LinkId(4), ListenerId(2), PORT);
    assert!(!pool.watched().contains(&ListenerId(2)), "only its owner gives it up");
    pool.held_by(LinkId(30), ListenerId(2), PORT);
    assert!(pool.watched().contains(&ListenerId(2)));
    assert_eq!(pool.leave(), [ListenerId(9)]);
    assert!(pool.watched().is_empty());
}

#[test]
fn neighbours_share_a_port() {
    let mut pool = pool_of(9, 10);
    pool.own_by(LinkId(50), ListenerId(8), PORT + 1);
    pool.own(ListenerId(100), PORT + 1);
    pool.own_by(LinkId(50), ListenerId(50), PORT + 1);
    let watched = pool.watched();
    assert!(watched.contains(&ListenerId(50)) && watched.contains(&ListenerId(6)));
    assert!(!watched.contains(&ListenerId(0)));
}
