//! Shared metrics between real processes, which are killed at any moment. Numbers in names of tests are those of
//! the points in ARCHITECTURE.md under "Several processes"; point 10 needs none, being a matter of types.
//!
//! The workers are this test's own executable, told by a variable to run [`helper`] in a role. The region of a
//! test comes as standard input, which shows on the way that inherited descriptors do no harm; what the worker
//! has counted goes out by standard error, a byte for each, because the test harness writes to standard output.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "a test's helper is told its role by a variable")]

#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/rng.rs"]
mod rng;
mod worker;

use std::{
    env,
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, Stdio},
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
use worker::{CONNECTIONS, CPU_NS, DIRECTORY, Directory, MEMORY_BYTES, ROLE, Worker, command};

/// How many workers one of the tests kills.
const KILLS: u64 = 200;

/// No test, but what the workers run.
#[test]
fn helper() {
    worker::act();
}

/// Lets one test run at a time. A process that is being started has, for a moment, all descriptors of the one
/// that starts it, those of the tests beside it among them: what they give up then would still be held.
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
fn points_1_2_7_8_9_killed_at_any_moment_nothing_is_lost_and_slots_are_taken_over() {
    let _alone = alone();
    let region = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&region)).collect();
    let (mut rng, mut told_by_dead, mut last_total) = (Rng(1), 0, 0);
    for _ in 0..KILLS {
        let mut worker = workers.remove(rng.below(3));
        worker.wait_for(1 + rng.below(300));
        told_by_dead += worker.kill();
        let told = told_by_dead + workers.iter().map(|worker| worker.count).sum::<u64>();
        let snapshot = region.snapshot();
        assert!(snapshot.get(CONNECTIONS_ACCEPTED) >= told.max(last_total), "{told} {last_total}");
        assert_eq!(snapshot.get(WORKERS), 2);
        last_total = snapshot.get(CONNECTIONS_ACCEPTED);
        workers.push(Worker::start(&region));
    }
    told_by_dead += workers.into_iter().map(Worker::kill).sum::<u64>();
    let snapshot = region.snapshot();
    // Whoever is killed between counting and telling has counted one that it has not told.
    let untold = snapshot.get(CONNECTIONS_ACCEPTED).checked_sub(told_by_dead).unwrap();
    assert!(untold <= KILLS + 3, "{untold} of {told_by_dead}");
    check_consistent(&snapshot, KILLS + 3);
    assert!(region.slots_used() <= 4, "{} slots for 3 processes at once", region.slots_used());
    assert_eq!(snapshot.get(metrics::PROCESS_CPU), CPU_NS * (KILLS + 3), "also that of the dead");
}

#[test]
fn point_3_the_gauges_of_the_dead_are_gone() {
    let _alone = alone();
    let region = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&region)).collect();
    let oldest = |workers: &[Worker]| {
        workers.iter().map(|worker| 1_000_000 + u64::from(worker.child.id())).min().unwrap_or(0)
    };
    for alive in (0..=3).rev() {
        let snapshot = region.snapshot();
        assert_eq!(snapshot.get(WORKERS), alive);
        assert_eq!(snapshot.get(metrics::CONNECTIONS), CONNECTIONS * alive);
        assert_eq!(snapshot.get(metrics::PROCESS_RESIDENT_MEMORY), MEMORY_BYTES * alive);
        assert_eq!(snapshot.get(metrics::PROCESS_START_TIME), oldest(&workers));
        assert_eq!(snapshot.get(metrics::PROCESS_CPU), 3 * CPU_NS);
        drop(workers.pop());
    }
}

#[test]
fn point_4_a_full_stop_is_one_reset_and_less_is_none() {
    let _alone = alone();
    let region = SharedMemory::in_memory().unwrap();
    // What keeps the memory, as a service manager might, is not one that has the region.
    let path = format!("/proc/self/fd/{}", region.fd().as_raw_fd());
    let kept = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let reopen = || SharedMemory::from_fd(kept.try_clone().unwrap().into());
    let told = Worker::start(&region).kill();
    assert!(region.snapshot().get(CONNECTIONS_ACCEPTED) >= told, "whoever starts workers is there");
    let worker = Worker::start(&region);
    assert_eq!(region.slots_used(), 1);
    drop(region);
    // In a description of its own, as `kept` must not come to hold the region.
    let region = reopen().unwrap();
    assert!(region.snapshot().get(CONNECTIONS_ACCEPTED) > told, "a worker is there");
    drop(region);
    worker.kill();
    let region = reopen().unwrap();
    let snapshot = region.snapshot();
    assert_eq!((snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(metrics::PROCESS_CPU)), (0, 0));
    assert_eq!(region.slots_used(), 0);
    let worker = Worker::start(&region);
    let started = 1_000_000 + u64::from(worker.child.id());
    assert_eq!(region.snapshot().get(metrics::PROCESS_START_TIME), started);
}

#[test]
fn point_6_a_lock_is_not_inherited() {
    let _alone = alone();
    let region = SharedMemory::in_memory().unwrap();
    let own = region.claim().unwrap();
    let first = Worker::start(&region);
    assert_eq!((own.snapshot().get(WORKERS), region.slots_used()), (2, 2));
    // The child was started while we had the slot, and has our descriptor of the region.
    drop(own);
    assert_eq!(region.snapshot().get(WORKERS), 1);
    let second = Worker::start(&region);
    assert_eq!((region.snapshot().get(WORKERS), region.slots_used()), (2, 2));
    // And we have the description that they were given.
    drop((first, second));
    assert_eq!(region.snapshot().get(WORKERS), 0);
}

#[test]
fn several_scrape_at_once_and_none_sees_a_total_fall() {
    let _alone = alone();
    let region = SharedMemory::in_memory().unwrap();
    let mut workers: Vec<Worker> = (0..2).map(|_| Worker::start(&region)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mine =
                    SharedMemory::from_fd(region.fd().try_clone_to_owned().unwrap()).unwrap();
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
            workers.push(Worker::start(&region));
            for worker in &mut workers {
                worker.wait_for(500);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    drop(workers);
    let other = SharedMemory::from_fd(region.fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(other.snapshot(), region.snapshot());
}

#[test]
fn point_12_in_a_directory_processes_find_each_other_and_leave_no_file() {
    let _alone = alone();
    let directory = Directory::new("found");
    let workers: Vec<Worker> = (0..3).map(|_| Worker::start_in(&directory.0)).collect();
    let region = SharedMemory::in_directory(&directory.0, 3000).unwrap();
    assert_eq!((region.snapshot().get(WORKERS), directory.files()), (3, 1));
    let told: u64 = workers.into_iter().map(Worker::kill).sum();
    assert!((told..=told + 3).contains(&region.snapshot().get(CONNECTIONS_ACCEPTED)));
    drop(region);
    assert_eq!(directory.files(), 0);
    // Killed all at once, they leave it; the next to come begins anew, and removes it.
    let workers = [Worker::start_in(&directory.0), Worker::start_in(&directory.0)];
    workers.into_iter().map(Worker::kill).for_each(drop);
    assert_eq!(directory.files(), 1);
    let region = SharedMemory::in_directory(&directory.0, 3000).unwrap();
    assert_eq!((region.snapshot().get(CONNECTIONS_ACCEPTED), region.slots_used()), (0, 0));
    drop(region);
    assert_eq!(directory.files(), 0);
}

#[test]
fn point_5_who_comes_while_the_last_one_leaves_finds_it_whole_or_makes_it() {
    let _alone = alone();
    let directory = Directory::new("visits");
    let mut visitor = command("visitor", Some(&directory.0));
    let visitors: Vec<_> =
        (0..3).map(|_| visitor.stderr(Stdio::piped()).spawn().unwrap()).collect();
    for visitor in visitors {
        let output = visitor.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(directory.files(), 0);
}

#[test]
fn without_room_there_is_a_reason_and_no_file() {
    let _alone = alone();
    let directory = Directory::new("limit");
    let output = command("limited", Some(&directory.0)).stderr(Stdio::piped()).output().unwrap();
    let expected = "shared metrics are beyond the limit of file sizes\n".repeat(2);
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert!(output.status.success() && directory.files() == 0);
}

#[test]
fn in_a_full_directory_there_is_a_reason_and_no_file() {
    let _alone = alone();
    let directory = Directory::new("full");
    let script = "mount -t tmpfs -o size=64k,mode=700 none \"$0\" && \"$@\" && ls -A \"$0\" >&2";
    let helper = command("full", Some(&directory.0));
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&directory.0);
    shell.arg(helper.get_program()).args(helper.get_args());
    shell.env(ROLE, "full").env(DIRECTORY, &directory.0);
    let Ok(output) = shell.output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") || said.contains("mount:") {
        // No file system of our own where user namespaces are not to be had.
        return;
    }
    assert_eq!(said, "shared metrics: No space left on device (os error 28)\n");
    assert!(output.status.success());
}

#[test]
fn what_is_no_region_is_refused_and_one_counts_for_oneself() {
    let _alone = alone();
    let executable = File::open(env::current_exe().unwrap()).unwrap();
    assert!(matches!(SharedMemory::from_fd(executable.into()), Err(SharedMemoryError::Shrinkable)));
    let (reader, _writer) = io::pipe().unwrap();
    assert!(matches!(SharedMemory::from_fd(reader.into()), Err(SharedMemoryError::File)));
    assert!(SharedMemory::in_directory(Path::new("/nowhere"), 3000).is_err());
    let counters = Claim::private();
    counters.add(CONNECTIONS_ACCEPTED, 1);
    assert_eq!(counters.snapshot().get(CONNECTIONS_ACCEPTED), 1);
}
