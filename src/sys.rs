//! What no library offers without `unsafe`: forking, and taking descriptors over by their numbers.
#![expect(unsafe_code, reason = "the two calls below, each with what makes it sound")]

use std::{
    fs, io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    path::PathBuf,
};

use nix::unistd::{self, ForkResult, Pid};

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The process that called, and the id of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks this process, which must have no second thread: then the child is as whole as its parent.
pub fn fork() -> io::Result<Fork> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads")));
    }
    // SAFETY: there is one thread, so no lock is held and nothing is half done in the child's memory; and
    // as nobody else runs, none can have been started since that was looked at.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Takes over an open descriptor that whoever executed this program has told the number of. To be called
/// once for each number.
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2
        || fs::read_link(PathBuf::from(format!("/proc/self/fd/{descriptor}"))).is_err()
    {
        return Err(io::Error::other(format!("{descriptor} is no descriptor to take over")));
    }
    // SAFETY: it is open, it is none of the standard streams, and it was opened before this program was
    // executed and left open for it alone, so nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_or_not_ours_is_not_taken_over() {
        for descriptor in [-1, 0, 1, 2, 1_000_000] {
            assert!(adopt(descriptor).is_err(), "{descriptor}");
        }
    }

    #[test]
    fn with_threads_there_is_no_fork() {
        // The test runner's own threads are enough.
        assert!(matches!(fork(), Err(error) if error.to_string().contains("threads")));
    }
}
