//! Regions in memory without a name (memfd).

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    io::Errno,
    process::geteuid,
};

use crate::metrics::shared::{
    SharedMemoryError,
    layout::{self, REGION_BYTES},
    reopen,
};

/// Makes one: of its full length and sealed before anybody can see it.
pub(super) fn create() -> Result<File, SharedMemoryError> {
    layout::check_limit()?;
    let file = File::from(allocate()?);
    file.set_len(REGION_BYTES as u64)?;
    layout::write_header(&file)?;
    // No further seals: others could seal it against writing.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

fn allocate() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("fibsrv-metrics", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag, later ones may insist on it.
        Err(Errno::INVAL) => memfd_create("fibsrv-metrics", flags),
        other => other,
    }
}

/// Checks what somebody else says is one, and opens it as a description of our own. It is not opened before
/// it is known to be plain memory: to open a pipe or a device may do something, or wait for ever.
pub(super) fn check(file: &File) -> Result<File, SharedMemoryError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(SharedMemoryError::File);
    }
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty()); // those of a file on a disk
    if !seals.contains(SealFlags::SHRINK) {
        return Err(SharedMemoryError::Shrinkable);
    }
    Ok(reopen(file)?)
}
