//! One connection as a state machine: bytes in, requests out, responses in, bytes out.
//!
//! No socket, no clock, no routes and no numbers. The owner of the socket pushes what it has read with
//! [`Conn::receive`], asks with [`Conn::next`] what to do, and does it:
//!
//! ```text
//!                 ┌──────────────── respond ────────────────┐
//!                 ▼                                          │
//! receive ─▶ Head ─▶ Body ──────── Next::Answer ─────────▶ AwaitingResponse ── respond, last one ─▶ Closing
//!              │      │                                      ▲                              │
//!              └──────┴─▶ Rejected ────── Next::Reject ───────┘       Next::Shutdown ◀───────┤
//!                                                                          │                │
//!                                                                      Lingering ────▶ Over (Next::Close)
//! ```
//!
//! Responses gather in the outbox while pipelined requests are consumed, and go out in one write per
//! batch. While an answer is owed, or a batch waits to be written, nothing is parsed and nothing is read:
//! that bounds what a peer can make this server hold (ARCHITECTURE.md, "Limits").

mod buffers;
mod next;
mod outbox;
mod phase;

pub use buffers::Buffers;
pub use next::{Next, ResponseMeta, Waiting};

use outbox::Outbox;
use phase::{CloseMode, KeepAlive, PendingResponse, Phase, ReadState, WriteBatch};

use crate::http::{
    Method, Reject, Span, date,
    request::{
        body::{BodyDiscarder, Framing},
        head::{Parser, Request},
        headers::{Expectation, Persistence, Version},
        limits::Limits,
        scan::HeadScanner,
    },
    response::{self, Body, BodyMode, ConnectionHeader, Response},
};

/// No further answer joins a batch of this many bytes.
pub const BATCH_BYTES_HIGH: usize = 16 * 1024;
/// A peer that takes so many bytes of a batch has made progress, and gets the time for a write anew.
pub const WRITE_QUANTUM: u32 = 64 * 1024;
/// Most bytes that are read and discarded after the last answer, waiting for the peer's end of stream.
pub const LINGER_BYTES_MAX: u32 = 256 * 1024;

/// One connection.
///
/// Invariant: `start <= inbox.len()`.
#[derive(Debug)]
pub struct Conn {
    /// What has been received and is still needed.
    inbox: Vec<u8>,
    /// Where in the inbox the head begins that is being read or answered.
    start: usize,
    /// How far the end of that head has been looked for.
    scan: HeadScanner,
    /// What is to be written.
    outbox: Outbox,
    batch: WriteBatch,
    /// Bytes of the batch written since the last progress.
    taken: u32,
    /// Counts what tells one wait from the next: answers, and quanta written, modulo 2^32.
    progress: u32,
    phase: Phase,
    read_state: ReadState,
    keep_alive: KeepAlive,
}

impl Conn {
    /// A connection on which nothing has happened.
    pub fn new() -> Self {
        Self {
            inbox: Vec::new(),
            start: 0,
            scan: HeadScanner::default(),
            outbox: Outbox::new(),
            batch: WriteBatch::Collecting(0),
            taken: 0,
            progress: 0,
            phase: Phase::Head,
            read_state: ReadState::Open,
            keep_alive: KeepAlive::Allowed,
        }
    }

    /// Takes in bytes that the peer sent. Call it after [`Next::Read`] only: that is what bounds the inbox.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.read_state == ReadState::MorePending {
            self.read_state = ReadState::Open;
        }
        match &mut self.phase {
            Phase::Lingering(allowance) => {
                match allowance.checked_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) {
                    Some(left) => *allowance = left,
                    None => self.phase = Phase::Over,
                }
            }
            Phase::Closing(_) | Phase::Over => {}
            Phase::Head | Phase::Body { .. } | Phase::Rejected(_) | Phase::AwaitingResponse(_) => {
                // What has been used makes room first: a turn may end one batch and read on.
                self.inbox.drain(..self.start);
                self.start = 0;
                self.inbox.extend_from_slice(bytes);
            }
        }
    }

    /// Takes in that there is more to be read than what was received last.
    pub const fn mark_more_pending(&mut self) {
        self.read_state = ReadState::MorePending;
    }

    /// Takes in that the peer will send no more. What it has sent is still answered.
    pub const fn receive_eof(&mut self) {
        self.read_state = ReadState::Eof;
    }

    /// What to do now. Asking twice does no harm.
    pub fn next(&mut self, parser: &mut Parser) -> Next {
        if self.batch_is_complete(parser.limits()) && !matches!(self.phase, Phase::Over) {
            self.batch = WriteBatch::Flushing;
            return Next::Write;
        }
        match self.phase {
            Phase::Head => self.read_head(parser),
            Phase::Body { .. } => self.skip_body(),
            Phase::Rejected(reject) => self.reject(reject),
            Phase::AwaitingResponse(_) => self.flush_or(Next::Wait),
            Phase::Closing(_) if self.has_outgoing() => self.flush_or(Next::Wait),
            Phase::Closing(CloseMode::Lingering) if self.read_state != ReadState::Eof => {
                self.phase = Phase::Lingering(LINGER_BYTES_MAX);
                Next::Shutdown
            }
            Phase::Lingering(_) if self.read_state != ReadState::Eof => Next::Read,
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Over => Next::Close,
        }
    }

    /// The text of the head whose request [`Next::Answer`] has handed out.
    pub fn head(&self, request: &Request) -> &[u8] {
        Span::new(self.start, self.start + request.head_bytes).of(&self.inbox)
    }

    /// Whether an answer is owed: not any more, if time ran out meanwhile.
    pub const fn is_awaiting_response(&self) -> bool {
        matches!(self.phase, Phase::AwaitingResponse(_))
    }

    /// Puts the answer that is owed into the outbox.
    pub fn respond(&mut self, response: &Response<'_>, date: &[u8; date::LENGTH]) -> ResponseMeta {
        let Phase::AwaitingResponse(owed) = self.phase else {
            debug_assert!(false, "no answer is owed");
            return ResponseMeta { bytes: 0, start: self.start };
        };
        let persistence = match self.keep_alive {
            KeepAlive::Allowed => owed.persistence,
            KeepAlive::Disabled => Persistence::Close,
        };
        let connection = match (persistence, owed.version) {
            (Persistence::Close, _) => ConnectionHeader::Close,
            (Persistence::KeepAlive, Version::Http11) => ConnectionHeader::Implied,
            (Persistence::KeepAlive, Version::Http10) => ConnectionHeader::KeepAlive,
        };
        let out = &mut self.outbox.bytes;
        let mut length = response::render(out, response, owed.content, connection, date);
        if let (Body::Shared(body), BodyMode::Send) = (response.body, owed.content) {
            self.outbox.share(body);
            length += body.len();
        }
        if let WriteBatch::Collecting(answers) = &mut self.batch {
            *answers += 1;
        }
        self.progress = self.progress.wrapping_add(1);
        let start = self.start;
        self.start += owed.length;
        self.scan.restart();
        self.phase = match persistence {
            Persistence::KeepAlive => Phase::Head,
            Persistence::Close => {
                let unread = self.has_input() || self.read_state == ReadState::MorePending;
                self.start = self.inbox.len();
                Phase::Closing(if unread { CloseMode::Lingering } else { owed.close_mode })
            }
        };
        ResponseMeta { bytes: length, start }
    }

    /// The text of the request that was answered, or what has come of it, and what stands behind that. Ask for it
    /// before anything else happens on the connection.
    pub fn answered(&self, answered: &ResponseMeta) -> &[u8] {
        self.inbox.get(answered.start..).unwrap_or_default()
    }

    /// What is to be written after [`Next::Write`], in two segments, either of which may be empty.
    pub fn outgoing(&self) -> [&[u8]; 2] {
        self.outbox.segments()
    }

    /// Takes in that the first `count` bytes of [`Self::outgoing`] have been written.
    pub fn advance_written(&mut self, count: usize) {
        self.outbox.advance(count);
        self.taken = self.taken.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.taken >= WRITE_QUANTUM {
            self.taken %= WRITE_QUANTUM;
            self.progress = self.progress.wrapping_add(1);
        }
        if self.outbox.is_empty() {
            self.batch = WriteBatch::Collecting(0);
            self.taken = 0;
        }
    }

    /// Whether something received has not been used yet.
    pub const fn has_input(&self) -> bool {
        self.start < self.inbox.len()
    }

    /// How many bytes it holds: received, and rendered to be sent; a shared body is not its own. ARCHITECTURE.md has the bounds.
    pub fn buffered(&self) -> (usize, usize) {
        (self.inbox.len(), self.outbox.bytes.len())
    }

    /// What the connection waits for when [`Self::next`] has nothing more to do at once, and a number
    /// that tells one such wait from the next of the same kind: each has a time limit of its own.
    pub fn waiting(&self) -> (Waiting, u32) {
        let waiting = match self.phase {
            Phase::Lingering(_) | Phase::Over => Waiting::Linger,
            _ if self.has_outgoing() => Waiting::Write,
            Phase::Head if self.progress > 0 && !self.has_input() => Waiting::Idle,
            Phase::Head => Waiting::Head,
            Phase::Body { .. } => Waiting::Body,
            Phase::Rejected(_) | Phase::AwaitingResponse(_) => Waiting::Answer,
            Phase::Closing(_) => Waiting::Linger,
        };
        (waiting, self.progress)
    }

    /// Takes in that the time for what [`Self::waiting`] tells is up. Ask [`Self::next`] what that means.
    ///
    /// A peer that has begun a request is told so with 408 (RFC 9110 section 15.5.9). A kept connection is
    /// shut before it is closed: what its peer has not taken yet shall not stay in the kernel for minutes,
    /// and one that is alive closes at once. To whoever has said nothing there is nothing to answer.
    pub fn expire(&mut self) {
        self.phase = match self.waiting().0 {
            Waiting::Head if self.has_input() => Phase::Rejected(Reject::HeadTimeout),
            Waiting::Body => Phase::Rejected(Reject::BodyTimeout),
            Waiting::Idle => Phase::Closing(CloseMode::Lingering),
            Waiting::Head | Waiting::Write | Waiting::Answer | Waiting::Linger => Phase::Over,
        };
    }

    /// Makes the next answer the last one, whatever its request says.
    pub const fn disable_keep_alive(&mut self) {
        self.keep_alive = KeepAlive::Disabled;
    }

    /// Begins to close if nothing has been asked that is not answered; says whether it did.
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

    /// Borrows buffers for a turn. To be called before anything else in it.
    pub const fn borrow_buffers(&mut self, buffers: &mut Buffers) {
        buffers.lend(&mut self.inbox, &mut self.outbox.bytes);
    }

    /// Gives the buffers back at the end of a turn, and keeps just what must be kept.
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
            WriteBatch::Collecting(answers) => {
                answers >= limits.pipelined
                    || self.outbox.bytes.len() >= BATCH_BYTES_HIGH
                    || self.outbox.is_ended()
            }
        }
    }

    /// Has the outbox written before anything else is done.
    fn flush_or(&mut self, next: Next) -> Next {
        if self.has_outgoing() {
            self.batch = WriteBatch::Flushing;
            return Next::Write;
        }
        next
    }

    fn read_head(&mut self, parser: &mut Parser) -> Next {
        if !self.has_input() && self.read_state != ReadState::Eof {
            return self.await_more();
        }
        let received = self.inbox.get(self.start..).unwrap_or_default();
        match parser.parse(received, &mut self.scan) {
            Ok(Some(request)) if request.framing == Framing::Empty => self.hand_out(request, 0),
            Ok(Some(request)) => {
                match BodyDiscarder::new(request.framing, parser.limits().body_bytes) {
                    Ok(skipper) => {
                        if request.expectation == Expectation::Continue {
                            self.outbox.bytes.extend_from_slice(response::CONTINUE);
                        }
                        self.phase = Phase::Body { request, skipper };
                        self.skip_body()
                    }
                    Err(reject) => self.reject(reject),
                }
            }
            Ok(None) if received.is_empty() && self.read_state == ReadState::Eof => {
                self.phase = Phase::Closing(CloseMode::Immediate);
                self.flush_or(Next::Close)
            }
            Ok(None) => self.await_more(),
            Err(reject) => self.reject(reject),
        }
    }

    fn skip_body(&mut self) -> Next {
        let Phase::Body { request, skipper } = &mut self.phase else { return Next::Wait };
        let body_start = self.start + request.head_bytes;
        let received = self.inbox.get(body_start..).unwrap_or_default();
        match skipper.skip(received) {
            Ok(skipped) if skipper.is_done() => {
                request.body_bytes += skipped as u64;
                let request = *request;
                self.hand_out(request, skipped)
            }
            Ok(skipped) => {
                request.body_bytes += skipped as u64;
                // All of it was body. Only the head is kept until the answer is made.
                self.inbox.truncate(body_start);
                self.await_more()
            }
            Err(reject) => self.reject(reject),
        }
    }

    /// Reads on, if there can be more.
    fn await_more(&mut self) -> Next {
        match self.read_state {
            ReadState::Open | ReadState::MorePending => self.flush_or(Next::Read),
            ReadState::Eof => self.reject(Reject::Incomplete),
        }
    }

    fn hand_out(&mut self, request: Request, body_bytes: usize) -> Next {
        self.phase = Phase::AwaitingResponse(PendingResponse {
            content: if request.method == Method::Head { BodyMode::Omit } else { BodyMode::Send },
            version: request.version,
            persistence: request.persistence,
            length: request.head_bytes + body_bytes,
            close_mode: CloseMode::Immediate,
        });
        Next::Answer(request)
    }

    #[cold]
    fn reject(&mut self, reject: Reject) -> Next {
        // Without content behind an answer to HEAD, even if that is no request (RFC 9110 section 9.3.2).
        let received = self.inbox.get(self.start..).unwrap_or_default();
        let omits_content = self.scan.is_head_method(received);
        self.phase = Phase::AwaitingResponse(PendingResponse {
            content: if omits_content { BodyMode::Omit } else { BodyMode::Send },
            version: Version::Http11,
            persistence: Persistence::Close,
            length: 0,
            close_mode: CloseMode::Lingering,
        });
        Next::Reject(reject)
    }
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
