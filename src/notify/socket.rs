//! Telling a service manager how this process fares, as `sd_notify(3)` has it: a datagram of a few lines.

use std::{
    ffi::OsStr,
    fmt,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    process,
    time::Duration,
};

use log::warn;
use rustix::{
    io,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::sys::clock;

/// How long a service manager that is busy is waited for, when it is to learn what is not said again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub enum Notification<'a> {
    /// The process serves; here is more about it.
    Ready(&'a str),
    /// It becomes another version of itself, and will say when that serves.
    Reloading(&'a str),
    /// It was told to stop, and finishes what is under way.
    Stopping(&'a str),
    /// It lives.
    Alive,
}

impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Under a wrapper, it is this process that signals are for.
            Self::Ready(status) => {
                write!(f, "READY=1\nMAINPID={}\nSTATUS={status}", process::id())
            }
            Self::Reloading(status) => {
                let now_us = clock::monotonic_us();
                write!(f, "RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS={status}")
            }
            Self::Stopping(status) => write!(f, "STOPPING=1\nSTATUS={status}"),
            Self::Alive => f.write_str("WATCHDOG=1"),
        }
    }
}

/// The way to a service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    way: Option<NotifySocket>,
    failures: Failures,
}

#[derive(Debug)]
struct NotifySocket {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failures {
    None,
    /// Said once, however many follow.
    StopRequest,
}

impl Notifier {
    /// The way to this address, which is a path or, behind an `@`, an abstract name. Without an address, or if
    /// there is no way, nobody is told anything.
    pub fn new(address: Option<&OsStr>) -> Self {
        let mut notifier = Self { way: None, failures: Failures::None };
        if let Some(address) = address {
            match NotifySocket::to(address) {
                Ok(way) => notifier.way = Some(way),
                Err(error) => notifier.complain(error),
            }
        }
        notifier
    }

    /// Tells it. What goes wrong is for the log: the process serves all the same.
    pub fn tell(&mut self, news: Notification<'_>) {
        let Some(way) = &self.way else { return };
        let flags = match news {
            // Said again soon, and said by a loop that must not wait.
            Notification::Alive => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            Notification::Ready(_) | Notification::Reloading(_) | Notification::Stopping(_) => {
                SendFlags::NOSIGNAL
            }
        };
        if let Err(error) = sendto(&way.socket, news.to_string().as_bytes(), flags, &way.address) {
            self.complain(error);
        }
    }

    fn complain(&mut self, error: io::Errno) {
        if self.failures == Failures::None {
            self.failures = Failures::StopRequest;
            warn!("cannot notify the service manager: {error}");
        }
    }
}

impl NotifySocket {
    fn to(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
            [b'/', ..] => SocketAddrUnix::new(address),
            _ => Err(io::Errno::AFNOSUPPORT),
        }?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Self { socket, address })
    }
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    /// A service manager, and what it is called.
    fn manager(name: &str) -> (UnixDatagram, String) {
        let name = format!("fibsrv test {} {name}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn news_are_lines_of_a_datagram() {
        let (socket, name) = manager("news");
        let mut notifier = Notifier::new(Some(OsStr::new(&name)));
        let mut told = |news| {
            notifier.tell(news);
            receive(&socket)
        };
        let pid = process::id();
        assert_eq!(
            told(Notification::Ready("all well")),
            format!("READY=1\nMAINPID={pid}\nSTATUS=all well")
        );
        assert_eq!(told(Notification::Stopping("soon")), "STOPPING=1\nSTATUS=soon");
        assert_eq!(told(Notification::Alive), "WATCHDOG=1");
        let before_us = clock::monotonic_us();
        let reloading = told(Notification::Reloading("again"));
        let at_us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let at_us: u64 = at_us.strip_suffix("\nSTATUS=again").unwrap().parse().unwrap();
        assert!((before_us..=clock::monotonic_us()).contains(&at_us), "{at_us}");
    }

    #[test]
    fn what_cannot_be_told_is_complained_of_and_no_more() {
        for (address, failures) in [
            (None, Failures::None),
            (Some("@fibsrv test, nobody"), Failures::StopRequest),
            (Some("/nowhere/at/all"), Failures::StopRequest),
            (Some("vsock:2:1234"), Failures::StopRequest),
            (Some(&*format!("@{}", "x".repeat(200))), Failures::StopRequest),
        ] {
            let mut notifier = Notifier::new(address.map(OsStr::new));
            notifier.tell(Notification::Ready(""));
            notifier.tell(Notification::Alive);
            assert_eq!(notifier.failures, failures, "{address:?}");
        }
    }

    #[test]
    fn a_sign_of_life_is_not_waited_for() {
        let (socket, name) = manager("busy");
        let mut notifier = Notifier::new(Some(OsStr::new(&name)));
        let sent = (0..1_000_000)
            .take_while(|_| {
                notifier.tell(Notification::Alive);
                notifier.failures == Failures::None
            })
            .count();
        assert!((1..1_000_000).contains(&sent), "{sent}");
        drop(socket);
    }
}
