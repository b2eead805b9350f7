//! Which processes have the shared memory and which own its slots: locks on bytes of its file that belong to an
//! open file description (fcntl(2)).
//!
//! There are three kinds of bytes. The first one of the header is locked while a process joins, one at a time. The
//! second is shared by all processes that have the memory. The first byte of a slot is locked for writing while
//! the slot is claimed, and for reading afterwards. That excludes other owners as well, and a scrape takes gauges
//! only from a slot that is locked for reading: those of the previous owner are never seen again.

use std::{fs::File, io, os::fd::AsFd as _, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::metrics::shared::{
    SharedMemoryError,
    layout::{HEADER_BYTES, MEMORY_BYTES, SLOT_BYTES},
};

const JOIN_BYTE: usize = 0;
const MEMBERS_BYTE: usize = 1;

/// How often, and at what interval, the lock is tried: two seconds in all, for what takes microseconds unless a
/// process is stopped in the middle.
pub(super) const ATTEMPTS: u32 = 2_000;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

const fn slot_byte(index: usize) -> usize {
    HEADER_BYTES + index * SLOT_BYTES
}

/// The right to join, one process at a time.
#[derive(Debug)]
pub(super) struct MembershipLock(File);

impl MembershipLock {
    /// Takes the lock. Tries again after a pause, up to `attempts` times.
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no event loop yet; the kernel's own wait would have no bound"
    )]
    pub(super) fn begin(file: &File, attempts: u32) -> Result<Self, SharedMemoryError> {
        for attempt in 1..=attempts {
            if set(file, JOIN_BYTE, libc::F_WRLCK)? {
                return Ok(Self(file.try_clone()?));
            }
            if attempt < attempts {
                std::thread::sleep(ATTEMPT_PAUSE);
            }
        }
        Err(SharedMemoryError::Busy)
    }
}

impl Drop for MembershipLock {
    fn drop(&mut self) {
        // Explicitly: the descriptor is a duplicate, and closing it releases nothing.
        drop(set(&self.0, JOIN_BYTE, libc::F_UNLCK));
    }
}

/// Becomes a member, until the description is closed.
pub(super) fn hold(file: &File) -> io::Result<()> {
    set(file, MEMBERS_BYTE, libc::F_RDLCK).map(drop)
}

/// Whether another description is a member or owns a slot.
pub(super) fn is_held_by_others(file: &File) -> io::Result<bool> {
    let all = MEMORY_BYTES - MEMBERS_BYTE;
    Ok(holder(file, MEMBERS_BYTE, all)? != libc::F_UNLCK)
}

/// Whether a slot has an owner, apart from a lock of `file` itself. While it is being claimed it has none: the gauges
/// may be those of the previous owner.
pub(super) fn is_owned_by_other(file: &File, index: usize) -> io::Result<bool> {
    Ok(holder(file, slot_byte(index), 1)? == libc::F_RDLCK)
}

/// Begins to claim a slot. Returns whether it had no owner.
pub(super) fn begin_claim(file: &File, index: usize) -> io::Result<bool> {
    set(file, slot_byte(index), libc::F_WRLCK)
}

/// Completes the claim of a slot. The kernel turns one lock into the other without a gap.
pub(super) fn finish_claim(file: &File, index: usize) -> io::Result<()> {
    set(file, slot_byte(index), libc::F_RDLCK).map(drop)
}

/// Releases a slot.
pub(super) fn release(file: &File, index: usize) -> io::Result<()> {
    set(file, slot_byte(index), libc::F_UNLCK).map(drop)
}

/// Locks or unlocks a byte. Returns whether that was possible.
fn set(file: &File, byte: usize, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&request(byte, 1, kind)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The kind of lock that another description has on one of these bytes.
fn holder(file: &File, first: usize, count: usize) -> io::Result<libc::c_int> {
    let mut lock = request(first, count, libc::F_WRLCK)?;
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type.into())
}

fn request(first: usize, count: usize, kind: libc::c_int) -> io::Result<libc::flock> {
    Ok(libc::flock {
        l_type: narrow(kind)?,
        l_whence: narrow(libc::SEEK_SET)?,
        l_start: narrow(first)?,
        l_len: narrow(count)?,
        l_pid: 0, // as locks of descriptions require
    })
}

fn narrow<From, To: TryFrom<From>>(number: From) -> io::Result<To> {
    number.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}
