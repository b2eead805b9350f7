//! Files in memory without a name (memfd).

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    io::Errno,
    process::geteuid,
};

use crate::metrics::shared::{
    SharedMemoryError,
    layout::{self, MEMORY_BYTES},
};

/// Creates one with its full length and its header, sealed against shrinking.
pub(super) fn create() -> Result<File, SharedMemoryError> {
    layout::check_limit()?;
    let file = File::from(allocate()?);
    file.set_len(MEMORY_BYTES as u64)?;
    layout::write_header(&file)?;
    // No further seals: another process could seal it against writing.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

fn allocate() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("fibsrv-metrics", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag, later ones may require it.
        Err(Errno::INVAL) => memfd_create("fibsrv-metrics", flags),
        other => other,
    }
}

/// Checks what another process has sent, and opens it as a description of this process. Only plain memory is
/// opened: to open a pipe or a device may block or have side effects.
pub(super) fn check(file: &File) -> Result<File, SharedMemoryError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(SharedMemoryError::File);
    }
    // A file on a disk has none.
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    if !seals.contains(SealFlags::SHRINK) {
        return Err(SharedMemoryError::Shrinkable);
    }
    layout::check_header(file)?;
    Ok(reopen(file)?)
}

/// Opens the same file as a new description. Locks belong to a description, and one that was inherited or received
/// is shared with other processes.
pub(super) fn reopen(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path)
}
