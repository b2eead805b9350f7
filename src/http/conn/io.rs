//! What a connection needs from its owner: I/O and deadlines. The methods named are those of
//! [`Conn`](super::Conn).

use crate::http::response::BodyMode;

/// The I/O that a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Read from the socket, then call `receive` or `receive_eof`.
    Read,
    /// Write `outgoing` to the socket, then call `advance_written`.
    Write,
    /// Nothing, until `respond` has been called.
    Wait,
    /// Shut down the sending half of the socket, then call `advance` again.
    Shutdown,
    /// Close the socket.
    Close,
}

/// A response that has been put into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseMeta {
    /// Length of the response in bytes, head and content.
    pub bytes: usize,
    /// Whether the content is part of it.
    pub body_mode: BodyMode,
    /// Where in the inbox the request begins, for `received`.
    pub start: usize,
}

/// A period in which a connection makes no progress on its own. Two that differ have a time limit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The time limit that applies; none while the client waits for this server.
    pub timeout: Option<TimeoutKind>,
    /// Tells one wait from the next of the same kind.
    pub progress: u32,
}

/// What a deadline is for. Each kind has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    /// The whole head of a request, from the accepted connection or its first byte.
    Head,
    /// The whole body of a request, from the end of its head.
    Body,
    /// The next request on a keep-alive connection, from the last response.
    Idle,
    /// Progress in writing: the owner decides how much of a batch the client must accept, and what happens otherwise.
    Write,
    /// The client's end of stream after the last response.
    Linger,
}

impl TimeoutKind {
    /// Number of kinds.
    pub const COUNT: usize = 5;

    /// Every kind, in the order of the discriminants.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Head, Self::Body, Self::Idle, Self::Write, Self::Linger];
}
