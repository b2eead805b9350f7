//! What a connection asks of the owner of its socket, and what it waits for. The methods named are those
//! of [`Conn`](super::Conn).

use crate::http::{Reject, request::head::Request};

/// What the owner of the socket is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Answer this request with `respond`; its head is `head` until then.
    Answer(Request),
    /// Answer what cannot become a request with `respond`.
    Reject(Reject),
    /// Read from the socket, and `receive` or `receive_eof`.
    Read,
    /// Write `outgoing` to the socket, and tell with `sent`.
    Write,
    /// Nothing until `respond` is called.
    Wait,
    /// Shut down the sending side of the socket, then ask again.
    Shutdown,
    /// Close the socket.
    Close,
}

/// What `respond` has put into the outbox, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseMeta {
    /// Length of the answer in bytes, head and content.
    pub bytes: usize,
    /// Where in the inbox the request begins, for `answered`.
    pub start: usize,
}

/// What a connection waits for: each has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The end of a request's head, or the first request.
    Head,
    /// The end of a request's body.
    Body,
    /// Another request on a kept connection.
    Idle,
    /// The peer to take what is to be written.
    Write,
    /// This server to make the answer.
    Answer,
    /// The peer to close after the last answer.
    Linger,
}
