//! Regions within one process: locks belong to descriptions, so several owners can be had in one.
//! `tests/shared_metrics` has real processes, and those that are killed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::*;
use crate::metrics::{
    Build, CONNECTIONS, CONNECTIONS_ACCEPTED, Format, PROCESS_CPU, Process, WORKERS, exposition,
};

/// A description of its own that holds nothing, and keeps the memory.
fn spare(region: &SharedMemory) -> OwnedFd {
    reopen(&region.holder.file).unwrap().into()
}

/// Another process, as far as locks are concerned.
fn other(region: &SharedMemory) -> SharedMemory {
    SharedMemory::from_fd(region.fd().try_clone_to_owned().unwrap()).unwrap()
}

fn accepted(region: &SharedMemory) -> u64 {
    region.snapshot().get(CONNECTIONS_ACCEPTED)
}

#[test]
fn counters_stay_and_gauges_go() {
    let region = SharedMemory::in_memory().unwrap();
    let (first, second) = (region.claim().unwrap(), other(&region));
    let second = second.claim().unwrap();
    for counters in [&first, &second] {
        counters.add(CONNECTIONS_ACCEPTED, 10);
        counters.set(CONNECTIONS, 3);
    }
    for snapshot in [first.snapshot(), second.snapshot(), region.snapshot()] {
        assert_eq!((snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(CONNECTIONS)), (20, 6));
        assert_eq!((snapshot.get(WORKERS), snapshot.get(METRICS_SHARED)), (2, 1));
    }
    drop(first);
    let snapshot = second.snapshot();
    assert_eq!(
        (snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(CONNECTIONS), snapshot.get(WORKERS)),
        (20, 3, 1)
    );
    let third = region.claim().unwrap();
    third.add(CONNECTIONS_ACCEPTED, 1);
    let snapshot = third.snapshot();
    assert_eq!(
        (snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(CONNECTIONS), snapshot.get(WORKERS)),
        (21, 3, 2)
    );
    assert_eq!((region.slots_used(), snapshot.get(METRICS_SHARED)), (2, 1));
}

#[test]
fn private_counters_are_those_of_one() {
    let mut counters = Claim::private();
    counters.add(CONNECTIONS_ACCEPTED, 1);
    counters.record_process(&Process { cpu_time_ns: 5, start_time_ns: 1, ..Process::default() });
    counters.record_process(&Process { cpu_time_ns: 7, start_time_ns: 1, ..Process::default() });
    let moved = Box::new(counters);
    let snapshot = moved.snapshot();
    assert_eq!(
        (snapshot.get(CONNECTIONS_ACCEPTED), snapshot.get(WORKERS), snapshot.get(METRICS_SHARED)),
        (1, 1, 0)
    );
    assert_eq!(snapshot.get(PROCESS_CPU), 7);
}

#[test]
fn the_lowest_free_slot_is_taken_until_all_are() {
    let region = SharedMemory::in_memory().unwrap();
    let mut owners: Vec<_> = (0..SLOTS).map(|_| region.claim().unwrap()).collect();
    assert!(matches!(region.claim(), Err(SharedMemoryError::Full)));
    for counters in &owners {
        counters.add(CONNECTIONS_ACCEPTED, 1);
    }
    assert_eq!((accepted(&region), region.snapshot().get(WORKERS)), (256, 256));
    drop(owners.remove(7));
    let again = region.claim().unwrap();
    assert_eq!(again.get(CONNECTIONS_ACCEPTED), 1, "where the last owner stopped");
    assert!(matches!(other(&region).claim(), Err(SharedMemoryError::Full)));
    assert_eq!(region.slots_used(), SLOTS);
}

#[test]
fn an_owner_is_seen_when_its_gauges_are_its_own() {
    let region = SharedMemory::in_memory().unwrap();
    let dead = region.claim().unwrap();
    dead.set(CONNECTIONS, 9);
    drop(dead);
    let claiming = reopen(&region.holder.file).unwrap();
    assert!(locks::begin_claim(&claiming, 0).unwrap());
    assert_eq!(locks::claimed_by_other(&region.holder.file, 0).unwrap(), Claimed::Begun);
    assert_eq!(region.snapshot().get(CONNECTIONS), 0);
    locks::finish_claim(&claiming, 0).unwrap();
    assert_eq!(locks::claimed_by_other(&region.holder.file, 0).unwrap(), Claimed::Finished);
    assert!(!locks::begin_claim(&region.holder.file, 0).unwrap());
    locks::release(&claiming, 0).unwrap();
    assert_eq!(locks::claimed_by_other(&region.holder.file, 0).unwrap(), Claimed::Not);
}

#[test]
fn what_a_newer_version_adds_is_ignored_and_its_slot_left_alone() {
    let region = SharedMemory::in_memory().unwrap();
    let newer = region.claim().unwrap();
    newer.add(CONNECTIONS_ACCEPTED, 5);
    let before = region.snapshot();
    layout::extend(&region.holder.file, 0, u64::MAX);
    assert_eq!(region.snapshot(), before);
    drop(newer);
    let older = region.claim().unwrap();
    older.add(CONNECTIONS_ACCEPTED, 2);
    assert_eq!((region.slots_used(), older.get(CONNECTIONS_ACCEPTED)), (2, 2));
    assert_eq!((accepted(&region), older.snapshot().get(WORKERS)), (7, 1));
}

#[test]
fn a_full_stop_is_one_reset() {
    let region = SharedMemory::in_memory().unwrap();
    let fd = spare(&region);
    let counters = region.claim().unwrap();
    counters.add(CONNECTIONS_ACCEPTED, 5);
    layout::extend(&region.holder.file, 1, 77);
    drop(region);
    let region = SharedMemory::from_fd(fd.try_clone().unwrap()).unwrap();
    assert_eq!(accepted(&region), 5, "a slot has an owner");
    drop(counters);
    let still = SharedMemory::from_fd(fd.try_clone().unwrap()).unwrap();
    assert_eq!(accepted(&still), 5, "somebody has it, who may start another worker");
    drop((region, still));
    let region = SharedMemory::from_fd(fd).unwrap();
    assert_eq!((region.snapshot(), region.slots_used()), (with_sharing(Snapshot::empty()), 0));
    let counters = [region.claim().unwrap(), region.claim().unwrap()];
    assert_eq!((counters[1].snapshot().get(WORKERS), region.slots_used()), (2, 2));
}

fn with_sharing(mut snapshot: Snapshot) -> Snapshot {
    snapshot.set(METRICS_SHARED, 1);
    snapshot
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
fn what_is_no_region_is_refused() {
    let seals = SealFlags::SHRINK | SealFlags::GROW;
    let check = |what: &str, fd: OwnedFd, reason: &str| match SharedMemory::from_fd(fd) {
        Ok(_) => panic!("{what} was accepted"),
        Err(error) => assert!(error.to_string().contains(reason), "{what}: {error}"),
    };
    assert!(SharedMemory::from_fd(memory_with(&valid(), seals).into()).is_ok());
    check("no seals", memory_with(&valid(), SealFlags::empty()).into(), "sealed");
    check("may shrink", memory_with(&valid(), SealFlags::GROW).into(), "sealed");
    check("read only", memory_with(&valid(), seals | SealFlags::WRITE).into(), "");
    check("nothing", memory_with(b"", seals).into(), "bytes long");
    let short = &valid()[..layout::REGION_BYTES - 1];
    check("truncated", memory_with(short, seals).into(), "bytes long");
    check("too long", memory_with(&[&valid()[..], b"x"].concat(), seals).into(), "bytes long");
    for place in [0, 8, 16, 24] {
        let mut bytes = valid();
        bytes[place] ^= 1;
        check("another header", memory_with(&bytes, seals).into(), "laid out");
    }
    check("a directory", File::open(".").unwrap().into(), "file");
    check("a pipe", io::pipe().unwrap().0.into(), "file");
    check("a device", File::open("/dev/zero").unwrap().into(), "file");
    check("a file on a disk", File::open("/proc/self/exe").unwrap().into(), "");
    let foreign = memory_with(&valid(), seals);
    if std::os::unix::fs::fchown(&foreign, Some(1), None).is_ok() {
        check("another user's", foreign.into(), "user");
    }
}

#[test]
fn any_numbers_are_numbers() {
    let mut bytes = valid();
    bytes[32..].fill(0xff);
    let file = memory_with(&bytes, SealFlags::SHRINK);
    // Somebody lives there, so that nothing is reset.
    locks::hold(&file).unwrap();
    let region = SharedMemory::from_fd(file.try_clone().unwrap().into()).unwrap();
    assert!(matches!(region.claim(), Err(SharedMemoryError::Full)), "all are of a newer version");
    for index in 0..SLOTS {
        locks::begin_claim(&file, index).unwrap();
        locks::finish_claim(&file, index).unwrap();
    }
    let mut out = Vec::new();
    let build = Build { version: "", revision: "", rustc: "" };
    exposition::render(&mut out, Format::OpenMetrics, &region.snapshot(), &build);
    assert!(out.ends_with(b"# EOF\n"));
}

/// A directory that is removed in the end.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fibsrv-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn join(&self) -> Result<SharedMemory, SharedMemoryError> {
        SharedMemory::in_directory(&self.0, 3000)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn in_a_directory_the_last_to_leave_removes_the_file() {
    let directory = Directory::new("last");
    let first = directory.join().unwrap();
    let counters = first.claim().unwrap();
    counters.add(CONNECTIONS_ACCEPTED, 4);
    drop(first);
    let second = directory.join().unwrap();
    assert_eq!(accepted(&second), 4);
    let other_port = SharedMemory::in_directory(&directory.0, 3001).unwrap();
    assert_eq!((accepted(&other_port), directory.files().len()), (0, 2));
    drop((other_port, counters));
    assert_eq!((accepted(&second), directory.files().len()), (4, 1));
    drop(second);
    assert_eq!(directory.files(), [""; 0].map(PathBuf::from));
    assert_eq!(accepted(&directory.join().unwrap()), 0);
}

#[test]
fn what_was_left_behind_does_not_stand_in_the_way() {
    let directory = Directory::new("left");
    let region = directory.join().unwrap();
    let path = directory.files().pop().unwrap();
    drop(region);
    for contents in [vec![], b"garbage".to_vec(), vec![0xff; layout::REGION_BYTES], valid()] {
        fs::write(&path, contents).unwrap();
        let region = directory.join().unwrap();
        assert_eq!((accepted(&region), directory.files().len()), (0, 1));
        drop(region);
        assert_eq!(directory.files().len(), 0);
    }
    // Unless somebody uses it, in a way we do not know.
    fs::write(&path, b"garbage").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    locks::hold(&file).unwrap();
    assert!(matches!(directory.join(), Err(SharedMemoryError::Size(_))));
    assert_eq!(fs::read(&path).unwrap(), b"garbage");
}

#[test]
fn what_others_could_have_made_is_not_trusted() {
    let directory = Directory::new("trust");
    let path = {
        let _region = directory.join().unwrap();
        directory.files().pop().unwrap()
    };
    symlink("/dev/zero", &path).unwrap();
    assert!(matches!(directory.join(), Err(SharedMemoryError::File)), "a symbolic link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(directory.join(), Err(SharedMemoryError::File)), "a directory");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, valid()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(directory.join(), Err(SharedMemoryError::File)), "a file of others too");
    fs::remove_file(&path).unwrap();
    fs::set_permissions(&directory.0, Permissions::from_mode(0o770)).unwrap();
    assert!(
        matches!(directory.join(), Err(SharedMemoryError::Directory)),
        "a directory of others too"
    );
    let nowhere = directory.0.join("nowhere");
    assert!(matches!(SharedMemory::in_directory(&nowhere, 1), Err(SharedMemoryError::System(_))));
}
