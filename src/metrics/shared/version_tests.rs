//! Versions with different metrics that share memory: a newer one with another route, another reason to reject a
//! request and another metric, and without a metric of this one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{tests::other, *};
use crate::metrics::{
    CACHE_HITS, CONNECTIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_CLOSED, CloseReason, Handler,
    Metric, PROCESS_RESIDENT_MEMORY, REQUEST_DURATION, REQUESTS_REJECTED, kind::Cumulative,
};

/// The cells of the newer version that this one does not have: the first is a counter, the last a gauge.
const NEW: [u64; 40] = {
    let (mut ids, mut n) = ([0; 40], 0);
    while n < 39 {
        ids[n] = (n as u64 + 1) << 1;
        n += 1;
    }
    ids[39] = 0x0dd1;
    ids
};

/// The identities of the newer version.
fn newer() -> Vec<u64> {
    let mut ids = SCHEMA.ids.to_vec();
    ids.remove(CACHE_HITS.start());
    // From the end of the table to its beginning, as each shifts what is behind.
    ids.insert(REQUEST_DURATION.with(Handler::Readyz).start(), NEW[2]);
    for id in &NEW[3..39] {
        ids.insert(REQUEST_DURATION.start(), *id);
    }
    ids.insert(REQUESTS_REJECTED.start() + 3, NEW[1]);
    ids.insert(0, NEW[0]);
    ids.push(NEW[39]);
    ids
}

/// A worker of any version: the slot it owns, and the identities that it knows.
struct Worker<'a> {
    bank: &'static Bank,
    schema: Schema<'a>,
    _lock: File,
}

impl<'a> Worker<'a> {
    fn start(memory: &SharedMemory, ids: &'a [u64]) -> Self {
        let schema = Schema::new(ids);
        let (lock, _, bank) = memory.claim_as(&schema).unwrap();
        Self { bank, schema, _lock: lock }
    }

    fn cell(&self, id: u64) -> &std::sync::atomic::AtomicU64 {
        let place = self.schema.ids.iter().position(|known| *known == id).unwrap();
        self.bank.value(place).unwrap()
    }

    fn add(&self, id: u64, n: u64) {
        let cell = self.cell(id);
        cell.store(cell.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }
}

/// What a process that knows `ids` reads: the sums over all slots.
fn totals(memory: &SharedMemory, ids: &[u64]) -> Vec<u64> {
    let schema = Schema::new(ids);
    let (mut totals, mut values) = (vec![0; ids.len()], vec![0; ids.len()]);
    for index in 0..memory.slots_used() {
        memory.layout.read(index, &schema, &mut values);
        totals.iter_mut().zip(&values).for_each(|(total, value)| *total += value);
    }
    totals
}

/// The total of the cell with this identity.
fn total(memory: &SharedMemory, ids: &[u64], id: u64) -> u64 {
    totals(memory, ids)[ids.iter().position(|known| *known == id).unwrap()]
}

fn id<K: Cumulative>(counter: Metric<K>) -> u64 {
    SCHEMA.ids[counter.start()]
}

/// Counters of this version, from all parts of its table.
fn known() -> [u64; 5] {
    [
        id(CONNECTIONS_ACCEPTED),
        id(CACHE_HITS),
        SCHEMA.ids[REQUESTS_REJECTED.start() + 4],
        SCHEMA.ids[REQUEST_DURATION.with(Handler::Readyz).start() + 7],
        id(CONNECTIONS_CLOSED.with(CloseReason::Evicted)),
    ]
}

#[test]
fn upgrades_and_rollbacks_keep_all_counts() {
    let newer = newer();
    let memory = SharedMemory::in_memory().unwrap();
    let versions: [&[u64]; 2] = [SCHEMA.ids, &newer];
    let mut expected = std::collections::BTreeMap::new();
    // Upgrades and rollbacks, one after the other and with an overlap.
    for round in 0..12 {
        let ids = versions[round % 2];
        let mut workers = vec![Worker::start(&memory, ids)];
        if round % 3 == 0 {
            workers.push(Worker::start(&memory, versions[(round + 1) % 2]));
        }
        for worker in &workers {
            let counted = known().into_iter().chain([NEW[0], NEW[1], NEW[2], NEW[38]]);
            for (n, id) in counted.enumerate().filter(|(_, id)| worker.schema.ids.contains(id)) {
                worker.add(id, 1_000 + n as u64);
                *expected.entry(id).or_insert(0) += 1_000 + n as u64;
            }
        }
        for ids in versions {
            for (id, count) in expected.iter().filter(|(id, _)| ids.contains(id)) {
                assert_eq!(total(&memory, ids, *id), *count, "round {round}, {id}");
            }
        }
    }
    assert_eq!((memory.slots_used(), expected.len()), (2, 9));
    let counted = |counter| memory.snapshot().get(counter);
    assert_eq!(counted(CONNECTIONS_ACCEPTED), expected[&id(CONNECTIONS_ACCEPTED)]);
    assert_eq!(counted(CACHE_HITS), expected[&id(CACHE_HITS)]);
}

#[test]
fn a_running_process_of_another_version_is_read_by_the_series_that_both_know() {
    let newer = newer();
    let memory = SharedMemory::in_memory().unwrap();
    let this = memory.claim().unwrap();
    let that = Worker::start(&memory, &newer);
    for (n, id) in newer.iter().enumerate() {
        that.add(*id, n as u64 + 1);
    }
    let snapshot = this.snapshot();
    for (place, id) in SCHEMA.ids.iter().enumerate() {
        let theirs = newer.iter().position(|other| other == id).map_or(0, |n| n as u64 + 1);
        let ours = match place {
            _ if place == crate::metrics::WORKERS.start() => 1,
            _ if place == METRICS_SHARED.start() => continue,
            _ => 0,
        };
        assert_eq!(snapshot.all()[place], ours + theirs, "{place}");
    }
    this.add(CONNECTIONS_ACCEPTED, 7);
    let theirs = newer.iter().position(|other| *other == id(CONNECTIONS_ACCEPTED)).unwrap();
    let expected = theirs as u64 + 1 + 7;
    assert_eq!(total(&memory, &newer, id(CONNECTIONS_ACCEPTED)), expected);
}

#[test]
fn gauges_go_with_their_owner_also_those_that_the_next_owner_does_not_know() {
    let newer = newer();
    let gauges = [SCHEMA.ids[CONNECTIONS.start()], SCHEMA.ids[PROCESS_RESIDENT_MEMORY.start()]];
    for round in 0..3 {
        let memory = SharedMemory::in_memory().unwrap();
        let versions: [&[u64]; 2] = [&newer, SCHEMA.ids];
        for owner in 0..=round {
            let worker = Worker::start(&memory, versions[owner % 2]);
            for id in gauges.iter().chain(NEW.last()).filter(|id| worker.schema.ids.contains(id)) {
                worker.add(*id, 5);
            }
        }
        let _next = Worker::start(&memory, versions[(round + 1) % 2]);
        let _again = memory.slots_used();
        for id in gauges {
            assert_eq!(total(&memory, &newer, id), 0, "round {round}");
        }
        assert_eq!(total(&memory, &newer, NEW[39]), 0, "round {round}");
    }
}

#[test]
fn a_process_killed_while_it_claims_a_slot_of_another_version_loses_nothing() {
    let newer = newer();
    let memory = SharedMemory::in_memory().unwrap();
    memory.claim().unwrap().add(CONNECTIONS_ACCEPTED, 5);
    let versions: [&[u64]; 2] = [&newer, SCHEMA.ids];
    for round in 0..6 {
        let ids = versions[round % 2];
        layout::claim_half(memory.layout, 0, &Schema::new(versions[(round + 1) % 2]));
        layout::claim_half(memory.layout, 0, &Schema::new(ids));
        assert_eq!(total(&memory, &newer, id(CONNECTIONS_ACCEPTED)), 5 + round as u64);
        Worker::start(&memory, ids).add(id(CONNECTIONS_ACCEPTED), 1);
        assert_eq!(memory.snapshot().get(CONNECTIONS_ACCEPTED), 6 + round as u64);
    }
}

#[test]
fn a_slot_without_room_for_all_counts_is_left_alone() {
    let memory = SharedMemory::in_memory().unwrap();
    // As many series of no other version as there is room for.
    let foreign: Vec<u64> = (0..bank::CELLS_MAX as u64).map(|n| 1_000_000 + 2 * n).collect();
    let worker = Worker::start(&memory, &foreign);
    for id in &foreign {
        worker.add(*id, 1);
    }
    drop(worker);
    let claim = memory.claim().unwrap();
    claim.add(CONNECTIONS_ACCEPTED, 1);
    assert_eq!((memory.slots_used(), memory.snapshot().get(CONNECTIONS_ACCEPTED)), (2, 1));
    assert!(totals(&memory, &foreign).iter().all(|count| *count == 1));
    // Its own version continues there.
    Worker::start(&memory, &foreign).add(foreign[0], 1);
    assert_eq!(total(&memory, &foreign, foreign[0]), 2);
}

#[test]
fn no_scrape_sees_a_total_fall_while_versions_alternate() {
    let newer = newer();
    let memory = SharedMemory::in_memory().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for ids in [SCHEMA.ids, &newer] {
            let (memory, is_over) = (other(&memory), &is_over);
            scope.spawn(move || {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let total = total(&memory, ids, id(CONNECTIONS_ACCEPTED));
                    assert!(total >= last, "{total} after {last}");
                    last = total;
                }
            });
        }
        for round in 0..300 {
            let ids = if round % 2 == 0 { &newer } else { SCHEMA.ids };
            let worker = Worker::start(&memory, ids);
            for _ in 0..10 {
                worker.add(id(CONNECTIONS_ACCEPTED), 1);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(memory.snapshot().get(CONNECTIONS_ACCEPTED), 3_000);
}
