//! The states of a connection: one enum for each independent part of it.

use crate::http::{
    Reject,
    conn::linger::Lingering,
    request::{
        body::BodyDiscarder,
        head::Request,
        headers::{Persistence, Version},
    },
    response::BodyMode,
};

/// The responses in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteBatch {
    /// This many responses so far; more may follow.
    Collecting(u32),
    /// Complete. Nothing is added until all of it has been written.
    Flushing,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// A request head is being read or awaited.
    Head,
    /// The head of `request` is in the inbox; its body is being read and discarded.
    Body { request: Request, discarder: BodyDiscarder },
    /// The request timed out.
    Rejected(Reject),
    /// The service has been called and has not responded yet.
    AwaitingResponse(PendingResponse),
    /// The last response is in the outbox.
    Closing(CloseMode),
    /// The sending half is shut down. Further bytes are read and discarded, until the client closes or the deadline
    /// expires.
    Lingering(Lingering),
    /// To be closed.
    Over,
}

/// The part of a request that is needed to render its response and to find the next request.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingResponse {
    pub(super) body_mode: BodyMode,
    pub(super) version: Version,
    pub(super) persistence: Persistence,
    /// Bytes from the start of this request to the start of the next.
    pub(super) length: usize,
    pub(super) close_mode: CloseMode,
}

/// How to close (RFC 9112 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// At once: everything received has been consumed, so the kernel sends no reset.
    Immediate,
    /// In stages: closing a socket with unread bytes makes the kernel send a reset, which may destroy the
    /// response before the client has read it.
    Lingering,
}

/// The receiving half of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// More may arrive.
    Open,
    /// More has arrived and has not been read yet.
    MorePending,
    /// Everything has been received.
    Eof,
}

/// Whether this server lets the connection persist after its next response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepAlive {
    /// As the request says.
    Allowed,
    /// Never.
    Disabled,
}
