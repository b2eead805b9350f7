//! Status notifications to the service manager: datagrams of a few lines, as in `sd_notify(3)`.

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

/// Send timeout while the service manager is busy. It applies to notifications that are not repeated.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// A status notification.
#[derive(Clone, Copy, Debug)]
pub enum Notification<'a> {
    /// The process is ready. The text is its status.
    Ready(&'a str),
    /// The process upgrades itself. It sends `Ready` when that is done.
    Reloading(&'a str),
    /// The process is stopping. It finishes the requests in flight.
    Stopping(&'a str),
    /// A heartbeat.
    Alive,
}

impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Under a wrapper, signals must go to this process.
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

/// Sends notifications to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<NotifySocket>,
    /// Whether one failed. Later failures are not logged.
    has_failed: bool,
}

#[derive(Debug)]
struct NotifySocket {
    fd: OwnedFd,
    address: SocketAddrUnix,
}

impl Notifier {
    /// Opens a socket for this address: a path or, after an `@`, an abstract name. Without an address, or if
    /// that fails, no notifications are sent.
    pub fn new(address: Option<&OsStr>) -> Self {
        let mut notifier = Self { socket: None, has_failed: false };
        if let Some(address) = address {
            match NotifySocket::open(address) {
                Ok(socket) => notifier.socket = Some(socket),
                Err(error) => notifier.log_failure(error),
            }
        }
        notifier
    }

    /// Sends a notification. A failure is only logged: the process continues to serve.
    pub fn send(&mut self, notification: Notification<'_>) {
        let Some(socket) = &self.socket else { return };
        let flags = match notification {
            // Heartbeats are repeated soon, and the event loop that sends them must not block.
            Notification::Alive => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            Notification::Ready(_) | Notification::Reloading(_) | Notification::Stopping(_) => {
                SendFlags::NOSIGNAL
            }
        };
        if let Err(error) =
            sendto(&socket.fd, notification.to_string().as_bytes(), flags, &socket.address)
        {
            self.log_failure(error);
        }
    }

    fn log_failure(&mut self, error: io::Errno) {
        if !std::mem::replace(&mut self.has_failed, true) {
            warn!("cannot notify the service manager: {error}");
        }
    }
}

impl NotifySocket {
    fn open(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
            [b'/', ..] => SocketAddrUnix::new(address),
            _ => Err(io::Errno::AFNOSUPPORT),
        }?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_TIMEOUT))?;
        Ok(Self { fd: socket, address })
    }
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    /// Returns the socket of a service manager, and its address.
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
    fn a_notification_is_one_datagram_of_lines() {
        let (socket, name) = manager("lines");
        let mut notifier = Notifier::new(Some(OsStr::new(&name)));
        let mut send = |notification| {
            notifier.send(notification);
            receive(&socket)
        };
        let pid = process::id();
        assert_eq!(
            send(Notification::Ready("all well")),
            format!("READY=1\nMAINPID={pid}\nSTATUS=all well")
        );
        assert_eq!(send(Notification::Stopping("soon")), "STOPPING=1\nSTATUS=soon");
        assert_eq!(send(Notification::Alive), "WATCHDOG=1");
        let before_us = clock::monotonic_us();
        let reloading = send(Notification::Reloading("again"));
        let at_us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let at_us: u64 = at_us.strip_suffix("\nSTATUS=again").unwrap().parse().unwrap();
        assert!((before_us..=clock::monotonic_us()).contains(&at_us), "{at_us}");
    }

    #[test]
    fn only_the_first_failure_is_logged() {
        for (address, has_failed) in [
            (None, false),
            (Some("@fibsrv test, unbound"), true),
            (Some("/nowhere/at/all"), true),
            (Some("vsock:2:1234"), true),
            (Some(&*format!("@{}", "x".repeat(200))), true),
        ] {
            let mut notifier = Notifier::new(address.map(OsStr::new));
            notifier.send(Notification::Ready(""));
            notifier.send(Notification::Alive);
            assert_eq!(notifier.has_failed, has_failed, "{address:?}");
        }
    }

    #[test]
    fn a_heartbeat_does_not_block() {
        let (socket, name) = manager("busy");
        let mut notifier = Notifier::new(Some(OsStr::new(&name)));
        let sent = (0..1_000_000)
            .take_while(|_| {
                notifier.send(Notification::Alive);
                !notifier.has_failed
            })
            .count();
        assert!((1..1_000_000).contains(&sent), "{sent}");
        drop(socket);
    }
}
