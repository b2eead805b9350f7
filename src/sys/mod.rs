//! System calls that no library offers without `unsafe`: forking, adopting descriptors by number, setting
//! signal dispositions, options and figures of sockets, and returning
//! free memory.
#![expect(unsafe_code, reason = "the seven calls below, each with what makes it sound")]

pub mod activation;
pub mod cgroup;
pub mod clock;
pub mod listener;
pub mod rlimit;
pub mod send_buffer;
pub mod signals;
pub mod user;

use std::{
    fs, io,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    libc,
    sys::signal::{SigHandler, Signal, signal},
    unistd::{self, ForkResult, Pid},
};
use rustix::{
    fs::OFlags,
    io::{FdFlags, fcntl_setfd},
};

/// Side of a fork.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The calling process, with the id of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks this process. It must have a single thread, so that the child is a complete copy.
pub fn fork() -> io::Result<Fork> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads")));
    }
    // SAFETY: there is one thread, so no lock is held and no operation is incomplete in the child's memory.
    // No other thread can have been started since the count was read, as only this one runs.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Sets the disposition of a signal; returns the previous one.
pub(crate) fn set_disposition(number: Signal, handler: SigHandler) -> io::Result<SigHandler> {
    if !matches!(handler, SigHandler::SigDfl | SigHandler::SigIgn) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the default action or none is installed, so no code of this process ever runs in a handler.
    Ok(unsafe { signal(number, handler) }?)
}

/// Adopts an open descriptor whose number was passed by the program that executed this one. Call it once for
/// each number. The descriptor is closed when this process executes another program.
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 || !was_left_open(descriptor) {
        return Err(io::Error::other(format!("descriptor {descriptor} was not inherited")));
    }
    // SAFETY: it is open and not one of the standard streams. It was opened before this program was executed:
    // all descriptors opened since are close-on-exec, and this one is not. So nothing else in the process
    // owns it.
    let adopted = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&adopted, FdFlags::CLOEXEC)?;
    Ok(adopted)
}

/// Makes the kernel hold back a connection from `accept` until the client has sent data. If it sends none,
/// the kernel does so for about this many seconds (`TCP_DEFER_ACCEPT`, tcp(7)).
pub fn defer_accept(listener: &impl AsFd, seconds: u8) -> io::Result<()> {
    set_option(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds.into())
}

/// Lets the kernel size the send buffer again, as before `SO_SNDBUF` was set (`SO_BUF_LOCK`, Linux 5.14). The
/// receive buffer keeps its size.
pub fn unlock_send_buffer(socket: &impl AsFd) -> io::Result<()> {
    const SO_BUF_LOCK: libc::c_int = 72;
    const SOCK_RCVBUF_LOCK: libc::c_int = 2;
    set_option(socket, libc::SOL_SOCKET, SO_BUF_LOCK, SOCK_RCVBUF_LOCK)
}

/// Returns the number of bytes in the send buffer: not sent yet, or not acknowledged (`SIOCOUTQ`, tcp(7)).
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed. The kernel writes one int to the pointer, which is
    // to an int that exists until the call returns.
    let status = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if status == 0 {
        u64::try_from(bytes).map_err(io::Error::other)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the number of connections that wait to be accepted (`TCP_INFO`, tcp(7)).
pub fn accept_queue_length(listener: &impl AsFd) -> io::Result<u32> {
    // The field has this meaning for a listening socket. The kernel omits what follows it.
    const FIELD: usize = offset_of!(libc::tcp_info, tcpi_unacked) / size_of::<u32>();
    let mut info = [0_u32; FIELD + 1];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let listener = listener.as_fd().as_raw_fd();
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the descriptor is open for as long as it is borrowed. The kernel writes at most `length` bytes to the
    // array, which exists until the call returns and for which all bits are valid.
    let status = unsafe {
        libc::getsockopt(listener, level, name, info.as_mut_ptr().cast(), &raw mut length)
    };
    if status == 0 { Ok(info[FIELD]) } else { Err(io::Error::last_os_error()) }
}

fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed. The pointer is to a value of the given
    // length that exists until the call returns. The kernel copies it.
    let status =
        unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns free memory of the allocator to the system. Allocators other than that of glibc do so on their own.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, and is safe to call in any thread.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Whether a descriptor is open and not close-on-exec.
fn was_left_open(descriptor: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
        thread,
    };

    use super::*;

    #[test]
    fn closed_and_owned_descriptors_are_not_adopted() {
        for descriptor in [-1, 0, 1, 2, 1_000_000] {
            assert!(adopt(descriptor).is_err(), "{descriptor}");
        }
        // Open and owned. A wrong number must not create a second owner.
        let ours = fs::File::open("/dev/null").unwrap();
        adopt(ours.as_raw_fd()).unwrap_err();
    }

    #[test]
    fn connections_in_the_accept_queue_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for waiting in 0..3 {
            assert_eq!(accept_queue_length(&listener).unwrap(), waiting);
            clients.push(TcpStream::connect(address).unwrap());
            // A client is connected a moment before the connection is in the queue.
            let has_arrived = |_| {
                thread::yield_now();
                accept_queue_length(&listener).unwrap() > waiting
            };
            assert!((0..1_000_000).any(has_arrived));
        }
        listener.accept().unwrap();
        assert_eq!(accept_queue_length(&listener).unwrap(), 2);
        accept_queue_length(&fs::File::open("/dev/null").unwrap()).unwrap_err();
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test runner's own threads are enough.
        assert!(matches!(fork(), Err(error) if error.to_string().contains("threads")));
    }
}
