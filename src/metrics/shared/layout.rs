//! What is where in the shared memory, and the only view of it: atomic integers, of which every value is valid.
//!
//! The layout does not depend on which metrics a version has: a [`Bank`] says which series it counts. Memory with
//! another [`VERSION`] of the layout is rejected.

#![expect(
    unsafe_code,
    reason = "memory shared with other processes is reached through a pointer from the kernel"
)]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

use memmap2::MmapOptions;
use rustix::process::{Resource, getrlimit};

use crate::metrics::{
    ids::Schema,
    shared::{SharedMemoryError, bank::Bank},
};

/// Maximum number of owners at once: as many as a process knows of on its port.
pub(super) const SLOTS: usize = 256;
const PAGE_BYTES: usize = 4096;
/// Length of a slot: two banks.
pub(super) const SLOT_BYTES: usize = 2 * size_of::<Bank>();
/// Length of the header.
pub(super) const HEADER_BYTES: usize = PAGE_BYTES;
/// Length of the shared memory. The kernel allocates only the pages that are used, two or three for each owner.
pub(super) const MEMORY_BYTES: usize = HEADER_BYTES + SLOTS * SLOT_BYTES;

/// Identifies the shared memory of this program.
const MAGIC: u64 = u64::from_le_bytes(*b"fibsrv/m");
/// The version of the layout.
const VERSION: u64 = 2;
/// What the header begins with.
const IDENTITY: [u64; 4] = [MAGIC, VERSION, SLOTS as u64, SLOT_BYTES as u64];

const WORD_BYTES: usize = size_of::<AtomicU64>();
const HEADER_ROOM: usize = HEADER_BYTES / WORD_BYTES - IDENTITY.len() - 1 - SLOTS;

/// How often a slot is read again if it switches banks meanwhile, which takes the death of an owner each time.
const READ_ATTEMPTS: u32 = 8;

/// The shared memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Layout {
    header: Header,
    slots: [[Bank; 2]; SLOTS],
}

/// Written when a slot is claimed, and not while its owner counts.
#[derive(Debug)]
#[repr(C)]
struct Header {
    identity: [AtomicU64; IDENTITY.len()],
    /// All slots from here on have never had an owner, so that their pages need not be touched.
    used: AtomicU64,
    /// How often each slot has switched banks; 0: neither has ever been filled.
    switches: [AtomicU64; SLOTS],
    room: [AtomicU64; HEADER_ROOM],
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(size_of::<Bank>().is_multiple_of(PAGE_BYTES));
const _: () = assert!(size_of::<Layout>() == MEMORY_BYTES);

impl Layout {
    /// The bank that is in use after so many switches.
    fn bank(&self, index: usize, switches: u64) -> Option<&Bank> {
        let [even, odd] = self.slots.get(index)?;
        match switches {
            0 => None,
            _ if switches.is_multiple_of(2) => Some(even),
            _ => Some(odd),
        }
    }

    /// Prepares a slot for an owner that counts the cells of `schema`. Call it with the slot's lock. Fails if
    /// there is no room for all the counts in the slot.
    pub(super) fn claim(&self, index: usize, schema: &Schema<'_>) -> Option<&Bank> {
        let switches = self.header.switches.get(index)?;
        let current = switches.load(Acquire);
        let bank = match self.bank(index, current) {
            Some(bank) if bank.is_of(schema) => {
                bank.clear_gauges();
                bank
            }
            previous => {
                let next = current.wrapping_add(1).max(1);
                let bank = self.bank(index, next)?;
                // A reader that is still in this bank sees what is written now only together with the switch
                // that ended its use.
                fence(Release);
                if !bank.fill(schema, previous) {
                    return None;
                }
                switches.store(next, Release);
                bank
            }
        };
        self.header.used.fetch_max(index as u64 + 1, Relaxed);
        Some(bank)
    }

    /// Reads the values of the cells of `schema` in a slot, in its order.
    pub(super) fn read(&self, index: usize, schema: &Schema<'_>, values: &mut [u64]) {
        let Some(switches) = self.header.switches.get(index) else { return };
        for _ in 0..READ_ATTEMPTS {
            let current = switches.load(Acquire);
            match self.bank(index, current) {
                Some(bank) => bank.read(schema, values),
                None => values.fill(0),
            }
            // The bank just read is filled anew only after a switch to the other one.
            fence(Acquire);
            if switches.load(Relaxed) == current {
                return;
            }
        }
    }

    /// The number of slots that have had an owner.
    pub(super) fn slots_used(&self) -> usize {
        usize::try_from(self.header.used.load(Relaxed)).unwrap_or(SLOTS).min(SLOTS)
    }

    /// Forgets all counts. Call it while no other process has the memory.
    pub(super) fn reset(&self) {
        for word in self.header.switches.iter().chain([&self.header.used]) {
            word.store(0, Relaxed);
        }
    }
}

/// Checks that the limit of file sizes allows the memory: the kernel ends a process that exceeds it.
pub(super) fn check_limit() -> Result<(), SharedMemoryError> {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    if limit < MEMORY_BYTES as u64 { Err(SharedMemoryError::FileSizeLimit) } else { Ok(()) }
}

/// Writes the identity to a new file.
pub(super) fn write_header(file: &File) -> io::Result<()> {
    for (place, word) in IDENTITY.iter().enumerate() {
        file.write_all_at(&word.to_ne_bytes(), (place * WORD_BYTES) as u64)?;
    }
    Ok(())
}

/// Checks length and identity. Call it before mapping the file.
pub(super) fn check_header(file: &File) -> Result<(), SharedMemoryError> {
    let bytes = file.metadata()?.len();
    if bytes != MEMORY_BYTES as u64 {
        return Err(SharedMemoryError::Size(bytes));
    }
    for (place, word) in IDENTITY.iter().enumerate() {
        let mut found = [0; WORD_BYTES];
        file.read_exact_at(&mut found, (place * WORD_BYTES) as u64)?;
        if u64::from_ne_bytes(found) != *word {
            return Err(SharedMemoryError::Layout);
        }
    }
    Ok(())
}

/// Maps a file that [`check_header`] has accepted and that cannot shrink. It stays mapped until the process exits,
/// so that counting needs neither a look-up nor a reference count. A mapping keeps the open file description:
/// that of `file` must have no locks.
#[expect(clippy::cast_ptr_alignment, reason = "a mapping begins on a page")]
pub(super) fn map(file: &File) -> io::Result<&'static Layout> {
    let mapping = Box::leak(Box::new(MmapOptions::new().len(MEMORY_BYTES).map_raw(file)?));
    let start = mapping.as_ptr().cast::<Layout>();
    // SAFETY: the mapping begins on a page, is as long as a `Layout`, readable and writable, and is never
    // unmapped. The file is sealed against shrinking. Other processes write to it, which is what its atomic
    // integers, of which all values are valid, allow for. No exclusive reference to it is ever made.
    Ok(unsafe { &*start })
}

/// Does what a process does that is killed while it claims a slot: fills a bank and does not switch to it.
#[cfg(test)]
pub(super) fn claim_half(layout: &Layout, index: usize, schema: &Schema<'_>) {
    let switches = layout.header.switches[index].load(Relaxed);
    let previous = layout.bank(index, switches);
    assert!(layout.bank(index, switches + 1).unwrap().fill(schema, previous));
}
