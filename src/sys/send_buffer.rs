//! The send buffers of accepted sockets: their sizes, and the time limit of what they hold.

use std::{os::fd::AsFd, time::Duration};

use socket2::SockRef;

use crate::sys;

/// Size of the send buffer: about a batch of responses that a client has not read. The kernel doubles it for
/// its own bookkeeping.
pub const SEND_BUFFER_BYTES: usize = 16 * 1024;

/// Initial size of a large send buffer. The kernel lets it grow with the congestion window, up to the third figure of
/// `net.ipv4.tcp_wmem`.
const GROWING_SEND_BUFFER_BYTES: usize = 32 * 1024;

/// Size of a large send buffer before Linux 5.14, where it does not grow. The kernel lowers it to `net.core.wmem_max`.
const FIXED_SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Bytes in the send buffer that have not been sent, from which the kernel accepts no more. So a large send
/// buffer holds what is in flight, and little for a client that does not read.
pub const UNSENT_BYTES: u32 = 32 * 1024;

/// Lets the send buffer of an accepted connection grow with its congestion window. Without effect where the kernel
/// does not support it, like the functions below.
pub fn enlarge_send_buffer(socket: &impl AsFd) {
    let set = |bytes| SockRef::from(socket).set_send_buffer_size(bytes);
    let _unsupported = set(GROWING_SEND_BUFFER_BYTES)
        .and_then(|()| sys::unlock_send_buffer(socket))
        .or_else(|_| set(FIXED_SEND_BUFFER_BYTES))
        .is_err();
}

/// Gives an accepted connection the send buffer of a new one again. What the buffer holds remains.
pub fn restore_send_buffer(socket: &impl AsFd) {
    let _unsupported = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER_BYTES).is_err();
}

/// Sets or removes the time for which sent data of an accepted connection may stay unacknowledged.
pub fn limit_unacknowledged(socket: &impl AsFd, limit: Option<Duration>) {
    let _unsupported = SockRef::from(socket).set_tcp_user_timeout(limit).is_err();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener::{Options, listen};

    /// The kernel doubles what is set.
    #[test]
    fn the_send_buffer_of_a_connection_is_small_until_it_is_enlarged() {
        let options = Options { unacknowledged: Duration::from_secs(10), defer_seconds: 0 };
        let listener = listen("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let size = || SockRef::from(&socket).send_buffer_size().unwrap();
        assert_eq!(size(), 2 * SEND_BUFFER_BYTES);
        let unsent = SockRef::from(&socket).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, UNSENT_BYTES, "inherited from the listener");
        enlarge_send_buffer(&socket);
        assert!(size() >= 4 * SEND_BUFFER_BYTES, "{}", size());
        restore_send_buffer(&socket);
        assert_eq!(size(), 2 * SEND_BUFFER_BYTES);
        assert_eq!(sys::unacknowledged(&socket).unwrap(), 0);
        let limit = || SockRef::from(&socket).tcp_user_timeout().unwrap();
        assert_eq!(limit(), Some(options.unacknowledged), "inherited too");
        limit_unacknowledged(&socket, None);
        assert_eq!(limit(), None);
        drop(client);
    }
}
