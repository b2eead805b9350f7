//! Shared metrics between real processes, which are killed at any moment.
//!
//! The workers are this test's own executable, which runs [`helper`] in the role that a variable names. They
//! inherit the shared memory as standard input. A worker writes a byte to standard error for each count, because
//! the test harness writes to standard output.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "a variable names the role of a helper")]

#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/rng.rs"]
mod rng;
mod worker;

use std::{
    env,
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    process::Stdio,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use fibsrv::metrics::{
    self, BUCKETS, CONNECTIONS_ACCEPTED, Claim, Handler, Snapshot, WORKERS,
    shared::{SharedMemory, SharedMemoryError},
};
use rng::Rng;
use worker::{CONNECTIONS, CPU_NS, MEMORY_BYTES, Worker, command};

/// How many workers one of the tests kills.
const KILLS: u64 = 200;

/// What the workers run; not a test.
#[test]
fn helper() {
    worker::act();
}

/// Lets one test run at a time. A process that is being started has all descriptors of this process for a moment,
/// those of the tests beside it among them: what they release then would still be locked.
fn alone() -> MutexGuard<'static, ()> {
    static TESTS: Mutex<()> = Mutex::new(());
    TESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cells that count the same events differ by at most one per worker.
fn check_consistent(snapshot: &Snapshot, workers: u64) {
    let cells = snapshot.values(metrics::REQUEST_DURATION.with(Handler::Fibonacci));
    let timed: u64 = cells.iter().take(BUCKETS.len()).sum();
    let requests: u64 = snapshot.values(metrics::REQUESTS).iter().sum();
    let accepted = snapshot.get(CONNECTIONS_ACCEPTED);
    assert!(accepted >= requests && accepted <= timed + workers);
}

#[test]
fn processes_killed_at_any_moment_lose_no_count_and_their_slots_are_used_again() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&memory)).collect();
    let (mut rng, mut killed, mut last_total) = (Rng(1), 0, 0);
    for _ in 0..KILLS {
        let mut worker = workers.remove(rng.below(3));
        worker.wait_for(1 + rng.below(300));
        killed += worker.kill();
        let reported = killed + workers.iter().map(|worker| worker.count).sum::<u64>();
        let snapshot = memory.snapshot();
        assert!(
            snapshot.get(CONNECTIONS_ACCEPTED) >= reported.max(last_total),
            "{reported} {last_total}"
        );
        assert_eq!(snapshot.get(WORKERS), 2);
        last_total = snapshot.get(CONNECTIONS_ACCEPTED);
        workers.push(Worker::start(&memory));
    }
    killed += workers.into_iter().map(Worker::kill).sum::<u64>();
    let snapshot = memory.snapshot();
    // A worker that is killed between counting and writing has counted one that it has not reported.
    let unreported = snapshot.get(CONNECTIONS_ACCEPTED).checked_sub(killed).unwrap();
    assert!(unreported <= KILLS + 3, "{unreported} of {killed}");
    check_consistent(&snapshot, KILLS + 3);
    assert!(memory.slots_used() <= 4, "{} slots for 3 processes at once", memory.slots_used());
    assert_eq!(
        snapshot.get(metrics::PROCESS_CPU),
        CPU_NS * (KILLS + 3),
        "also of killed processes"
    );
}

#[test]
fn gauges_of_killed_processes_are_not_added_up() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&memory)).collect();
    let oldest = |workers: &[Worker]| {
        workers.iter().map(|worker| 1_000_000 + u64::from(worker.child.id())).min().unwrap_or(0)
    };
    for alive in (0..=3).rev() {
        let snapshot = memory.snapshot();
        assert_eq!(snapshot.get(WORKERS), alive);
        assert_eq!(snapshot.get(metrics::CONNECTIONS), CONNECTIONS * alive);
        assert_eq!(snapshot.get(metrics::PROCESS_RESIDENT_MEMORY), MEMORY_BYTES * alive);
        assert_eq!(snapshot.get(metrics::PROCESS_START_TIME), oldest(&workers));
        assert_eq!(snapshot.get(metrics::PROCESS_CPU), 3 * CPU_NS);
        drop(workers.pop());
    }
}

#[test]
fn counters_start_from_zero_only_after_all_processes_have_exited() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    // A process that only keeps the descriptor, as a service manager may do, is not a member.
    let path = format!("/proc/self/fd/{}", memory.fd().as_raw_fd());
    let spare = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let reopen = || SharedMemory::from_fd(spare.try_clone().unwrap().into());
    let reported = Worker::start(&memory).kill();
    assert!(
        memory.snapshot().get(CONNECTIONS_ACCEPTED) >= reported,
        "the process that starts workers is a member"
    );
    let worker = Worker::start(&memory);
    assert_eq!(memory.slots_used(), 1);
    drop(memory);
    // A description of its own, as `spare` must not become a member.
    let memory = reopen().unwrap();
    assert!(memory.snapshot().get(CONNECTIONS_ACCEPTED) > reported, "a worker owns a slot");
    drop(memory);
    worker.kill();
    let memory = reopen().unwrap();
    let snapshot = memory.snapshot();
    assert_eq!((snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(metrics::PROCESS_CPU)), (0, 0));
    assert_eq!(memory.slots_used(), 0);
    let worker = Worker::start(&memory);
    let started = 1_000_000 + u64::from(worker.child.id());
    assert_eq!(memory.snapshot().get(metrics::PROCESS_START_TIME), started);
}

#[test]
fn a_child_does_not_inherit_the_lock_of_a_slot() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    let own = memory.claim().unwrap();
    let first = Worker::start(&memory);
    assert_eq!((own.snapshot().get(WORKERS), memory.slots_used()), (2, 2));
    // The child was started while this process owned the slot, and has its descriptor.
    drop(own);
    assert_eq!(memory.snapshot().get(WORKERS), 1);
    let second = Worker::start(&memory);
    assert_eq!((memory.snapshot().get(WORKERS), memory.slots_used()), (2, 2));
    // And this process has the description that they inherited.
    drop((first, second));
    assert_eq!(memory.snapshot().get(WORKERS), 0);
}

#[test]
fn no_concurrent_scrape_sees_a_total_fall() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..2).map(|_| Worker::start(&memory)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mine =
                    SharedMemory::from_fd(memory.fd().try_clone_to_owned().unwrap()).unwrap();
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let total = mine.snapshot().get(CONNECTIONS_ACCEPTED);
                    assert!(total >= last, "{total} after {last}");
                    last = total;
                }
            });
        }
        for _ in 0..20 {
            workers.remove(0).kill();
            workers.push(Worker::start(&memory));
            for worker in &mut workers {
                worker.wait_for(500);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    drop(workers);
    let other = SharedMemory::from_fd(memory.fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(other.snapshot(), memory.snapshot());
}

#[test]
fn a_process_that_joins_while_the_last_one_exits_can_count() {
    let _alone = alone();
    let memory = SharedMemory::in_memory().unwrap();
    let spawn = || {
        let stdin = memory.fd().try_clone_to_owned().unwrap();
        command("visitor").stdin(stdin).stderr(Stdio::piped()).spawn().unwrap()
    };
    let visitors: Vec<_> = (0..3).map(|_| spawn()).collect();
    // From now on a visitor may be the only member.
    drop(memory);
    for visitor in visitors {
        let output = visitor.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_file_size_limit_is_an_error_with_a_reason() {
    let _alone = alone();
    let output = command("limited").stderr(Stdio::piped()).output().unwrap();
    let expected = "shared metrics: the file size limit is too small\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert!(output.status.success());
}

#[test]
fn other_files_are_rejected_and_a_private_slot_counts() {
    let _alone = alone();
    let executable = File::open(env::current_exe().unwrap()).unwrap();
    assert!(matches!(SharedMemory::from_fd(executable.into()), Err(SharedMemoryError::Shrinkable)));
    let (reader, _writer) = io::pipe().unwrap();
    assert!(matches!(SharedMemory::from_fd(reader.into()), Err(SharedMemoryError::File)));
    let claim = Claim::private();
    claim.add(CONNECTIONS_ACCEPTED, 1);
    assert_eq!(claim.snapshot().get(CONNECTIONS_ACCEPTED), 1);
}
