//! Shared memory within one process: locks belong to descriptions, so one process can have several owners.
//! `tests/shared_metrics` has real processes, and kills them.

use std::io;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::*;
use crate::metrics::{
    Build, CONNECTIONS, CONNECTIONS_ACCEPTED, ExpositionFormat, PROCESS_CPU, Process, WORKERS,
    exposition,
};

/// A description that is no member, and keeps the memory.
fn spare(memory: &SharedMemory) -> OwnedFd {
    memory::reopen(&memory.file).unwrap().into()
}

/// Another process, as far as locks are concerned.
pub(super) fn other(memory: &SharedMemory) -> SharedMemory {
    SharedMemory::from_fd(memory.fd().try_clone_to_owned().unwrap()).unwrap()
}

fn accepted(memory: &SharedMemory) -> u64 {
    memory.snapshot().get(CONNECTIONS_ACCEPTED)
}

/// Connections accepted, connections, workers.
fn three(snapshot: &Snapshot) -> [u64; 3] {
    let [connections, workers] = [CONNECTIONS, WORKERS].map(|gauge| snapshot.get(gauge));
    [snapshot.get(CONNECTIONS_ACCEPTED), connections, workers]
}

#[test]
fn counters_stay_and_gauges_go() {
    let memory = SharedMemory::in_memory().unwrap();
    let (first, second) = (memory.claim().unwrap(), other(&memory));
    let second = second.claim().unwrap();
    for claim in [&first, &second] {
        claim.add(CONNECTIONS_ACCEPTED, 10);
        claim.set(CONNECTIONS, 3);
    }
    for snapshot in [first.snapshot(), second.snapshot(), memory.snapshot()] {
        assert_eq!((three(&snapshot), snapshot.get(METRICS_SHARED)), ([20, 6, 2], 1));
    }
    drop(first);
    assert_eq!(three(&second.snapshot()), [20, 3, 1]);
    let third = memory.claim().unwrap();
    third.add(CONNECTIONS_ACCEPTED, 1);
    assert_eq!((three(&third.snapshot()), memory.slots_used()), ([21, 3, 2], 2));
}

#[test]
fn a_private_slot_is_added_up_alone() {
    let mut claim = Claim::private();
    claim.add(CONNECTIONS_ACCEPTED, 1);
    claim.record_process(&Process { cpu_time_ns: 5, start_time_ns: 1, ..Process::default() });
    claim.record_process(&Process { cpu_time_ns: 7, start_time_ns: 1, ..Process::default() });
    let moved = Box::new(claim);
    let snapshot = moved.snapshot();
    assert_eq!((three(&snapshot), snapshot.get(METRICS_SHARED)), ([1, 0, 1], 0));
    assert_eq!(snapshot.get(PROCESS_CPU), 7);
}

#[test]
fn counts_move_to_other_memory_once() {
    let (left, target) = (SharedMemory::in_memory().unwrap(), SharedMemory::in_memory().unwrap());
    let resident = target.claim().unwrap();
    resident.add(CONNECTIONS_ACCEPTED, 5);
    let mut movers = [left.claim().unwrap(), left.claim().unwrap(), Claim::private()];
    let exited = left.claim().unwrap();
    for claim in movers.iter().chain([&exited]) {
        claim.add(CONNECTIONS_ACCEPTED, 10);
        claim.set(CONNECTIONS, 3);
    }
    drop(exited);
    for (mover, expected) in movers.iter_mut().zip([[25, 3, 2], [35, 6, 3], [45, 9, 4]]) {
        mover.move_to(&target).unwrap();
        assert_eq!(three(&resident.snapshot()), expected);
        assert_eq!(three(&mover.snapshot()), expected);
    }
    assert_eq!(three(&left.snapshot()), [0; 3]);
}

#[test]
fn the_lowest_free_slot_is_claimed_until_all_have_an_owner() {
    let memory = SharedMemory::in_memory().unwrap();
    let mut owners: Vec<_> = (0..SLOTS).map(|_| memory.claim().unwrap()).collect();
    assert!(matches!(memory.claim(), Err(SharedMemoryError::Full)));
    for claim in &owners {
        claim.add(CONNECTIONS_ACCEPTED, 1);
    }
    assert_eq!(three(&memory.snapshot()), [256, 0, 256]);
    drop(owners.remove(7));
    let again = memory.claim().unwrap();
    assert_eq!(again.get(CONNECTIONS_ACCEPTED), 1, "where the last owner stopped");
    assert!(matches!(other(&memory).claim(), Err(SharedMemoryError::Full)));
    assert_eq!(memory.slots_used(), SLOTS);
}

#[test]
fn gauges_are_read_once_the_claim_is_complete() {
    let memory = SharedMemory::in_memory().unwrap();
    let previous = memory.claim().unwrap();
    previous.set(CONNECTIONS, 9);
    drop(previous);
    let claiming = memory::reopen(&memory.file).unwrap();
    assert!(locks::begin_claim(&claiming, 0).unwrap());
    assert!(!locks::is_owned_by_other(&memory.file, 0).unwrap());
    assert_eq!(memory.snapshot().get(CONNECTIONS), 0);
    locks::finish_claim(&claiming, 0).unwrap();
    assert!(locks::is_owned_by_other(&memory.file, 0).unwrap());
    assert!(!locks::begin_claim(&memory.file, 0).unwrap());
    locks::release(&claiming, 0).unwrap();
    assert!(!locks::is_owned_by_other(&memory.file, 0).unwrap());
}

#[test]
fn when_all_processes_have_exited_all_counters_start_from_zero() {
    let memory = SharedMemory::in_memory().unwrap();
    let fd = spare(&memory);
    let claim = memory.claim().unwrap();
    claim.add(CONNECTIONS_ACCEPTED, 5);
    drop(memory);
    let memory = SharedMemory::from_fd(fd.try_clone().unwrap()).unwrap();
    assert_eq!(accepted(&memory), 5, "a slot has an owner");
    drop(claim);
    let still = SharedMemory::from_fd(fd.try_clone().unwrap()).unwrap();
    assert_eq!(accepted(&still), 5, "a member may start another worker");
    drop((memory, still));
    let memory = SharedMemory::from_fd(fd).unwrap();
    let mut empty = Snapshot::empty();
    empty.set(METRICS_SHARED, 1);
    assert_eq!((memory.snapshot(), memory.slots_used()), (empty, 0));
    let claims = [memory.claim().unwrap(), memory.claim().unwrap()];
    assert_eq!((three(&claims[1].snapshot()), memory.slots_used()), ([0, 0, 2], 2));
}

/// Memory with these contents and seals.
fn memory_with(contents: &[u8], seals: SealFlags) -> File {
    let file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap());
    io::Write::write_all(&mut &file, contents).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn valid() -> Vec<u8> {
    let file = memory::create().unwrap();
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_fails_a_check_is_rejected() {
    let seals = SealFlags::SHRINK | SealFlags::GROW;
    let check = |what: &str, fd: OwnedFd, reason: &str| {
        let error = SharedMemory::from_fd(fd).expect_err(what).to_string();
        assert!(error.contains(reason), "{what}: {error}");
    };
    let mut bytes = valid();
    let accepted = memory_with(&bytes, seals);
    assert!(SharedMemory::from_fd(accepted.into()).is_ok());
    check("no seals", memory_with(&bytes, SealFlags::empty()).into(), "sealed");
    check("may shrink", memory_with(&bytes, SealFlags::GROW).into(), "sealed");
    check("nothing", memory_with(b"", seals).into(), "size");
    let short = &bytes[..layout::MEMORY_BYTES - 1];
    check("truncated", memory_with(short, seals).into(), "size");
    check("too long", memory_with(&[&bytes[..], b"x"].concat(), seals).into(), "size");
    for place in [0, 8, 16, 24] {
        bytes[place] ^= 1;
        check("another header", memory_with(&bytes, seals).into(), "layout");
        bytes[place] ^= 1;
    }
    check("a directory", File::open(".").unwrap().into(), "file");
    check("a pipe", io::pipe().unwrap().0.into(), "file");
    check("a device", File::open("/dev/zero").unwrap().into(), "file");
    check("a file on a disk", File::open("/proc/self/exe").unwrap().into(), "");
    let foreign = memory_with(&bytes, seals);
    if std::os::unix::fs::fchown(&foreign, Some(1), None).is_ok() {
        check("another user's", foreign.into(), "user");
    }
    let read_only = memory_with(&bytes, seals | SealFlags::WRITE);
    assert!(SharedMemory::from_fd(read_only.into()).is_err());
}

#[test]
fn rejected_memory_leaves_nothing_behind() {
    let memory = SharedMemory::in_memory().unwrap();
    let mut bytes = valid();
    bytes[8] ^= 1;
    let seals = SealFlags::SHRINK;
    assert!(SharedMemory::from_fd(memory_with(&bytes, seals).into()).is_err());
    let unreadable = memory_with(&bytes, seals);
    SharedMemory::from_fd(unreadable.try_clone().unwrap().into()).unwrap_err();
    assert!(!locks::is_held_by_others(&unreadable).unwrap());
    let claim = memory.claim().unwrap();
    claim.add(CONNECTIONS_ACCEPTED, 1);
    assert_eq!(accepted(&other(&memory)), 1);
}

#[test]
fn whatever_numbers_are_in_the_memory_it_can_be_read_and_claimed() {
    for byte in [0xff, 0x01] {
        let mut bytes = valid();
        bytes[32..].fill(byte);
        // A few slots are in use: comparing identities in vain takes its time.
        bytes[32..40].copy_from_slice(&8_u64.to_ne_bytes());
        let file = memory_with(&bytes, SealFlags::SHRINK);
        // A member, so that nothing is reset.
        locks::hold(&file).unwrap();
        let memory = SharedMemory::from_fd(file.try_clone().unwrap().into()).unwrap();
        for index in 1..SLOTS {
            locks::begin_claim(&file, index).unwrap();
            locks::finish_claim(&file, index).unwrap();
        }
        let mut out = Vec::new();
        let build = Build { version: "", revision: "", rustc: "" };
        exposition::render(&mut out, ExpositionFormat::OpenMetrics, &memory.snapshot(), &build);
        assert!(out.ends_with(b"# EOF\n"));
        match memory.claim() {
            Ok(claim) => assert_eq!(claim.get(WORKERS), 1),
            Err(error) => assert!(matches!(error, SharedMemoryError::Full), "{error}"),
        }
    }
}
