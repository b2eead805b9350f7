//! Abstract Unix names, by which processes find each other.
//!
//! Such names belong to the network namespace, exactly as the port does. They leave no file, and disappear
//! with the socket that is bound to them, no matter how its process exits. Any process in the namespace may
//! bind any name, so the user is checked wherever it matters.

use std::{
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

/// The kernel's list of Unix sockets in the network namespace of this process.
const TABLE: &str = "/proc/net/unix";
/// Maximum number of bytes read from that list. A line has about a hundred bytes.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Maximum number of names tried, including names bound by other users.
const NAMES_MAX: usize = 1024;
/// Maximum number of links that wait to be accepted.
const BACKLOG: i32 = 128;

/// Socket type in the list: `SOCK_SEQPACKET`, which preserves message boundaries.
const SEQPACKET: &[u8] = b"0005";
/// Flags in the list of a listening socket.
const LISTENS: &[u8] = b"00010000";

const PREFIX: &str = "fibsrv.";
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Name of a process for one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The ID of the process.
    pub(super) id: u64,
    /// The whole name.
    pub(super) text: Vec<u8>,
}

/// Whether the process at the other end runs as the same user. If the connection has not been accepted yet, that is the
/// process that listens.
pub(super) fn is_same_user(socket: BorrowedFd<'_>) -> bool {
    socket_peercred(socket).is_ok_and(|other| user::is_ours(other.uid))
}

/// Connects to a name without blocking.
pub(super) fn connect_to(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Opens two sockets that are connected to each other.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
}

/// Binds a socket to the name of the process `id` for an address, and listens there.
pub(super) fn bind_name(address: SocketAddr, id: u64) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
    let name = format!("{PREFIX}{address}.{id:x}");
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Lists the names of processes whose addresses overlap with one of these.
pub(super) fn list(addresses: &[SocketAddr]) -> io::Result<Vec<Name>> {
    let mut table = Vec::new();
    File::open(TABLE)?.take(TABLE_BYTES_MAX).read_to_end(&mut table)?;
    Ok(find(&table, addresses))
}

/// Returns the names in the kernel's list that belong to listening sockets and overlap with one of these addresses.
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

/// Waits until one of the sockets is readable or closed, or until the time limit.
pub(super) fn wait(sockets: &[BorrowedFd<'_>], timeout_ns: u64) -> io::Result<()> {
    let mut sockets: Vec<_> =
        sockets.iter().map(|socket| PollFd::from_borrowed_fd(*socket, PollFlags::IN)).collect();
    let patience = Timespec {
        tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(timeout_ns % 1_000_000_000).unwrap_or_default(),
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

    /// Returns an address for one test. It is never bound, so any address that no other test uses is
    /// suitable.
    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 255, 255, 1], port))
    }

    #[test]
    fn names_are_listed_while_they_are_bound() {
        let sockets = [(1, 1), (1, 2), (2, 3)];
        let sockets = sockets.map(|(port, id)| bind_name(address(port), id).unwrap());
        let names = list(&[address(1)]).unwrap();
        assert_eq!(names.iter().map(|name| name.id).collect::<Vec<_>>(), [1, 2]);
        for name in &names {
            let socket = connect_to(&name.text).unwrap();
            assert_eq!(is_same_user(socket.as_fd()), user::is_verifiable());
        }
        drop(sockets);
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
