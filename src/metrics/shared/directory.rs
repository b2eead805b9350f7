//! Regions in a directory, for processes that can hand each other nothing.
//!
//! A file gets its name when it is complete, and by linking, which fails if somebody else was faster. It has no
//! name before: so a process that is killed while making it leaves nothing behind. Whoever leaves last removes
//! the name; whoever comes meanwhile finds that the file it has opened has none, and begins again. If all are
//! killed the file stays, and the next to come finds that nobody holds it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, linkat, openat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};

use crate::metrics::shared::{
    SharedMemory, SharedMemoryError,
    layout::{self, REGION_BYTES},
    locks::{self, MembershipLock},
};

/// How often it is tried to get hold of a file that others make and remove meanwhile.
const ATTEMPTS: u32 = 100;

/// Where a region has its name.
#[derive(Debug)]
pub(super) struct NamedFile {
    directory: OwnedFd,
    name: String,
}

/// Enters the region of a port, or makes it.
pub(super) fn join(directory: &Path, port: u16) -> Result<SharedMemory, SharedMemoryError> {
    let home = Arc::new(NamedFile::new(directory, port)?);
    for _ in 0..ATTEMPTS {
        let region = match home.open()? {
            Some(file) => enter(&home, file)?,
            None => create(&home)?,
        };
        if let Some(region) = region {
            return Ok(region);
        }
    }
    Err(SharedMemoryError::Busy)
}

/// Enters what was found under the name, unless it is on its way out.
fn enter(home: &Arc<NamedFile>, file: File) -> Result<Option<SharedMemory>, SharedMemoryError> {
    let life = MembershipLock::begin(&file)?;
    if file.metadata()?.nlink() == 0 {
        return Ok(None);
    }
    if let Err(flaw) = layout::check_header(&file) {
        if locks::is_held_by_others(&file)? {
            return Err(flaw);
        }
        // What nobody uses must not stand in the way for ever.
        home.remove(&file)?;
        return Ok(None);
    }
    SharedMemory::enter(file, Some(Arc::clone(home)), &life).map(Some)
}

/// Makes a new region, unless somebody else is faster.
fn create(home: &Arc<NamedFile>) -> Result<Option<SharedMemory>, SharedMemoryError> {
    layout::check_limit()?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(openat(&home.directory, ".", flags, Mode::RUSR | Mode::WUSR)?);
    // All of it: where there is no room, the first access to a gap would end the process.
    fallocate(&file, FallocateFlags::empty(), 0, REGION_BYTES as u64)?;
    layout::write_header(&file)?;
    locks::hold(&file)?;
    let layout = layout::map(&super::reopen(&file)?)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, path, &home.directory, &home.name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let holder = super::Holder { file, home: Some(Arc::clone(home)) };
    Ok(Some(SharedMemory { layout, holder }))
}

impl NamedFile {
    fn new(directory: &Path, port: u16) -> Result<Self, SharedMemoryError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, directory, flags, Mode::empty())?;
        let metadata = File::from(directory.try_clone()?).metadata()?;
        if !is_ours_alone(&metadata) {
            return Err(SharedMemoryError::Directory);
        }
        let user = geteuid().as_raw();
        let network = fs::metadata("/proc/self/ns/net")?.ino();
        Ok(Self { directory, name: format!("fibsrv-{user}-{network}-{port}.metrics") })
    }

    /// Opens what has the name, if anything has, and if it is a file that only this user can change.
    fn open(&self) -> Result<Option<File>, SharedMemoryError> {
        // Not blocking: it might be a pipe.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match openat(&self.directory, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::ISDIR) => return Err(SharedMemoryError::File),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let is_fit = metadata.is_file() && is_ours_alone(&metadata);
        if is_fit { Ok(Some(file)) } else { Err(SharedMemoryError::File) }
    }

    /// Removes the name if nobody else holds the file.
    pub(super) fn remove_if_last(&self, file: &File) -> Result<(), SharedMemoryError> {
        let _life = MembershipLock::begin(file)?;
        if !locks::is_held_by_others(file)? {
            self.remove(file)?;
        }
        Ok(())
    }

    /// Removes the name, if it is still that of this file.
    fn remove(&self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let named = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (named.st_dev, named.st_ino) == (metadata.dev(), metadata.ino()) {
            unlinkat(&self.directory, &self.name, AtFlags::empty())?;
        }
        Ok(())
    }
}

fn is_ours_alone(metadata: &fs::Metadata) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    metadata.uid() == geteuid().as_raw() && metadata.mode() & OTHERS_MAY_WRITE == 0
}
