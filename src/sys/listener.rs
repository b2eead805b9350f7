//! Listening sockets, with the options that accepted sockets inherit from them.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use log::warn;
use mio::net::TcpListener;
use rustix::fs::fstat;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys::{
    self,
    send_buffer::{SEND_BUFFER_BYTES, UNSENT_BYTES},
};

/// Maximum length of the accept queue. The kernel lowers it to `net.core.somaxconn` (4096 by default). An
/// overflow costs each client a second or more, until it repeats its handshake.
pub const BACKLOG: i32 = 4096;

/// Size of the receive buffer: requests that wait in the kernel while the client does not read its responses.
/// The kernel doubles it as well. Half of the result is the window that the client sees.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// Maximum segment size. A receiver acknowledges every second segment at once, others after 40 ms. On
/// loopback, where a segment has 64 KiB, a smaller send buffer would wait for that delay each time it is
/// full.
const SEGMENT_BYTES_MAX: u32 = 8 * 1024;

/// Configurable options of listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum time for which sent data may stay unacknowledged.
    pub unacknowledged: Duration,
    /// How long the kernel holds back a connection on which no data has arrived, in seconds
    /// (`TCP_DEFER_ACCEPT`, see tcp(7)). 0 disables it.
    pub defer_seconds: u8,
}

/// Error from opening a listening socket.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// Creates an error for an address, with its cause.
    pub const fn new(address: SocketAddr, source: io::Error) -> Self {
        Self { address, source }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.source)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Opens a non-blocking listening socket that shares its port with others of the same user
/// (`SO_REUSEPORT`). The IPv6 wildcard address accepts IPv4 as well. On a host without IPv6 the IPv4 wildcard
/// replaces it.
pub fn listen(address: SocketAddr, options: Options) -> Result<TcpListener, ListenError> {
    Bound::open(address, options)?.listen()
}

/// Checks that a socket can be bound to `address`. It does not listen: connections that the kernel assigned
/// to it would be reset.
pub fn check(address: SocketAddr, options: Options) -> Result<(), ListenError> {
    Bound::open(address, options).map(drop)
}

/// A socket that is bound to an address and does not listen yet.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    address: SocketAddr,
}

impl Bound {
    /// Binds a socket as [`listen`] does.
    pub fn open(address: SocketAddr, options: Options) -> Result<Self, ListenError> {
        let outcome = match bind(address, options) {
            Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() => {
                bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), options)
            }
            outcome => outcome,
        };
        let socket = outcome.map_err(|source| ListenError::new(address, source))?;
        Ok(Self { socket, address })
    }

    /// Makes the socket listen.
    pub fn listen(self) -> Result<TcpListener, ListenError> {
        self.socket.listen(BACKLOG).map_err(|source| ListenError::new(self.address, source))?;
        Ok(TcpListener::from_std(self.socket.into()))
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Adopts a listening socket that another process opened. Makes it non-blocking and close-on-exec.
pub fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    address_of(&socket)?;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Returns the address of a listening socket that another process opened. Unlike [`adopt`] it changes no flag, as all
/// processes that hold the socket share them.
pub fn address_of(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(socket);
    let is_listening = listens(&socket).unwrap_or(false);
    let bound = socket.local_addr().ok().filter(|_| is_listening);
    let address = bound.and_then(|bound| bound.as_socket());
    address.ok_or_else(|| io::Error::other("not a listening TCP socket"))
}

fn bind(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    set_options(&socket, options)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets the options of this process on a listening socket that another process opened.
pub fn renew(listener: &TcpListener, options: Options) -> io::Result<()> {
    let socket = SockRef::from(listener);
    set_options(&socket, options)?;
    socket.listen(BACKLOG)
}

fn set_options(socket: &Socket, options: Options) -> io::Result<()> {
    // Inherited by accepted sockets, which saves a system call for each. Responses are sent in one write and
    // must not wait for the acknowledgement of the previous one.
    socket.set_tcp_nodelay(true)?;
    // Inherited too. Without it the kernel would remove a byte from the stream that is marked as urgent, and a proxy in
    // front might see another request than this server (RFC 6093 section 5).
    socket.set_out_of_band_inline(true)?;
    // Inherited too. Fixed sizes disable the kernel's own tuning, which would let each client that does not
    // read hold megabytes. Large responses need more iterations of the loop.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    for (_, set) in OPTIONAL {
        // Reported by `check_features`, once.
        let _unsupported = set(socket, options).is_err();
    }
    Ok(())
}

type SetOption = fn(&Socket, Options) -> io::Result<()>;

/// Options that some kernels and emulators lack. The server works without them.
const OPTIONAL: [(&str, SetOption); 4] = [
    ("TCP_DEFER_ACCEPT", |socket, options| sys::defer_accept(socket, options.defer_seconds)),
    // Inherited, and of no effect where packets are smaller.
    ("TCP_MAXSEG", |socket, _| socket.set_tcp_mss(SEGMENT_BYTES_MAX)),
    // Inherited, and of little effect on small send buffers.
    ("TCP_NOTSENT_LOWAT", |socket, _| socket.set_tcp_notsent_lowat(UNSENT_BYTES)),
    // Inherited as well. If the client does not acknowledge the last data of a connection that was closed
    // normally, the kernel ends the connection after this time.
    ("TCP_USER_TIMEOUT", |socket, options| {
        socket.set_tcp_user_timeout(Some(options.unacknowledged))
    }),
];

/// Logs a line for each option that the kernel does not support. Call it once, before listening.
pub fn check_features(options: Options) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .or_else(|_| Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)))?;
    for (name, set) in OPTIONAL {
        if let Err(error) = set(&socket, options) {
            warn!("{name} is not available ({error}); continuing without it");
        }
    }
    Ok(())
}

/// Returns the identity of a socket. It differs from that of all other open sockets of the machine, and is
/// the same in each process that holds the socket. It is the inode, which unlike `SO_COOKIE` exists under
/// every kernel and emulator.
pub fn identity(socket: impl AsFd) -> io::Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// Admits a descriptor from another process, if it is a TCP socket on an address that overlaps with one of these. Makes
/// it listen, because a process sends a socket before it listens.
pub fn admit(descriptor: OwnedFd, addresses: &[SocketAddr]) -> Result<TcpListener, Unfit> {
    let socket = SockRef::from(&descriptor);
    let is_tcp = socket.r#type()? == Type::STREAM && socket.protocol()? == Some(Protocol::TCP);
    let bound = socket.local_addr()?.as_socket().filter(|bound| is_tcp && bound.port() != 0);
    let is_near =
        bound.is_some_and(|bound| addresses.iter().any(|address| overlaps(bound, *address)));
    if !is_near || socket.peer_addr().is_ok() {
        return Err(Unfit::Other);
    }
    // The flag belongs to the open file, so all processes that hold it share it. A process that cleared it
    // would block all others.
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(descriptor.into()))
}

/// Whether the kernel may assign a connection to either of two listeners. The IPv6 wildcard includes IPv4.
pub fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    let includes = |all: IpAddr, ip: IpAddr| {
        all == ip || (all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4()))
    };
    one.port() == other.port() && (includes(one.ip(), other.ip()) || includes(other.ip(), one.ip()))
}

/// Whether a listener bound to `bound` serves only the admin routes, which is so at these addresses. A listener of
/// another process may be bound to a wildcard that includes one of them.
pub fn is_admin(bound: SocketAddr, admin: &[SocketAddr]) -> bool {
    admin.iter().any(|address| overlaps(bound, *address))
}

/// Whether this is a listening TCP socket.
fn listens(socket: &Socket) -> io::Result<bool> {
    Ok(socket.r#type()? == Type::STREAM
        && socket.protocol()? == Some(Protocol::TCP)
        && socket.is_listener()?)
}

/// Whether [`listen`] on `address` opens a socket bound to `bound`.
pub fn stands_for(bound: SocketAddr, address: SocketAddr) -> bool {
    let is_wildcard = address.is_ipv6() && address.ip().is_unspecified();
    let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    bound == address || (is_wildcard && bound == fallback)
}

/// Whether [`listen`] on `address` can open a socket bound to `bound`. If the port of `address` is 0, the
/// kernel chooses it, so any port matches.
pub fn may_stand_for(bound: SocketAddr, address: SocketAddr) -> bool {
    let port = if address.port() == 0 { bound.port() } else { address.port() };
    stands_for(bound, SocketAddr::new(address.ip(), port))
}

/// Why a descriptor is not admitted.
#[derive(Debug)]
pub enum Unfit {
    /// It is not a suitable listening socket.
    Other,
    /// It cannot be examined.
    Unknown(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Unknown(error)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("a descriptor that does not listen there"),
            Self::Unknown(error) => write!(f, "a descriptor that is no socket: {error}"),
        }
    }
}

/// Whether the error means that the host has no IPv6, or that IPv6 is disabled.
fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { unacknowledged: Duration::from_secs(10), defer_seconds: 0 };

    fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
        super::listen(address, OPTIONS)
    }

    #[test]
    fn two_sockets_share_a_port() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
    }

    #[test]
    fn only_listening_sockets_of_the_address_are_admitted() {
        let ours = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = ours.local_addr().unwrap();
        let copy = |socket: &TcpListener| SockRef::from(socket).try_clone().unwrap().into();
        let admitted = admit(copy(&ours), &[address]).unwrap();
        assert_eq!(identity(&admitted).unwrap(), identity(&ours).unwrap());
        assert_ne!(identity(listen(address).unwrap()).unwrap(), identity(&ours).unwrap());
        renew(&admitted, Options { unacknowledged: Duration::from_secs(3), ..OPTIONS }).unwrap();
        let timeout = SockRef::from(&ours).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(Duration::from_secs(3)), "one socket, two descriptors");

        let refuse = |descriptor: OwnedFd| assert!(admit(descriptor, &[address]).is_err());
        refuse(copy(&listen("127.0.0.1:0".parse().unwrap()).unwrap()));
        refuse(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into());
        refuse(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into());
        refuse(std::net::TcpStream::connect(address).unwrap().into());
        refuse(std::os::unix::net::UnixStream::pair().unwrap().0.into());
        refuse(std::fs::File::open("/dev/null").unwrap().into());
        // Sent before it listens: the receiver makes it listen.
        let bound = Bound::open(address, OPTIONS).unwrap();
        let admitted = admit(bound.as_fd().try_clone_to_owned().unwrap(), &[address]).unwrap();
        assert!(SockRef::from(&admitted).is_listener().unwrap());
    }

    #[test]
    fn wildcards_overlap() {
        let check = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlaps(one, other), overlaps(other, one));
            overlaps(one, other)
        };
        assert!(check("[::]:1", "127.0.0.1:1") && check("[::]:1", "0.0.0.0:1"));
        assert!(check("0.0.0.0:1", "127.0.0.1:1") && check("[::1]:1", "[::]:1"));
        assert!(check("127.0.0.1:1", "127.0.0.1:1"));
        assert!(!check("127.0.0.1:1", "127.0.0.2:1") && !check("0.0.0.0:1", "[::1]:1"));
        assert!(!check("[::]:1", "[::]:2"));
    }

    #[test]
    fn only_listening_tcp_sockets_are_adopted() {
        let adopted = adopt(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()).unwrap();
        let blocked = adopted.accept().unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        let refuse = |descriptor: OwnedFd| {
            let errors = [address_of(&descriptor).unwrap_err(), adopt(descriptor).unwrap_err()];
            assert_eq!(errors.map(|error| error.to_string()), ["not a listening TCP socket"; 2]);
        };
        let address = adopted.local_addr().unwrap();
        refuse(std::net::TcpStream::connect(address).unwrap().into());
        refuse(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into());
        refuse(std::fs::File::open("/dev/null").unwrap().into());
    }

    #[test]
    fn the_address_is_read_without_a_change_of_flags() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(address_of(&socket).unwrap(), socket.local_addr().unwrap());
        assert!(!SockRef::from(&socket).nonblocking().unwrap());
    }

    #[test]
    fn the_ipv4_fallback_matches_the_ipv6_wildcard() {
        let check = |bound: &str, address: &str| {
            stands_for(bound.parse().unwrap(), address.parse().unwrap())
        };
        assert!(check("[::]:1", "[::]:1") && check("0.0.0.0:1", "[::]:1"));
        assert!(!check("0.0.0.0:2", "[::]:1") && !check("[::]:1", "0.0.0.0:1"));
        assert!(!check("127.0.0.1:1", "[::]:1") && !check("0.0.0.0:1", "[::1]:1"));
    }

    #[test]
    fn a_port_that_is_not_shared_is_an_error_in_one_line() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let checked = check(address, OPTIONS).unwrap_err();
        for error in [listen(address).unwrap_err(), checked].map(|error| error.to_string()) {
            assert!(error.starts_with(&format!("cannot listen on {address}: Address")), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn the_ipv6_wildcard_accepts_both_families() {
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
