//! The slots of several processes in one piece of memory, so that any of them can tell the sum.
//!
//! A [`SharedMemory`] is a header and 256 pages, a slot each. Every process that holds it maps it; each worker owns a
//! slot through its [`Claim`], and is the only one to write there. Who owns what is told by locks that
//! belong to an open file description, which the kernel frees when its last holder ends, however it ends: no
//! process identifiers that somebody else may come to have, no heartbeat, nobody who has to clean up.
//!
//! Counters stay in a slot when its owner goes, and the next owner goes on from there: so a total never falls,
//! and slots are as many as there were owners at once. Gauges go with the owner. When nobody holds a region any
//! more its life has ended, and whoever comes next begins with zeros.
//!
//! A region that cannot be had, or trusted, is an error with a reason: the worker then counts for itself, in
//! [`Claim::private`].

mod claim;
mod directory;
mod error;
mod layout;
mod locks;
mod memory;

pub use {
    claim::{Claim, Coverage},
    error::SharedMemoryError,
};

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use crate::metrics::{METRICS_SHARED, Owner, Snapshot};
use directory::NamedFile;
use layout::{Layout, SLOTS};
use locks::{Claimed, MembershipLock};

/// Memory with the slots of several processes. It lives as long as somebody holds it or a slot of it.
#[derive(Debug)]
pub struct SharedMemory {
    layout: &'static Layout,
    holder: Holder,
}

impl SharedMemory {
    /// A new region in memory that has no name: others get it by inheritance or are sent its descriptor.
    pub fn in_memory() -> Result<Self, SharedMemoryError> {
        let file = memory::create()?;
        locks::hold(&file)?;
        Ok(Self { layout: layout::map(&reopen(&file)?)?, holder: Holder { file, home: None } })
    }

    /// A region in memory that somebody else has made, and whose descriptor was inherited or received. It is
    /// trusted no further than checks go: whatever numbers are in it, no access to it can fail.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SharedMemoryError> {
        let file = memory::check(&File::from(fd))?;
        let life = MembershipLock::begin(&file)?;
        layout::check_header(&file)?;
        Self::enter(file, None, &life)
    }

    /// The region of a port in a directory of this user, made if there is none. Processes find it by the user,
    /// the network namespace, which is what a port belongs to, and the port. Whoever leaves last removes it.
    pub fn in_directory(directory: &Path, port: u16) -> Result<Self, SharedMemoryError> {
        directory::join(directory, port)
    }

    /// Enters a region: begins a new life if it has nobody. `MembershipLock` keeps others from doing the same meanwhile.
    fn enter(
        file: File,
        home: Option<Arc<NamedFile>>,
        _: &MembershipLock,
    ) -> Result<Self, SharedMemoryError> {
        if !locks::is_held_by_others(&file)? {
            // A full stop: one honest reset, of all counters at once.
            layout::reset(&file)?;
        }
        locks::hold(&file)?;
        Ok(Self { layout: layout::map(&reopen(&file)?)?, holder: Holder { file, home } })
    }

    /// The descriptor, to be handed to other processes. What they do with it is their business: the locks
    /// they take are on descriptions of their own.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.holder.file.as_fd()
    }

    /// Whether others find it by its name, in a directory.
    pub const fn is_named(&self) -> bool {
        self.holder.home.is_some()
    }

    /// Takes the lowest slot that nobody owns. To be called after a fork, in the process that will count: the
    /// slot would have two owners otherwise, as a lock is shared by those who share its description.
    pub fn claim(&self) -> Result<Claim, SharedMemoryError> {
        let file = reopen(&self.holder.file)?;
        for index in 0..SLOTS {
            if !self.layout.may_be_claimed(index) || !locks::begin_claim(&file, index)? {
                continue;
            }
            // Again, under the lock: its owner of a moment ago may have been of a newer version.
            if self.layout.may_be_claimed(index) {
                self.layout.claim(index);
                locks::finish_claim(&file, index)?;
                let holder = Holder { file, home: self.holder.home.clone() };
                return Claim::shared(self.layout, holder, index).ok_or(SharedMemoryError::Full);
            }
            locks::release(&file, index)?;
        }
        Err(SharedMemoryError::Full)
    }

    /// The sum over all slots.
    pub fn snapshot(&self) -> Snapshot {
        sum(self.layout, &self.holder.file, None)
    }

    /// How many slots have been used in this life of the region: as many as ever had an owner at once.
    pub fn slots_used(&self) -> usize {
        self.layout.slots_used()
    }
}

/// The sum over all slots of a region: the counters of all, the gauges of those whose owner lives. `own` is
/// the slot whose lock belongs to `file`, which the kernel does not report to its holder.
fn sum(layout: &Layout, file: &File, own: Option<usize>) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    for (index, slot) in layout.used().enumerate() {
        // If the kernel does not say, its state is not known; the counters are all the same.
        let is_alive = own == Some(index)
            || matches!(locks::claimed_by_other(file, index), Ok(Claimed::Finished));
        snapshot.add(&slot.values(), if is_alive { Owner::Alive } else { Owner::Gone });
    }
    snapshot.set(METRICS_SHARED, 1);
    snapshot
}

/// An open description of a region's file that holds a lock on it.
#[derive(Debug)]
struct Holder {
    file: File,
    home: Option<Arc<NamedFile>>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        // The lock goes when our description is closed. It is not released by hand: a forked process that
        // shares the description would lose it too.
        let Ok(other) = reopen(&self.file) else { return };
        drop(std::mem::replace(&mut self.file, other));
        // Should this fail, the file stays, and whoever comes next finds that nobody holds it.
        drop(home.remove_if_last(&self.file));
    }
}

/// Opens the same file once more, as a description of its own: locks belong to the description, and one that
/// was inherited or received is shared with others.
fn reopen(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path)
}

#[cfg(test)]
mod tests;
