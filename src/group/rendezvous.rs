//! Abstract Unix names, by which processes find each other.
//!
//! Such names belong to the network namespace, exactly as the port does. They leave no file, and disappear
//! with the socket that is bound to them, no matter how its process exits. Any process in the namespace may
//! bind any name, so the user is checked wherever it matters.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt::socket_peercred,
    },
};

use crate::sys::{clock::Clock, listener, user};

/// The kernel's list of Unix sockets in the network namespace of this process.
const TABLE: &str = "/proc/net/unix";
/// Maximum number of bytes read from that list. A line has about a hundred bytes.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Maximum number of names tried, including names bound by other users.
const NAMES_MAX: usize = 1024;
/// Maximum number of processes that wait to be accepted, or that wait for the holder of the lock.
const BACKLOG: i32 = 128;
/// Time limit for other processes to finish joining. Each takes milliseconds, or half a second if a member
/// does not respond.
const LOCK_PATIENCE_NS: u64 = 3_000_000_000;
/// Interval between attempts when there is no holder to wait for.
const LOCK_RETRY_NS: u64 = 1_000_000;

/// Socket type in the list: `SOCK_SEQPACKET`, which preserves message boundaries.
const SEQPACKET: &[u8] = b"0005";
/// Flags in the list of a listening socket.
const LISTENS: &[u8] = b"00010000";

/// Why joining failed.
#[derive(Debug)]
pub(super) enum Reason {
    /// A system call failed.
    System(&'static str, io::Error),
    /// A process of another user has bound the name of the lock.
    Stranger,
    /// Other processes held the lock until the time limit.
    Busy,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
            Self::Stranger => f.write_str("another user holds the lock for joining"),
            Self::Busy => f.write_str("others hold the lock for joining for too long"),
        }
    }
}

/// Opens a non-blocking `SOCK_SEQPACKET` socket.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether the process at the other end runs as the same user. If the connection has not been accepted yet,
/// that is the process that listens.
pub(super) fn is_same_user(socket: BorrowedFd<'_>) -> bool {
    socket_peercred(socket).is_ok_and(|peer| user::is_ours(peer.uid))
}

/// Connects to a name without blocking.
pub(super) fn connect_to(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket()?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Binds a socket to a unique name and listens there for processes that join later.
pub(super) fn open_meeting(address: SocketAddr) -> Result<OwnedFd, Reason> {
    let open = || {
        let socket = socket()?;
        // Process ids are not unique: containers may share a port without sharing the ids.
        let name = format!("{}{:x}", prefix(address), listener::identity(&socket)?);
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|error| Reason::System("bind a Unix name", error))
}

/// Lists the names by which processes of the group can be reached.
pub(super) fn list(address: SocketAddr) -> Result<Vec<Vec<u8>>, Reason> {
    let read = || {
        let mut table = Vec::new();
        File::open(TABLE)?.take(TABLE_BYTES_MAX).read_to_end(&mut table)?;
        Ok(find(&table, prefix(address).as_bytes()))
    };
    read().map_err(|error| Reason::System("list Unix names", error))
}

fn prefix(address: SocketAddr) -> String {
    format!("fibsrv.{address}.")
}

fn lock_name(address: SocketAddr) -> String {
    // Not a hexadecimal number, so it differs from all names of processes.
    prefix(address) + "lock"
}

/// Returns the names in the kernel's list that have this prefix and belong to listening sockets, without the
/// lock.
fn find(table: &[u8], prefix: &[u8]) -> Vec<Vec<u8>> {
    let names = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut columns = line.split(|byte| *byte == b' ').filter(|column| !column.is_empty());
        // Number, references, protocol; flags, type; state, inode; path.
        let (flags, kind) = (columns.nth(3)?, columns.next()?);
        let name = columns.nth(2)?.strip_prefix(b"@")?;
        let number = name.strip_prefix(prefix)?;
        let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_hexdigit);
        (flags == LISTENS && kind == SEQPACKET && is_number).then(|| name.to_vec())
    });
    names.take(NAMES_MAX).collect()
}

/// Waits until one of the sockets is readable or closed, or until the time limit.
pub(super) fn wait(sockets: &[BorrowedFd<'_>], patience_ns: u64) -> io::Result<()> {
    let mut sockets: Vec<_> =
        sockets.iter().map(|socket| PollFd::from_borrowed_fd(*socket, PollFlags::IN)).collect();
    let patience = Timespec {
        tv_sec: i64::try_from(patience_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(patience_ns % 1_000_000_000).unwrap_or_default(),
    };
    match poll(&mut sockets, Some(&patience)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lock held while joining, by one process at a time. The kernel releases it when the process exits for any
/// reason.
#[derive(Debug)]
pub(super) struct JoinLock {
    _bound: OwnedFd,
}

impl JoinLock {
    /// Takes the lock. Waits until other processes have released it, up to a time limit.
    pub(super) fn take(address: SocketAddr, clock: &mut Clock) -> Result<Self, Reason> {
        let system = |error| Reason::System("take the lock for joining", error);
        let name = lock_name(address);
        let at = SocketAddrUnix::new_abstract_name(name.as_bytes());
        let at = at.map_err(|error| system(error.into()))?;
        let give_up_at_ns = clock.now_ns().saturating_add(LOCK_PATIENCE_NS);
        while clock.now_ns() < give_up_at_ns {
            let socket = socket().map_err(system)?;
            match bind(&socket, &at) {
                Ok(()) => {
                    // Lets other processes connect. The end of that connection signals that the lock is free.
                    listen(&socket, BACKLOG).map_err(|error| system(error.into()))?;
                    return Ok(Self { _bound: socket });
                }
                Err(Errno::ADDRINUSE) => {}
                Err(error) => return Err(system(error.into())),
            }
            let patience_ns = give_up_at_ns.saturating_sub(clock.now_ns());
            match connect_to(name.as_bytes()) {
                Ok(holder) if is_same_user(holder.as_fd()) => wait(&[holder.as_fd()], patience_ns),
                Ok(_) => return Err(Reason::Stranger),
                // The lock has just been released or just been taken, or its backlog is full.
                Err(_) => wait(&[], patience_ns.min(LOCK_RETRY_NS)),
            }
            .map_err(system)?;
            clock.tick();
        }
        Err(Reason::Busy)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    /// Returns an address for one test. It is never bound, so any address that no other test uses is
    /// suitable.
    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 255, 255, 1], port))
    }

    #[test]
    fn rendezvous_sockets_are_listed_while_they_are_open() {
        let meetings = [1, 1, 2].map(|port| open_meeting(address(port)).unwrap());
        let names = list(address(1)).unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
        for name in &names {
            assert!(is_same_user(connect_to(name).unwrap().as_fd()));
        }
        drop(meetings);
        assert!(list(address(1)).unwrap().is_empty());
        connect_to(&names[0]).unwrap_err();
    }

    #[test]
    fn only_listening_sockets_with_a_matching_name_are_found() {
        let line = |flags: &str, kind: &str, name: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} {kind} 01 12345 {name}\n")
        };
        let table = [
            "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned(),
            line("00010000", "0005", "@fibsrv.a:1.2f"),
            line("00000000", "0005", "@fibsrv.a:1.2a"), // connected
            line("00010000", "0001", "@fibsrv.a:1.2b"), // a stream
            line("00010000", "0005", "fibsrv.a:1.2c"),  // a file
            line("00010000", "0005", "@fibsrv.a:1.lock"),
            line("00010000", "0005", "@fibsrv.a:1."),
            line("00010000", "0005", "@fibsrv.a:11.2d"),
            line("00010000", "0005", ""),
            "x @fibsrv.a:1.2e".to_owned(),
        ]
        .concat();
        assert_eq!(find(table.as_bytes(), b"fibsrv.a:1."), [b"fibsrv.a:1.2f"]);
        let many = line("00010000", "0005", "@fibsrv.a:1.1").repeat(NAMES_MAX + 1);
        assert_eq!(find(many.as_bytes(), b"fibsrv.a:1.").len(), NAMES_MAX);
    }

    #[test]
    fn one_process_at_a_time_holds_the_lock() {
        let is_held = AtomicBool::new(false);
        let turn = || {
            let lock = JoinLock::take(address(3), &mut Clock::new()).unwrap();
            assert!(!is_held.swap(true, Ordering::SeqCst), "two hold the lock");
            is_held.store(false, Ordering::SeqCst);
            drop(lock);
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| turn()));
            }
        });
    }

    #[test]
    fn waiting_for_a_lock_that_is_never_released_times_out() {
        let _lock = JoinLock::take(address(4), &mut Clock::new()).unwrap();
        let mut clock = Clock::new();
        let outcome = JoinLock::take(address(4), &mut clock);
        assert!(matches!(outcome, Err(Reason::Busy)), "{outcome:?}");
        assert!(clock.now_ns() >= LOCK_PATIENCE_NS);
    }
}
