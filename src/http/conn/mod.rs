//! One connection as a state machine: bytes in, requests out, responses in, bytes out.
//!
//! No socket, no clock, no routes and no numbers. The owner of the socket passes what it has read to
//! [`Conn::receive`]. [`Conn::advance`] then parses, has a [`Service`] make the responses, and returns the I/O
//! that the connection needs next:
//!
//! ```text
//!                 ┌──────────────── respond ─────────────────┐
//!                 ▼                                          │
//! receive ─▶ Head ─▶ Body ─────── Service::request ─────▶ AwaitingResponse ── respond, last one ─▶ Closing
//!              │      │                                      ▲                              │
//!              └──────┴─▶ Rejected ── Service::reject ────────┘         Io::Shutdown ◀───────┤
//!                                                                          │                │
//!                                                                      Lingering ────▶ Over (Io::Close)
//! ```
//!
//! Responses to pipelined requests are collected in the outbox and written in batches. While a response is
//! pending, or a batch waits to be written, nothing is parsed and nothing is read. This bounds what a client can
//! make the server hold (ARCHITECTURE.md, "Limits").

mod buffers;
mod io;
mod linger;
mod outbox;
mod parse;
mod phase;

pub use buffers::Buffers;
pub use io::{Io, ResponseMeta, TimeoutKind, Wait};
pub use linger::{LINGER_BYTES_MAX, LINGER_BYTES_MIN, LINGER_PERIODS_MAX};

use linger::Lingering;
use outbox::Outbox;
use phase::{CloseMode, KeepAlive, Phase, ReadState, WriteBatch};

use crate::http::{
    Reject, Span,
    preamble::Preamble,
    render,
    request::{
        head::{Parser, Request},
        headers::{Persistence, Version},
        limits::Limits,
        scan::HeadScanner,
    },
    response::{BodyMode, ConnectionHeader, Response},
};

/// A batch of this many bytes takes no further response.
pub const BATCH_BYTES_HIGH: usize = 16 * 1024;

/// Makes the responses. Each request gets exactly one call of [`Conn::respond`].
pub trait Service {
    /// Handles a request, whose head is [`Conn::head`]: responds to it, now or later.
    fn request(&mut self, conn: &mut Conn, request: &Request);

    /// Whether the body of a request is read although the client waits for 100. If not, the client gets the final
    /// response at once.
    fn reads_body(&self, conn: &Conn, request: &Request) -> bool;

    /// Responds to bytes that cannot become a request.
    fn reject(&mut self, conn: &mut Conn, reject: Reject);
}

/// One connection.
///
/// Invariant: `start <= inbox.len()`.
#[derive(Debug)]
pub struct Conn {
    /// Bytes received and still needed.
    inbox: Vec<u8>,
    /// Where in the inbox the current request begins.
    start: usize,
    /// How far its head has been scanned.
    scan: HeadScanner,
    /// Bytes to be written.
    outbox: Outbox,
    batch: WriteBatch,
    /// Responses made so far, modulo 2^32. Tells one wait from the next.
    progress: u32,
    phase: Phase,
    read_state: ReadState,
    keep_alive: KeepAlive,
}

impl Conn {
    /// Returns a connection that has received nothing.
    pub fn new() -> Self {
        Self {
            inbox: Vec::new(),
            start: 0,
            scan: HeadScanner::default(),
            outbox: Outbox::new(),
            batch: WriteBatch::Collecting(0),
            progress: 0,
            phase: Phase::Head,
            read_state: ReadState::Open,
            keep_alive: KeepAlive::Allowed,
        }
    }

    /// Accepts bytes read from the socket. Call it after [`Io::Read`] only: this bounds the inbox.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.read_state == ReadState::MorePending {
            self.read_state = ReadState::Open;
        }
        match &mut self.phase {
            Phase::Lingering(lingering) => lingering.receive(bytes.len()),
            Phase::Closing(_) | Phase::Over => {}
            Phase::Head | Phase::Body { .. } | Phase::Rejected(_) | Phase::AwaitingResponse(_) => {
                // Consumed bytes are removed first: one turn may finish a batch and read again.
                self.inbox.drain(..self.start);
                self.start = 0;
                self.inbox.extend_from_slice(bytes);
            }
        }
    }

    /// Records that the socket holds more than has been read.
    pub const fn mark_more_pending(&mut self) {
        self.read_state = ReadState::MorePending;
    }

    /// Records end of stream. Requests already received still get their responses.
    pub const fn receive_eof(&mut self) {
        self.read_state = ReadState::Eof;
    }

    /// Parses what has been received and has `service` respond to it, until I/O is needed. Returns that I/O.
    /// Calling it again without doing the I/O returns the same.
    #[inline]
    pub fn advance(&mut self, parser: &mut Parser, service: &mut impl Service) -> Io {
        loop {
            if let Some(io) = self.step(parser, service) {
                return io;
            }
        }
    }

    /// Handles at most one request. Returns the I/O that is needed before the next step, if any.
    #[inline]
    fn step(&mut self, parser: &mut Parser, service: &mut impl Service) -> Option<Io> {
        if self.batch_is_complete(parser.limits()) && !matches!(self.phase, Phase::Over) {
            self.batch = WriteBatch::Flushing;
            return Some(Io::Write);
        }
        match self.phase {
            Phase::Head => self.read_head(parser, service),
            Phase::Body { .. } => self.discard_body(service),
            Phase::Rejected(reject) => self.reject(reject, service),
            Phase::AwaitingResponse(_) => Some(self.flush_or(Io::Wait)),
            Phase::Closing(_) if self.has_outgoing() => Some(self.flush_or(Io::Wait)),
            Phase::Closing(CloseMode::Lingering) if self.read_state != ReadState::Eof => {
                self.phase = Phase::Lingering(Lingering::default());
                Some(Io::Shutdown)
            }
            Phase::Lingering(_) if self.read_state != ReadState::Eof => Some(Io::Read),
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Over => Some(Io::Close),
        }
    }

    /// The text of the head of the pending request.
    pub fn head(&self, request: &Request) -> &[u8] {
        Span::new(self.start, self.start + request.head_bytes).of(&self.inbox)
    }

    /// Whether a response is pending. After [`Self::expire`] it no longer is.
    pub const fn is_awaiting_response(&self) -> bool {
        matches!(self.phase, Phase::AwaitingResponse(_))
    }

    /// Puts the pending response into the outbox.
    pub fn respond(&mut self, response: &Response<'_>, preamble: &Preamble) -> ResponseMeta {
        let Phase::AwaitingResponse(pending) = self.phase else {
            debug_assert!(false, "no response is pending");
            return ResponseMeta { bytes: 0, body_mode: BodyMode::Omit, start: self.start };
        };
        let persistence = match self.keep_alive {
            KeepAlive::Allowed => pending.persistence,
            KeepAlive::Disabled => Persistence::Close,
        };
        let connection = match (persistence, pending.version) {
            (Persistence::Close, _) => ConnectionHeader::Close,
            (Persistence::KeepAlive, Version::Http11) => ConnectionHeader::Implied,
            (Persistence::KeepAlive, Version::Http10) => ConnectionHeader::KeepAlive,
        };
        let out = &mut self.outbox.bytes;
        let mut length = render::render(out, response, pending.body_mode, connection, preamble);
        if let (Some((body, span)), BodyMode::Send) = (response.body.shared(), pending.body_mode) {
            self.outbox.share(body, span, response.tail());
            length += span.len() + response.tail().len();
        }
        if let WriteBatch::Collecting(responses) = &mut self.batch {
            *responses += 1;
        }
        self.progress = self.progress.wrapping_add(1);
        let start = self.start;
        self.start += pending.length;
        self.scan.restart();
        self.phase = match persistence {
            Persistence::KeepAlive => Phase::Head,
            Persistence::Close => {
                // A client that expects keep-alive may be sending its next request (RFC 9112 section 9.6).
                let may_send = pending.persistence == Persistence::KeepAlive
                    || self.has_input()
                    || self.read_state == ReadState::MorePending;
                self.start = self.inbox.len();
                Phase::Closing(if may_send { CloseMode::Lingering } else { pending.close_mode })
            }
        };
        ResponseMeta { bytes: length, body_mode: pending.body_mode, start }
    }

    /// The bytes received from the start of the request that `response` belongs to. A rejected one may be
    /// incomplete, and others may follow it. Call it directly after [`Self::respond`].
    pub fn received(&self, response: &ResponseMeta) -> &[u8] {
        self.inbox.get(response.start..).unwrap_or_default()
    }

    /// The bytes to write after [`Io::Write`], in two segments. Either may be empty.
    pub fn outgoing(&self) -> [&[u8]; 2] {
        self.outbox.segments()
    }

    /// Records that the first `count` bytes of [`Self::outgoing`] have been written.
    pub fn advance_written(&mut self, count: usize) {
        self.outbox.advance(count);
        if self.outbox.is_empty() {
            self.batch = WriteBatch::Collecting(0);
        }
    }

    /// Whether received bytes have not been consumed yet.
    pub const fn has_input(&self) -> bool {
        self.start < self.inbox.len()
    }

    /// Whether a request has begun. Half of an empty line does not begin one (RFC 9112 section 2.2).
    fn has_begun(&self) -> bool {
        self.has_input() && self.inbox.get(self.start..) != Some(b"\r".as_slice())
    }

    /// Number of bytes held: those received, and those rendered to be sent. A shared body does not count. The
    /// bounds are in ARCHITECTURE.md.
    pub fn buffered(&self) -> (usize, usize) {
        (self.inbox.len(), self.outbox.bytes.len())
    }

    /// What the connection waits for once [`Self::advance`] has returned.
    pub fn wait(&self) -> Wait {
        let timeout = match self.phase {
            Phase::Lingering(_) | Phase::Over => Some(TimeoutKind::Linger),
            _ if self.has_outgoing() => Some(TimeoutKind::Write),
            Phase::Head if self.progress > 0 && !self.has_begun() => Some(TimeoutKind::Idle),
            Phase::Head => Some(TimeoutKind::Head),
            Phase::Body { .. } => Some(TimeoutKind::Body),
            Phase::Rejected(_) | Phase::AwaitingResponse(_) => None,
            Phase::Closing(_) => Some(TimeoutKind::Linger),
        };
        Wait { timeout, progress: self.progress }
    }

    /// Handles an expired deadline; [`Self::advance`] returns the resulting action.
    ///
    /// A request that has begun gets 408 (RFC 9110 section 15.5.9). An idle connection is shut down before it is
    /// closed: a client that is alive closes at once, and unread responses do not stay in the kernel for minutes.
    /// A client that has sent nothing gets no response.
    pub fn expire(&mut self) {
        self.phase = match self.wait().timeout {
            Some(TimeoutKind::Head) if self.has_input() => Phase::Rejected(Reject::HeadTimeout),
            Some(TimeoutKind::Body) => Phase::Rejected(Reject::BodyTimeout),
            Some(TimeoutKind::Idle) => Phase::Closing(CloseMode::Lingering),
            Some(TimeoutKind::Head | TimeoutKind::Write | TimeoutKind::Linger) | None => {
                Phase::Over
            }
        };
    }

    /// Handles an expired deadline of a lingering close. Returns whether the client sends fast enough for another; if
    /// not, call [`Self::expire`].
    pub const fn renew_linger(&mut self) -> bool {
        let Phase::Lingering(lingering) = &mut self.phase else { return false };
        lingering.end_period()
    }

    /// Disables keep-alive: the next response closes the connection.
    pub const fn disable_keep_alive(&mut self) {
        self.keep_alive = KeepAlive::Disabled;
    }

    /// Begins to close the connection unless a request has begun or a response is unsent. Returns whether it did.
    pub fn close_if_idle(&mut self) -> bool {
        let is_idle = matches!(self.phase, Phase::Head)
            && !self.has_input()
            && self.read_state != ReadState::MorePending
            && !self.has_outgoing();
        if is_idle {
            self.phase = Phase::Closing(CloseMode::Lingering);
        }
        is_idle
    }

    /// Borrows buffers for a turn. Call it before anything else in the turn.
    pub const fn borrow_buffers(&mut self, buffers: &mut Buffers) {
        buffers.lend(&mut self.inbox, &mut self.outbox.bytes);
    }

    /// Returns the buffers at the end of a turn, and keeps only the bytes that are still needed.
    pub fn return_buffers(&mut self, buffers: &mut Buffers) {
        let used = self.outbox.used();
        buffers.take_back((&mut self.inbox, self.start), (&mut self.outbox.bytes, used));
        self.start = 0;
        self.outbox.sent -= used;
    }

    fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn batch_is_complete(&self, limits: &Limits) -> bool {
        match self.batch {
            WriteBatch::Flushing => true,
            WriteBatch::Collecting(responses) => {
                responses >= limits.pipelined
                    || self.outbox.bytes.len() >= BATCH_BYTES_HIGH
                    || self.outbox.is_ended()
            }
        }
    }

    /// Returns [`Io::Write`] while the outbox holds anything, else `io`.
    fn flush_or(&mut self, io: Io) -> Io {
        if self.has_outgoing() {
            self.batch = WriteBatch::Flushing;
            return Io::Write;
        }
        io
    }
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
