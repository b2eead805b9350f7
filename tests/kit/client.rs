//! A small HTTP client on one connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

use super::{parser::ReplyTo, reply::Reply, server::PATIENCE};

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("a connection"))
    }

    /// Connects with minimal kernel buffers, so that the server's buffers are what counts.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        Self::connect_with_buffers(address, 4096)
    }

    /// Connects with kernel buffers of this size, which the kernel doubles.
    pub(crate) fn connect_with_buffers(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap(); // before connecting, as it sets the window
        socket.set_send_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).expect("a connection");
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Resets the connection, which discards data in flight, as the kernel does for a killed client.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends the end of the stream.
    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.send(request("GET", target).as_bytes());
        self.reply()
    }

    /// Reads the next reply, which is not to HEAD.
    pub(crate) fn reply(&mut self) -> Reply {
        self.next_reply(ReplyTo::Other)
    }

    /// Reads the next reply, which is to HEAD.
    pub(crate) fn reply_to_head(&mut self) -> Reply {
        self.next_reply(ReplyTo::Head)
    }

    fn next_reply(&mut self, to: ReplyTo) -> Reply {
        loop {
            if let Some(reply) = Reply::take(&mut self.received, to) {
                return reply;
            }
            assert!(self.read_more().expect("a reply") > 0, "the server closed: {self:?}");
        }
    }

    /// Lets this time pass. Panics if the server sends anything meanwhile.
    pub(crate) fn is_silent_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let error = self.sip(1).expect_err("nothing is sent");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    fn read_more(&mut self) -> io::Result<usize> {
        self.sip(4096)
    }

    /// Sends `bytes` repeatedly until the server resets the connection; returns the number of bytes sent.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        loop {
            match self.stream.write(&bytes[sent % bytes.len()..]) {
                Ok(count) => sent += count,
                Err(error) if is_reset(&error) => return sent,
                Err(error) => panic!("neither sent nor reset after {sent} bytes: {error}"),
            }
        }
    }

    /// Reads at most `most` bytes. Returns 0 at the end of the stream and an error after a reset.
    pub(crate) fn sip(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most];
        let count = loop {
            match self.stream.read(&mut bytes) {
                // A read with a timeout is not restarted after the machine was suspended (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Removes the complete replies from what has been read so far.
    pub(crate) fn sipped(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| Reply::take(&mut self.received, ReplyTo::Other)).collect()
    }

    /// Reads until the server closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more().expect("an orderly close") > 0 {}
        std::mem::take(&mut self.received)
    }

    /// Whether the server closes without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read_to_end().is_empty()
    }
}

/// Whether the server has reset the connection; a write after that fails with a broken pipe.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// A request without a body.
pub(crate) fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}
