//! What no library offers without `unsafe`: forking, taking descriptors over by their numbers, and an option of
//! listening sockets.
#![expect(unsafe_code, reason = "the three calls below, each with what makes it sound")]

pub mod activation;
pub mod clock;
pub mod listener;
pub mod rlimit;
pub mod signals;

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    libc,
    unistd::{self, ForkResult, Pid},
};
use rustix::{
    fs::OFlags,
    io::{FdFlags, fcntl_setfd},
};

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
/// once for each number. It does not stay open when this process executes another program.
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 || !was_left_open(descriptor) {
        return Err(io::Error::other(format!("descriptor {descriptor} was not inherited")));
    }
    // SAFETY: it is open and none of the standard streams, and it was opened before this program was
    // executed: all that is opened since is to be closed on execution, and this one would not be. So nothing
    // else in the process owns it.
    let adopted = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&adopted, FdFlags::CLOEXEC)?;
    Ok(adopted)
}

/// Has a listening socket keep a connection to itself until the client has sent something, or for about so many
/// seconds if it does not (`TCP_DEFER_ACCEPT`, tcp(7)).
pub fn defer_accept(listener: &impl AsFd, seconds: u8) -> io::Result<()> {
    let value = libc::c_int::from(seconds);
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let socket = listener.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed, and the pointer is to a value that is there
    // until the call returns, of the length that is told. The kernel copies it.
    let status =
        unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a descriptor is open, and would stay so if another program was executed.
fn was_left_open(descriptor: RawFd) -> bool {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn what_is_not_open_or_not_ours_is_not_taken_over() {
        for descriptor in [-1, 0, 1, 2, 1_000_000] {
            assert!(adopt(descriptor).is_err(), "{descriptor}");
        }
        // Open, and somebody's: a number that was told wrong must not give it a second owner.
        let ours = fs::File::open("/dev/null").unwrap();
        adopt(ours.as_raw_fd()).unwrap_err();
    }

    #[test]
    fn with_threads_there_is_no_fork() {
        // The test runner's own threads are enough.
        assert!(matches!(fork(), Err(error) if error.to_string().contains("threads")));
    }
}
