//! Abstract Unix names, by which processes find each other.
//!
//! Such names belong to the network namespace, exactly as the port does, leave no file, and vanish with the socket that is
//! bound to them, however its process ends. Any process in the namespace may bind any name, so the user is checked
//! wherever it matters.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        socketpair, sockopt::socket_peercred,
    },
};

use crate::sys::{listener::overlaps, user};

/// Where the kernel lists the Unix sockets of this process's network namespace.
const TABLE: &str = "/proc/net/unix";
/// How much of that list is read. A line has about a hundred bytes.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Maximum number of names that are tried.
const NAMES_MAX: usize = 1024;
/// Processes that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Socket type in the list: the one that keeps the boundaries of messages.
const SEQPACKET: &[u8] = b"0005";
/// Flags in the list: listens.
const LISTENS: &[u8] = b"00010000";

const PREFIX: &str = "fibsrv.";
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Why other processes cannot be found.
#[derive(Debug)]
pub(super) struct RendezvousError {
    action: &'static str,
    source: io::Error,
}

impl fmt::Display for RendezvousError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.source)
    }
}

/// The name of a process for one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The number of the process.
    pub(super) id: u64,
    /// The whole name.
    pub(super) text: Vec<u8>,
}

/// Whether the process at the other end runs for the same user. At a listening socket it is the one that listens.
pub(super) fn is_same_user(socket: BorrowedFd<'_>) -> bool {
    socket_peercred(socket).is_ok_and(|other| user::is_ours(other.uid))
}

/// Connects to a name; does not block.
pub(super) fn connect_to(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Two sockets that are connected to each other.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
}

/// Binds the name of the process `id` for an address, and listens there.
pub(super) fn open_meeting(address: SocketAddr, id: u64) -> Result<OwnedFd, RendezvousError> {
    let open = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        let name = format!("{PREFIX}{address}.{id:x}");
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|source| RendezvousError { action: "bind a Unix name", source })
}

/// The names of processes whose addresses overlap with one of these.
pub(super) fn list(addresses: &[SocketAddr]) -> Result<Vec<Name>, RendezvousError> {
    let read = || {
        let mut table = Vec::new();
        File::open(TABLE)?.take(TABLE_BYTES_MAX).read_to_end(&mut table)?;
        Ok(find(&table, addresses))
    };
    read().map_err(|source| RendezvousError { action: "list Unix names", source })
}

/// The names in the kernel's list where a process listens on an address that overlaps with one of these.
fn find(table: &[u8], addresses: &[SocketAddr]) -> Vec<Name> {
    let names = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut columns = line.split(|byte| *byte == b' ').filter(|column| !column.is_empty());
        // Number, references, protocol; flags, type; state, inode; path.
        let (flags, kind) = (columns.nth(3)?, columns.next()?);
        let text = columns.nth(2)?.strip_prefix(b"@")?;
        let name = str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
        let (address, id) = name.rsplit_once('.')?;
        let (address, id) = (address.parse().ok()?, u64::from_str_radix(id, 16).ok()?);
        let is_near = addresses.iter().any(|own| overlaps(*own, address));
        let is_name = flags == LISTENS && kind == SEQPACKET && is_near;
        is_name.then(|| Name { id, text: text.to_vec() })
    });
    names.take(NAMES_MAX).collect()
}

/// Waits until one of these has something to read, or has ended, but not longer than `patience_ns`.
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// An address of this test alone. No test binds it as a TCP socket.
    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 255, 255, 1], port))
    }

    #[test]
    fn names_are_listed_while_they_are_bound() {
        let meetings = [(1, 1), (1, 2), (2, 3)];
        let meetings = meetings.map(|(port, id)| open_meeting(address(port), id).unwrap());
        let names = list(&[address(1)]).unwrap();
        assert_eq!(names.iter().map(|name| name.id).collect::<Vec<_>>(), [1, 2]);
        for name in &names {
            let socket = connect_to(&name.text).unwrap();
            assert_eq!(is_same_user(socket.as_fd()), user::is_verifiable());
        }
        drop(meetings);
        assert!(list(&[address(1)]).unwrap().is_empty());
        connect_to(&names[0].text).unwrap_err();
    }

    #[test]
    fn only_listening_sockets_of_overlapping_addresses_are_found() {
        let line = |flags: &str, kind: &str, name: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} {kind} 01 12345 {name}\n")
        };
        let table = [
            "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned(),
            line("00010000", "0005", "@fibsrv.127.0.0.1:1.2f"),
            line("00010000", "0005", "@fibsrv.[::]:1.30"),
            line("00000000", "0005", "@fibsrv.127.0.0.1:1.2a"), // connected
            line("00010000", "0001", "@fibsrv.127.0.0.1:1.2b"), // a stream
            line("00010000", "0005", "fibsrv.127.0.0.1:1.2c"),  // a file
            line("00010000", "0005", "@fibsrv.127.0.0.1:1.lock"),
            line("00010000", "0005", "@fibsrv.127.0.0.1:1."),
            line("00010000", "0005", "@fibsrv.127.0.0.1:11.2d"),
            line("00010000", "0005", "@fibsrv.127.0.0.2:1.2d"),
            line("00010000", "0005", ""),
            "x @fibsrv.127.0.0.1:1.2e".to_owned(),
        ]
        .concat();
        let own = [SocketAddr::from(([127, 0, 0, 1], 1))];
        let found = find(table.as_bytes(), &own);
        assert_eq!(found.iter().map(|name| name.id).collect::<Vec<_>>(), [0x2f, 0x30]);
        let many = line("00010000", "0005", "@fibsrv.127.0.0.1:1.1").repeat(NAMES_MAX + 1);
        assert_eq!(find(many.as_bytes(), &own).len(), NAMES_MAX);
    }
}
