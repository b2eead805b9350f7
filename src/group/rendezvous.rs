//! Abstract Unix names: where processes find each other.
//!
//! Such names live in the network namespace, exactly as the port does, leave no file, and go with the socket
//! that is bound to them, however its process ends. Anybody in the namespace may bind any name: who it was
//! is checked wherever it matters.

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

/// Where the kernel lists the Unix sockets of this process's network namespace.
const TABLE: &str = "/proc/net/unix";
/// How much of that list is read. A line has about a hundred bytes.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many names are tried, whoever has bound them.
const NAMES_MAX: usize = 1024;
/// Processes that may wait to be met, or wait for the one that joins.
const BACKLOG: i32 = 128;
/// How long to wait for others that join. Each takes milliseconds, or half a second if one does not answer.
const LOCK_PATIENCE_NS: u64 = 3_000_000_000;
/// When to try again where there is nothing to be waited for.
const LOCK_RETRY_NS: u64 = 1_000_000;

/// Socket type in the list: the one that keeps the boundaries of messages.
const SEQPACKET: &[u8] = b"0005";
/// Flags in the list: listens.
const LISTENS: &[u8] = b"00010000";

/// Why there is no group.
#[derive(Debug)]
pub(super) enum Reason {
    /// The system does not let us.
    System(&'static str, io::Error),
    /// The name that lets one process join at a time belongs to another user.
    Stranger,
    /// Others have joined for all the time.
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

/// A non-blocking socket of the kind that is used here.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether the process at the other end runs for the same user. At a listening socket it is the one that
/// listens, whether it accepts or not.
pub(super) fn is_same_user(socket: BorrowedFd<'_>) -> bool {
    socket_peercred(socket).is_ok_and(|peer| user::is_ours(peer.uid))
}

/// Connects to a name; does not wait.
pub(super) fn connect_to(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket()?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Binds a socket to a name that nobody else has, and listens there for processes that come later.
pub(super) fn open_meeting(address: SocketAddr) -> Result<OwnedFd, Reason> {
    let open = || {
        let socket = socket()?;
        // Process ids are no names: containers may share a port and not their ids.
        let name = format!("{}{:x}", prefix(address), listener::identity(&socket)?);
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|error| Reason::System("bind a Unix name", error))
}

/// The names at which processes of the group can be met.
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
    // No number in hexadecimal.
    prefix(address) + "lock"
}

/// The names in the kernel's list that begin so, and where somebody listens; without the lock.
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

/// Waits until there is something to read, or an end, at one of these; not longer than that.
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

/// Held while joining, one process at a time. The kernel frees it when the process ends in whichever way.
#[derive(Debug)]
pub(super) struct JoinLock {
    _bound: OwnedFd,
}

impl JoinLock {
    /// Takes the lock, when those who have it are through.
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
                    // So that others can connect, and learn by the end of that when the lock is free.
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
                // It has just been freed, or just been taken, or too many wait.
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

    /// An address that is this test's alone: nobody binds it, so any will do that no other test uses.
    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 255, 255, 1], port))
    }

    #[test]
    fn meetings_are_listed_while_they_are_open() {
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
    fn only_what_listens_under_such_a_name_is_found() {
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
    fn one_at_a_time_holds_the_lock() {
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
    fn who_never_frees_the_lock_is_not_waited_for_for_ever() {
        let _lock = JoinLock::take(address(4), &mut Clock::new()).unwrap();
        let mut clock = Clock::new();
        let outcome = JoinLock::take(address(4), &mut clock);
        assert!(matches!(outcome, Err(Reason::Busy)), "{outcome:?}");
        assert!(clock.now_ns() >= LOCK_PATIENCE_NS);
    }
}
