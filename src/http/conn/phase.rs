//! How far a connection has come: one enum for each thing that can be in one state at a time.

use crate::http::{
    Reject,
    request::{
        body::BodyDiscarder,
        head::Request,
        headers::{Persistence, Version},
    },
    response::BodyMode,
};

/// The answers in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteBatch {
    /// So many are there, and more may join.
    Collecting(u32),
    /// The owner has been told to write; until all is written nothing joins.
    Flushing,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// A head is being read, or awaited.
    Head,
    /// The head of `request` stands in the inbox and its body is being skipped.
    Body { request: Request, skipper: BodyDiscarder },
    /// What was read cannot become a request.
    Rejected(Reject),
    /// The owner has been told to answer.
    AwaitingResponse(PendingResponse),
    /// The last answer is in the outbox.
    Closing(CloseMode),
    /// The sending side is shut; so many more bytes will be read and discarded.
    Lingering(u32),
    /// All is done.
    Over,
}

/// What is to be known of a request to render its answer and to go on behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingResponse {
    pub(super) content: BodyMode,
    pub(super) version: Version,
    pub(super) persistence: Persistence,
    /// Bytes from the start of this request to that of the next.
    pub(super) length: usize,
    pub(super) close_mode: CloseMode,
}

/// How to close (RFC 9112 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// At once: everything received has been used, so that no reset can follow.
    Immediate,
    /// By stages: closing a socket with unread bytes makes the kernel send a reset, and that may overtake
    /// the answer.
    Lingering,
}

/// The receiving side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// More may come.
    Open,
    /// More has come, and has not been read yet.
    MorePending,
    /// All has been received.
    Eof,
}

/// Whether the connection may outlive its next answer, as far as this server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepAlive {
    /// If the peer wants so.
    Allowed,
    /// In no case.
    Disabled,
}
