//! One connection as a state machine: bytes in, requests out, responses in, bytes out.
//!
//! No socket, no clock, no routes and no numbers. The owner of the socket pushes what it has read with
//! [`Conn::receive`], asks with [`Conn::next`] what to do, and does it:
//!
//! ```text
//!                 ┌──────────────── respond ────────────────┐
//!                 ▼                                          │
//! receive ─▶ Head ─▶ Body ──────── Next::Answer ─────────▶ Owing ── respond, last one ─▶ Closing
//!              │      │                                      ▲                              │
//!              └──────┴─▶ Refused ────── Next::Refuse ───────┘       Next::Shutdown ◀───────┤
//!                                                                          │                │
//!                                                                      Lingering ────▶ Over (Next::Close)
//! ```
//!
//! Responses gather in the outbox while pipelined requests are consumed, and go out in one write per
//! batch. While an answer is owed, or a batch waits to be written, nothing is parsed and nothing is read:
//! that bounds what a peer can make this server hold (ARCHITECTURE.md, "Limits").

use crate::http::{
    Method, Reject, Span,
    body::{Framing, Skipper},
    date,
    fields::{Expectation, Persistence, Version},
    head::{self, Request, Scan},
    response::{self, Connection, Content, Response},
};

/// Most answers to one peer in one batch. What it pipelines beyond that has to wait until the other peers
/// had their turn.
pub const BATCH_ANSWERS_MAX: u32 = 32;
/// No further answer joins a batch of this many bytes.
pub const BATCH_BYTES_HIGH: usize = 32 * 1024;
/// Most bytes that are read and discarded after the last answer, waiting for the peer's end of stream.
pub const LINGER_BYTES_MAX: u32 = 256 * 1024;

/// Bounds on what one request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bounds on the head.
    pub head: head::Limits,
    /// Bytes of content in a body; beyond it 413.
    pub body_bytes: u64,
}

/// What the owner of the socket is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Answer this request with [`Conn::respond`]; its head is [`Conn::head`] until then.
    Answer(Request),
    /// Answer what cannot become a request with [`Conn::respond`].
    Refuse(Reject),
    /// Read from the socket, and [`Conn::receive`] or [`Conn::receive_end`].
    Read,
    /// Write [`Conn::outgoing`] to the socket, and tell with [`Conn::sent`].
    Write,
    /// Nothing until [`Conn::respond`] is called.
    Wait,
    /// Shut down the sending side of the socket, then ask again.
    Shutdown,
    /// Close the socket.
    Close,
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

/// Buffers that connections borrow while they are served, so that an idle one holds none.
#[derive(Debug, Default)]
pub struct Buffers {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

/// One connection.
///
/// Invariants: `start <= inbox.len()`, `sent <= outbox.len()`, and `outbox` is empty when all is sent.
#[derive(Debug)]
pub struct Conn {
    /// What has been received and is still needed.
    inbox: Vec<u8>,
    /// Where in the inbox the head begins that is being read or answered.
    start: usize,
    /// How far the end of that head has been looked for.
    scan: Scan,
    /// What is to be written.
    outbox: Vec<u8>,
    /// How much of the outbox has been written.
    sent: usize,
    batch: Batch,
    /// Requests answered or refused so far, modulo 2^32.
    answered: u32,
    phase: Phase,
    incoming: Incoming,
}

/// The answers in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// So many are there, and more may join.
    Gathering(u32),
    /// The owner has been told to write; until all is written nothing joins.
    Flushing,
}

#[derive(Debug)]
enum Phase {
    /// A head is being read, or awaited.
    Head,
    /// The head of `request` stands in the inbox and its body is being skipped.
    Body { request: Request, skipper: Skipper },
    /// What was read cannot become a request.
    Refused(Reject),
    /// The owner has been told to answer.
    Owing(Owed),
    /// The last answer is in the outbox.
    Closing(Ending),
    /// The sending side is shut; so many more bytes will be read and discarded.
    Lingering(u32),
    /// All is done.
    Over,
}

/// What is to be known of a request to render its answer and to go on behind it.
#[derive(Clone, Copy, Debug)]
struct Owed {
    content: Content,
    version: Version,
    persistence: Persistence,
    /// Bytes from the start of this request to that of the next.
    length: usize,
    ending: Ending,
}

/// How to close (RFC 9112 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// At once: everything received has been used, so that no reset can follow.
    Plain,
    /// By stages: closing a socket with unread bytes makes the kernel send a reset, and that may overtake
    /// the answer.
    Lingering,
}

/// The receiving side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    Open,
    Ended,
}

impl Conn {
    /// A connection on which nothing has happened.
    pub const fn new() -> Self {
        Self {
            inbox: Vec::new(),
            start: 0,
            scan: Scan::new(),
            outbox: Vec::new(),
            sent: 0,
            batch: Batch::Gathering(0),
            answered: 0,
            phase: Phase::Head,
            incoming: Incoming::Open,
        }
    }

    /// Takes in bytes that the peer sent. Call it after [`Next::Read`] only: that is what bounds the inbox.
    pub fn receive(&mut self, bytes: &[u8]) {
        match &mut self.phase {
            Phase::Lingering(allowance) => {
                match allowance.checked_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) {
                    Some(left) => *allowance = left,
                    None => self.phase = Phase::Over,
                }
            }
            Phase::Closing(_) | Phase::Over => {}
            Phase::Head | Phase::Body { .. } | Phase::Refused(_) | Phase::Owing(_) => {
                self.inbox.extend_from_slice(bytes);
            }
        }
    }

    /// Takes in that the peer will send no more. What it has sent is still answered.
    pub const fn receive_end(&mut self) {
        self.incoming = Incoming::Ended;
    }

    /// What to do now. Asking twice does no harm.
    pub fn next(&mut self, limits: &Limits) -> Next {
        if self.batch_is_complete() && !matches!(self.phase, Phase::Over) {
            self.batch = Batch::Flushing;
            return Next::Write;
        }
        match self.phase {
            Phase::Head => self.read_head(limits),
            Phase::Body { .. } => self.skip_body(),
            Phase::Refused(reject) => self.refuse(reject),
            Phase::Owing(_) => self.flush_or(Next::Wait),
            Phase::Closing(_) if self.has_outgoing() => self.flush_or(Next::Wait),
            Phase::Closing(Ending::Lingering) if self.incoming == Incoming::Open => {
                self.phase = Phase::Lingering(LINGER_BYTES_MAX);
                Next::Shutdown
            }
            Phase::Lingering(_) if self.incoming == Incoming::Open => Next::Read,
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Over => Next::Close,
        }
    }

    /// The text of the head whose request [`Next::Answer`] has handed out.
    pub fn head(&self, request: &Request) -> &[u8] {
        Span::new(self.start, self.start + request.head_bytes).of(&self.inbox)
    }

    /// Puts the answer that is owed into the outbox; returns its length in bytes.
    pub fn respond(&mut self, response: &Response<'_>, date: &[u8; date::LENGTH]) -> usize {
        let Phase::Owing(owed) = self.phase else {
            debug_assert!(false, "no answer is owed");
            return 0;
        };
        let connection = match (owed.persistence, owed.version) {
            (Persistence::Close, _) => Connection::Close,
            (Persistence::KeepAlive, Version::Http11) => Connection::Implied,
            (Persistence::KeepAlive, Version::Http10) => Connection::KeepAlive,
        };
        let length = response::render(&mut self.outbox, response, owed.content, connection, date);
        if let Batch::Gathering(answers) = &mut self.batch {
            *answers += 1;
        }
        self.answered = self.answered.wrapping_add(1);
        self.start += owed.length;
        self.scan = Scan::new();
        self.phase = match owed.persistence {
            Persistence::KeepAlive => Phase::Head,
            Persistence::Close => {
                let unread = self.has_input();
                self.start = self.inbox.len();
                Phase::Closing(if unread { Ending::Lingering } else { owed.ending })
            }
        };
        length
    }

    /// What is to be written after [`Next::Write`].
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.get(self.sent..).unwrap_or_default()
    }

    /// Takes in that the first `count` bytes of [`Self::outgoing`] have been written.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.outbox.len(), "more sent than there was");
        if !self.has_outgoing() {
            self.outbox.clear();
            self.sent = 0;
            self.batch = Batch::Gathering(0);
        }
    }

    /// Whether something received has not been used yet.
    pub const fn has_input(&self) -> bool {
        self.start < self.inbox.len()
    }

    /// What the connection waits for when [`Self::next`] has nothing more to do at once, and a number
    /// that tells one such wait from the next of the same kind.
    pub fn waiting(&self) -> (Waiting, u32) {
        let waiting = match self.phase {
            Phase::Lingering(_) | Phase::Over => Waiting::Linger,
            _ if self.has_outgoing() => Waiting::Write,
            Phase::Head if self.answered > 0 && !self.has_input() => Waiting::Idle,
            Phase::Head => Waiting::Head,
            Phase::Body { .. } => Waiting::Body,
            Phase::Refused(_) | Phase::Owing(_) => Waiting::Answer,
            Phase::Closing(_) => Waiting::Linger,
        };
        (waiting, self.answered)
    }

    /// Takes in that the time for what [`Self::waiting`] tells is up. Ask [`Self::next`] what that means.
    ///
    /// A peer that has begun a request is told so with 408 (RFC 9110 section 15.5.9); to one that has
    /// said nothing there is nothing to answer.
    pub fn expire(&mut self) {
        self.phase = match self.waiting().0 {
            Waiting::Head if self.has_input() => Phase::Refused(Reject::Timeout),
            Waiting::Body => Phase::Refused(Reject::Timeout),
            Waiting::Head | Waiting::Idle | Waiting::Write | Waiting::Answer | Waiting::Linger => {
                Phase::Over
            }
        };
    }

    /// Borrows the buffers that are missing. To be called before anything else in a turn.
    pub const fn borrow_buffers(&mut self, buffers: &mut Buffers) {
        if self.inbox.capacity() == 0 {
            core::mem::swap(&mut self.inbox, &mut buffers.inbox);
        }
        if self.outbox.capacity() == 0 {
            core::mem::swap(&mut self.outbox, &mut buffers.outbox);
        }
    }

    /// Gives the buffers back at the end of a turn, and keeps just what must be kept.
    pub fn return_buffers(&mut self, buffers: &mut Buffers) {
        return_buffer(&mut self.inbox, self.start, &mut buffers.inbox);
        self.start = 0;
        return_buffer(&mut self.outbox, self.sent, &mut buffers.outbox);
        self.sent = 0;
    }

    fn has_outgoing(&self) -> bool {
        self.sent < self.outbox.len()
    }

    fn batch_is_complete(&self) -> bool {
        match self.batch {
            Batch::Flushing => true,
            Batch::Gathering(answers) => {
                answers >= BATCH_ANSWERS_MAX || self.outbox.len() >= BATCH_BYTES_HIGH
            }
        }
    }

    /// Has the outbox written before anything else is done.
    fn flush_or(&mut self, next: Next) -> Next {
        if self.has_outgoing() {
            self.batch = Batch::Flushing;
            return Next::Write;
        }
        next
    }

    fn read_head(&mut self, limits: &Limits) -> Next {
        let received = self.inbox.get(self.start..).unwrap_or_default();
        match head::parse(received, &mut self.scan, &limits.head) {
            Ok(Some(request)) if request.framing == Framing::Empty => self.hand_out(request, 0),
            Ok(Some(request)) => match Skipper::new(request.framing, limits.body_bytes) {
                Ok(skipper) => {
                    if request.expectation == Expectation::Continue {
                        self.outbox.extend_from_slice(response::CONTINUE);
                    }
                    self.phase = Phase::Body { request, skipper };
                    self.skip_body()
                }
                Err(reject) => self.refuse(reject),
            },
            Ok(None) if received.is_empty() && self.incoming == Incoming::Ended => {
                self.phase = Phase::Closing(Ending::Plain);
                self.flush_or(Next::Close)
            }
            Ok(None) => self.await_more(),
            Err(reject) => self.refuse(reject),
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
            Err(reject) => self.refuse(reject),
        }
    }

    /// Reads on, if there can be more.
    fn await_more(&mut self) -> Next {
        match self.incoming {
            Incoming::Open => self.flush_or(Next::Read),
            Incoming::Ended => self.refuse(Reject::Incomplete),
        }
    }

    fn hand_out(&mut self, request: Request, body_bytes: usize) -> Next {
        self.phase = Phase::Owing(Owed {
            content: if request.method == Method::Head { Content::Omit } else { Content::Send },
            version: request.version,
            persistence: request.persistence,
            length: request.head_bytes + body_bytes,
            ending: Ending::Plain,
        });
        Next::Answer(request)
    }

    fn refuse(&mut self, reject: Reject) -> Next {
        self.phase = Phase::Owing(Owed {
            content: Content::Send,
            version: Version::Http11,
            persistence: Persistence::Close,
            length: 0,
            ending: Ending::Lingering,
        });
        Next::Refuse(reject)
    }
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives `buffer` back to `spare` if that is where it came from, and keeps what it has beyond `used` in a
/// buffer of just that size.
fn return_buffer(buffer: &mut Vec<u8>, used: usize, spare: &mut Vec<u8>) {
    let kept = buffer.get(used..).unwrap_or_default();
    let is_borrowed = spare.capacity() == 0;
    if is_borrowed {
        let kept = kept.to_vec(); // allocates only if there is something to keep
        buffer.clear();
        core::mem::swap(buffer, spare);
        *buffer = kept;
    } else if kept.is_empty() {
        *buffer = Vec::new();
    } else {
        buffer.drain(..used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Status, response::Fields};

    const LIMITS: Limits = Limits {
        head: head::Limits { head_bytes: 1024, target_bytes: 200, fields: 16 },
        body_bytes: 64,
    };
    const DATE: &[u8; date::LENGTH] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    /// What an owner sees: one word per answered request and event, in order.
    fn run(conn: &mut Conn) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            match conn.next(&LIMITS) {
                Next::Answer(request) => {
                    let head = String::from_utf8_lossy(conn.head(&request)).into_owned();
                    let target = head.trim_start().split(' ').nth(1).unwrap_or_default();
                    let body = target.as_bytes().to_vec();
                    events.push(target.to_owned());
                    respond(conn, Status::Ok, &body);
                }
                Next::Refuse(reject) => {
                    events.push(reject.status().code().to_owned());
                    respond(conn, reject.status(), b"");
                }
                Next::Write => {
                    events.push("write".to_owned());
                    conn.sent(conn.outgoing().len());
                }
                Next::Shutdown => events.push("shutdown".to_owned()),
                Next::Read => return events,
                Next::Wait => panic!("nothing is computed here"),
                Next::Close => {
                    events.push("close".to_owned());
                    return events;
                }
            }
        }
    }

    fn respond(conn: &mut Conn, status: Status, body: &[u8]) {
        conn.respond(&Response { status, fields: Fields::Text, body }, DATE);
    }

    fn check(input: &str, expected: &str) {
        let mut conn = Conn::new();
        conn.receive(input.as_bytes());
        assert_eq!(run(&mut conn).join(" "), expected, "{input:?}");
    }

    fn get(target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[test]
    fn one_request_then_the_next() {
        let mut conn = Conn::new();
        assert_eq!(run(&mut conn), [""; 0]);
        for target in ["/1", "/2"] {
            conn.receive(get(target).as_bytes());
            assert_eq!(run(&mut conn), [target, "write"]);
        }
        conn.receive_end();
        assert_eq!(run(&mut conn), ["close"]);
    }

    #[test]
    fn pipelined_requests_share_a_write() {
        check(&[get("/1"), get("/2"), get("/3")].concat(), "/1 /2 /3 write");
    }

    #[test]
    fn a_batch_has_a_bounded_number_of_answers() {
        let depth = BATCH_ANSWERS_MAX as usize + 1;
        let mut expected = vec!["/"; depth];
        expected.insert(depth - 1, "write");
        expected.push("write");
        check(&get("/").repeat(depth), &expected.join(" "));
    }

    #[test]
    fn a_batch_has_a_bounded_number_of_bytes() {
        let mut conn = Conn::new();
        conn.receive(get("/").repeat(2).as_bytes());
        assert!(matches!(conn.next(&LIMITS), Next::Answer(_)));
        respond(&mut conn, Status::Ok, &vec![b'x'; BATCH_BYTES_HIGH]);
        assert_eq!(conn.next(&LIMITS), Next::Write);
        conn.sent(1);
        assert_eq!(conn.next(&LIMITS), Next::Write, "a batch under way is written to its end");
        conn.sent(conn.outgoing().len());
        assert_eq!(run(&mut conn), ["/", "write"]);
    }

    #[test]
    fn the_last_answer_closes() {
        let close = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        check(close, "/1 write close");
        check(&format!("{close}{}", get("/2")), "/1 write shutdown");
        check("GET /1 HTTP/1.0\r\n\r\n", "/1 write close");
        check("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/1 write");
    }

    #[test]
    fn a_refusal_lingers() {
        let mut conn = Conn::new();
        conn.receive(b"BREW / HTTP/1.1\r\n\r\n");
        assert_eq!(run(&mut conn), ["501", "write", "shutdown"]);
        conn.receive(get("/1").as_bytes());
        assert_eq!(run(&mut conn), [""; 0], "what comes after a refusal is no request");
        conn.receive_end();
        assert_eq!(run(&mut conn), ["close"]);
    }

    #[test]
    fn lingering_is_bounded() {
        let mut conn = Conn::new();
        conn.receive(b"\0");
        run(&mut conn);
        conn.receive(&vec![0; LINGER_BYTES_MAX as usize]);
        assert_eq!(run(&mut conn), [""; 0]);
        conn.receive(b"\0");
        assert_eq!(run(&mut conn), ["close"]);
    }

    #[test]
    fn bodies_are_skipped_and_never_read_as_requests() {
        let post = |fields: &str, body: &str| {
            format!("POST /1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{}", get("/2"))
        };
        let inner = get("/3");
        check(&post(&format!("Content-Length: {}", inner.len()), &inner), "/1 /2 write");
        let chunked = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        check(&post("Transfer-Encoding: chunked", &chunked), "/1 /2 write");
        check(&post("Transfer-Encoding: chunked", "x"), "400 write shutdown");
        check(&post("Content-Length: 65", ""), "413 write shutdown");
    }

    #[test]
    fn an_expectation_is_met_before_the_body_is_read() {
        let mut conn = Conn::new();
        let head =
            "PUT /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        conn.receive(head.as_bytes());
        assert_eq!(conn.next(&LIMITS), Next::Write);
        assert_eq!(conn.outgoing(), response::CONTINUE);
        assert_eq!(run(&mut conn), ["write"]);
        conn.receive(b"abc");
        assert_eq!(run(&mut conn), ["/1", "write"]);
    }

    #[test]
    fn half_closed_peers_are_answered() {
        let mut conn = Conn::new();
        conn.receive([get("/1"), get("/2")].concat().as_bytes());
        conn.receive_end();
        assert_eq!(run(&mut conn), ["/1", "/2", "write", "close"]);
        let mut conn = Conn::new();
        conn.receive(b"GET / HTT");
        conn.receive_end();
        assert_eq!(run(&mut conn), ["400", "write", "close"]);
    }

    #[test]
    fn an_idle_connection_holds_no_buffer() {
        let (mut conn, mut buffers) = (Conn::new(), Buffers::default());
        for _ in 0..2 {
            conn.borrow_buffers(&mut buffers);
            conn.receive(get("/1").as_bytes());
            run(&mut conn);
            conn.return_buffers(&mut buffers);
            assert_eq!((conn.inbox.capacity(), conn.outbox.capacity()), (0, 0));
        }
        conn.borrow_buffers(&mut buffers);
        conn.receive(b"GET /1 HTTP/1.1\r\nHo");
        run(&mut conn);
        conn.return_buffers(&mut buffers);
        assert_eq!(conn.inbox.capacity(), 19, "just what has come of the head is kept");
        conn.borrow_buffers(&mut buffers);
        conn.receive(b"st: a\r\n\r\n");
        assert_eq!(run(&mut conn), ["/1", "write"]);
    }

    #[test]
    fn time_limits() {
        let waiting = |input: &str| {
            let mut conn = Conn::new();
            conn.receive(input.as_bytes());
            run(&mut conn);
            let waiting = conn.waiting().0;
            conn.expire();
            (waiting, run(&mut conn).join(" "))
        };
        assert_eq!(waiting(""), (Waiting::Head, "close".to_owned()));
        assert_eq!(waiting("GET"), (Waiting::Head, "408 write shutdown".to_owned()));
        assert_eq!(waiting(&get("/")), (Waiting::Idle, "close".to_owned()));
        let body = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab";
        assert_eq!(waiting(body), (Waiting::Body, "408 write shutdown".to_owned()));
        assert_eq!(waiting("\0"), (Waiting::Linger, "close".to_owned()));
    }
}
