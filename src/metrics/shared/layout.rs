//! What lies where in a region, and the only view of it: atomic integers, of which every value is valid.
//!
//! Versions: fields are added at the end of [`Slot`], and each page tells how much of it its owners have known.
//! An older process reads the part it knows. It does not take a slot that a newer one has had, whose later
//! gauges it could not zero. Another order of the fields is another [`VERSION`], which others refuse.

#![expect(
    unsafe_code,
    reason = "memory shared with other processes is reached through a pointer from the kernel"
)]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use memmap2::MmapOptions;
use rustix::process::{Resource, getrlimit};

use crate::metrics::{Slot, shared::SharedMemoryError};

/// Most owners at once: as many as a process of a group keeps in touch with.
pub(super) const SLOTS: usize = 256;
pub(super) const PAGE_BYTES: usize = 4096;
/// Length of a region.
pub(super) const REGION_BYTES: usize = PAGE_BYTES * (1 + SLOTS);

/// Says that a file is a region of this program.
const MAGIC: u64 = u64::from_le_bytes(*b"fibsrv/m");
/// To be raised when the order of the fields of [`Slot`] changes, other than by new ones at the end.
const VERSION: u64 = 1;
/// What the header begins with.
const IDENTITY: [u64; 4] = [MAGIC, VERSION, SLOTS as u64, PAGE_BYTES as u64];

const WORD_BYTES: usize = size_of::<AtomicU64>();
const PAGE_WORDS: usize = PAGE_BYTES / WORD_BYTES;
const HEADER_ROOM: usize = PAGE_WORDS - IDENTITY.len() - 1;
const SLOT_ROOM: usize = PAGE_WORDS - size_of::<Slot>() / WORD_BYTES - 1;

/// A region.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Layout {
    header: Header,
    pages: [Page; SLOTS],
}

#[derive(Debug)]
#[repr(C)]
struct Header {
    identity: [AtomicU64; IDENTITY.len()],
    /// All slots from here on have never had an owner, so that their pages need not be touched.
    used: AtomicU64,
    room: [AtomicU64; HEADER_ROOM],
}

#[derive(Debug)]
#[repr(C)]
struct Page {
    slot: Slot,
    room: [AtomicU64; SLOT_ROOM],
    /// The most bytes of a slot that an owner has known.
    known_bytes: AtomicU64,
}

const _: () = assert!(size_of::<Page>() == PAGE_BYTES && size_of::<Header>() == PAGE_BYTES);
const _: () = assert!(size_of::<Layout>() == REGION_BYTES);

impl Layout {
    fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index)
    }

    pub(super) fn slot(&self, index: usize) -> Option<&Slot> {
        self.page(index).map(|page| &page.slot)
    }

    /// Whether all gauges of a slot are known to this version.
    pub(super) fn may_be_claimed(&self, index: usize) -> bool {
        self.page(index)
            .is_some_and(|page| page.known_bytes.load(Relaxed) <= size_of::<Slot>() as u64)
    }

    /// Makes a slot the caller's, who holds its lock.
    pub(super) fn claim(&self, index: usize) {
        if let Some(page) = self.page(index) {
            page.slot.claim();
            page.known_bytes.store(size_of::<Slot>() as u64, Relaxed);
            // The one word that several processes write, a few times in their lives.
            self.header.used.fetch_max(index as u64 + 1, Relaxed);
        }
    }

    pub(super) fn slots_used(&self) -> usize {
        usize::try_from(self.header.used.load(Relaxed)).unwrap_or(SLOTS).min(SLOTS)
    }

    /// The slots that have had an owner, from the first on.
    pub(super) fn used(&self) -> impl Iterator<Item = &Slot> {
        self.pages.iter().take(self.slots_used()).map(|page| &page.slot)
    }
}

/// Zeroes everything but the identity, also what only a newer version knows. To be called while nobody counts.
/// Through the file: what is mapped is the same pages.
pub(super) fn reset(file: &File) -> Result<(), SharedMemoryError> {
    check_limit()?;
    let identity_bytes = size_of_val(&IDENTITY);
    let zeros = vec![0; REGION_BYTES - identity_bytes];
    Ok(file.write_all_at(&zeros, identity_bytes as u64)?)
}

/// The kernel ends a process that writes to a file beyond this limit, unless it has been told otherwise.
pub(super) fn check_limit() -> Result<(), SharedMemoryError> {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    if limit < REGION_BYTES as u64 { Err(SharedMemoryError::FileSizeLimit) } else { Ok(()) }
}

/// The identity, for a new file.
pub(super) fn write_header(file: &File) -> io::Result<()> {
    for (place, word) in IDENTITY.iter().enumerate() {
        file.write_all_at(&word.to_ne_bytes(), (place * WORD_BYTES) as u64)?;
    }
    Ok(())
}

/// Whether a file is long enough and was laid out as we know it. Nothing is mapped before that.
pub(super) fn check_header(file: &File) -> Result<(), SharedMemoryError> {
    let bytes = file.metadata()?.len();
    if bytes != REGION_BYTES as u64 {
        return Err(SharedMemoryError::Size(REGION_BYTES as u64));
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

/// Maps a file whose length is that of a region, and cannot become less. It stays mapped until the process
/// exits, so that counting needs neither a look-up nor a reference count. A mapping keeps the open file
/// description: that of `file` must have no locks.
#[expect(clippy::cast_ptr_alignment, reason = "a mapping begins on a page")]
pub(super) fn map(file: &File) -> io::Result<&'static Layout> {
    let mapping = Box::leak(Box::new(MmapOptions::new().len(REGION_BYTES).map_raw(file)?));
    let start = mapping.as_ptr().cast::<Layout>();
    // SAFETY: the mapping begins on a page, is as long as a `Layout`, readable and writable, and is never
    // unmapped. The file below cannot shrink: memory is sealed against it, and a file is this user's alone.
    // Other processes write to it, which is what its atomic integers, of which all values are valid, allow for.
    // No exclusive reference to it is ever made.
    Ok(unsafe { &*start })
}

/// Does what a version that knows more fields does to a slot: writes behind those we know.
#[cfg(test)]
pub(super) fn extend(file: &File, index: usize, word: u64) {
    let start = (PAGE_BYTES * (index + 1) + size_of::<Slot>()) as u64;
    let more = std::iter::repeat_n(word.to_ne_bytes(), SLOT_ROOM).flatten();
    let known_bytes = ((size_of::<Slot>() + WORD_BYTES) as u64).to_ne_bytes();
    file.write_all_at(&more.chain(known_bytes).collect::<Vec<_>>(), start).unwrap();
}
