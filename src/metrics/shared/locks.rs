//! Who holds a region and who owns its slots: locks on bytes of its file, of the kind that belongs to an open
//! file description (fcntl(2)).
//!
//! Three kinds of bytes. The first one of the header makes entering and leaving one at a time. The second is
//! held, in common, by everybody who has the region. The first one of a page is its slot's: locked for writing
//! while it is being claimed, then for reading, which keeps others out as well, and tells those who scrape
//! that the gauges of the dead are gone.

use std::{fs::File, io, os::fd::AsFd as _, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::metrics::shared::{
    SharedMemoryError,
    layout::{PAGE_BYTES, REGION_BYTES},
};

const LIFE_BYTE: usize = 0;
const HOLDERS_BYTE: usize = 1;

/// How often, and how far apart, it is tried to begin, should others be at it: seconds in all, for something
/// that takes microseconds unless its process has been stopped in the middle.
const ATTEMPTS: u32 = 2_000;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

const fn slot_byte(index: usize) -> usize {
    (index + 1) * PAGE_BYTES
}

/// The right to enter or leave a region, one at a time.
#[derive(Debug)]
pub(super) struct MembershipLock(File);

impl MembershipLock {
    /// Waits for it, but not for ever.
    #[expect(
        clippy::disallowed_methods,
        reason = "before there is a loop, or after; a wait of the kernel's would have no bound"
    )]
    pub(super) fn begin(file: &File) -> Result<Self, SharedMemoryError> {
        for _ in 0..ATTEMPTS {
            if set(file, LIFE_BYTE, libc::F_WRLCK)? {
                return Ok(Self(file.try_clone()?));
            }
            std::thread::sleep(ATTEMPT_PAUSE);
        }
        Err(SharedMemoryError::Busy)
    }
}

impl Drop for MembershipLock {
    fn drop(&mut self) {
        // By hand: the descriptor is a duplicate, and closing it frees nothing.
        drop(set(&self.0, LIFE_BYTE, libc::F_UNLCK));
    }
}

/// Holds the region, until the description is closed.
pub(super) fn hold(file: &File) -> io::Result<()> {
    set(file, HOLDERS_BYTE, libc::F_RDLCK).map(drop)
}

/// Whether somebody else has the region or a slot of it.
pub(super) fn is_held_by_others(file: &File) -> io::Result<bool> {
    let all = REGION_BYTES - HOLDERS_BYTE;
    Ok(holder(file, HOLDERS_BYTE, all)? != libc::F_UNLCK)
}

/// How a slot stands, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It has no owner.
    Not,
    /// Its owner has not zeroed the gauges yet.
    Begun,
    /// It has an owner.
    Finished,
}

/// How the slot stands with those who are not `file`.
pub(super) fn claimed_by_other(file: &File, index: usize) -> io::Result<Claimed> {
    Ok(match holder(file, slot_byte(index), 1)? {
        libc::F_RDLCK => Claimed::Finished,
        libc::F_WRLCK => Claimed::Begun,
        _ => Claimed::Not,
    })
}

/// Takes the slot, if nobody has it.
pub(super) fn begin_claim(file: &File, index: usize) -> io::Result<bool> {
    set(file, slot_byte(index), libc::F_WRLCK)
}

/// Tells that the slot has been claimed. The kernel turns one lock into the other without a gap.
pub(super) fn finish_claim(file: &File, index: usize) -> io::Result<()> {
    set(file, slot_byte(index), libc::F_RDLCK).map(drop)
}

/// Gives the slot back.
pub(super) fn release(file: &File, index: usize) -> io::Result<()> {
    set(file, slot_byte(index), libc::F_UNLCK).map(drop)
}

/// Locks or unlocks a byte; says whether that was possible.
fn set(file: &File, byte: usize, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&request(byte, 1, kind)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The kind of a lock that another description has on one of these bytes.
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
        l_pid: 0, // which tells this kind of lock from the older one
    })
}

fn narrow<From, To: TryFrom<From>>(number: From) -> io::Result<To> {
    number.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}
