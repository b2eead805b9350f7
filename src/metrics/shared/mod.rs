//! The slots of several processes in one piece of memory, so that each of them can add up all.
//!
//! [`SharedMemory`] is a header and 256 slots. Every process on the port maps it. Each worker owns one slot through
//! its [`Claim`], and is its only writer. Ownership is a lock on an open file description, which the kernel
//! releases when the last process that has the description exits, for whatever reason: there are no process
//! identifiers that could be reused, no heartbeats, and nothing to clean up.
//!
//! Counters stay in a slot when its owner exits, and the next owner continues from there. So a total never falls,
//! and there are as many slots in use as there were owners at once. Gauges are cleared for the next owner. When no
//! process has the memory any more, the next one to open it starts from zero.
//!
//! Processes of different versions share the memory: a slot says which series it counts, by their identities, and
//! keeps the counters that its owner does not know. They are not shown by that version, and are there again for
//! one that knows them.
//!
//! If the memory cannot be had, or fails a check, there is an error with the reason, and the worker counts in
//! private memory ([`Claim::private`]).

mod bank;
mod claim;
mod error;
mod layout;
mod locks;
mod memory;

pub use {
    claim::{Claim, Coverage},
    error::SharedMemoryError,
};

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use crate::metrics::{
    METRICS_SHARED, OwnerState, Snapshot,
    families::CELLS,
    ids::{SCHEMA, Schema},
};
use bank::Bank;
use layout::{Layout, SLOTS};
use locks::MembershipLock;

/// Memory with the slots of several processes. It exists as long as a process has it or a slot in it.
#[derive(Debug)]
pub struct SharedMemory {
    layout: &'static Layout,
    /// The description that holds the membership.
    file: File,
}

impl SharedMemory {
    /// Creates shared memory. It has no name: other processes inherit or receive its descriptor.
    pub fn in_memory() -> Result<Self, SharedMemoryError> {
        let file = memory::create()?;
        locks::hold(&file)?;
        Ok(Self { layout: layout::map(&memory::reopen(&file)?)?, file })
    }

    /// Opens shared memory whose descriptor was inherited or received. What fails a check is rejected; what passes
    /// cannot make an access fail, whatever numbers are in it.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SharedMemoryError> {
        Self::open(fd, locks::ATTEMPTS)
    }

    /// The same without waiting for another process, for an event loop.
    pub fn from_fd_at_once(fd: OwnedFd) -> Result<Self, SharedMemoryError> {
        Self::open(fd, 1)
    }

    fn open(fd: OwnedFd, attempts: u32) -> Result<Self, SharedMemoryError> {
        // This description is a member, too, if a process that still runs or the previous version has opened it. It is
        // closed at the end: between two members of which one joins when the other exits, the counters stay.
        let given = File::from(fd);
        let file = memory::check(&given)?;
        let _lock = MembershipLock::begin(&file, attempts)?;
        let layout = layout::map(&memory::reopen(&file)?)?;
        if !locks::is_held_by_others(&file)? {
            // All processes have exited: one reset, of all counters at once.
            layout.reset();
        }
        locks::hold(&file)?;
        Ok(Self { layout, file })
    }

    /// The descriptor, for other processes. The locks that they take are on descriptions of their own.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Claims the lowest slot that has no owner. Call it after a fork, in the process that will count: processes
    /// that share a description share its locks.
    pub fn claim(&self) -> Result<Claim, SharedMemoryError> {
        let (file, index, bank) = self.claim_as(&SCHEMA)?;
        Ok(Claim::shared(self.layout, file, index, bank.slot()))
    }

    /// Claims a slot for the cells of `schema`: the description that holds its lock, its place, and its bank.
    fn claim_as(
        &self,
        schema: &Schema<'_>,
    ) -> Result<(File, usize, &'static Bank), SharedMemoryError> {
        let file = memory::reopen(&self.file)?;
        for index in 0..SLOTS {
            if !locks::begin_claim(&file, index)? {
                continue;
            }
            if let Some(bank) = self.layout.claim(index, schema) {
                locks::finish_claim(&file, index)?;
                return Ok((file, index, bank));
            }
            locks::release(&file, index)?;
        }
        Err(SharedMemoryError::Full)
    }

    /// The sum over all slots.
    pub fn snapshot(&self) -> Snapshot {
        sum(self.layout, &self.file, None)
    }

    /// How many slots have been used: as many as ever had an owner at once.
    pub fn slots_used(&self) -> usize {
        self.layout.slots_used()
    }
}

/// The sum over all slots: the counters of all, and the gauges of those that have an owner. `own` is the slot whose
/// lock belongs to `file`, which the kernel does not report to its holder.
fn sum(layout: &Layout, file: &File, own: Option<usize>) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let mut values = [0; CELLS];
    for index in 0..layout.slots_used() {
        layout.read(index, &SCHEMA, &mut values);
        // If the kernel reports an error, the slot counts as one without an owner.
        let is_alive = own == Some(index) || locks::is_owned_by_other(file, index).unwrap_or(false);
        snapshot.add(&values, if is_alive { OwnerState::Alive } else { OwnerState::Gone });
    }
    snapshot.set(METRICS_SHARED, 1);
    snapshot
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod version_tests;
