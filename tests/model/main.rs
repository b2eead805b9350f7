//! A connection driven at random, with slow clients, late responses and expiring deadlines, against a model.
//!
//! After every step its bounds and rules must hold, each request must get its own response, and the connection must
//! end when its client does.
//!
//! A failure prints the seed of the run; `FIBSRV_MODEL_SEED` runs that one alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[path = "../kit/parser.rs"]
mod parser;
mod plan;
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/rng.rs"]
mod rng;

use fibsrv::{
    http::{
        Reject, Status,
        conn::{BATCH_BYTES_HIGH, Buffers, Conn, Io, Service, TimeoutKind},
        preamble::Preamble,
        request::{
            head::{Parser, Request},
            limits::Limits,
        },
        response::{Body, Response, ResponseKind},
    },
    server::{context::READ_BYTES, timers::TURNS_BEFORE_EXPIRY},
};
use parser::{ReplyRef, ReplyTo};
use plan::{BodyHandling, Plan};
use rng::Rng;

const RUNS: u64 = 1_000;
static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");
/// Bytes of the largest content of a response.
const CONTENT_BYTES_MAX: usize = BATCH_BYTES_HIGH + BATCH_BYTES_HIGH / 4;
/// Bytes that a socket holds unread at most: its receive buffer, as doubled by the kernel.
const SOCKET_BYTES: usize = 32 * 1024;
/// More than the heads of any response and of an interim response before it.
const HEADS_BYTES_MAX: usize = 512;

#[test]
fn a_connection_keeps_to_the_model() {
    let seeds = match std::env::var_os("FIBSRV_MODEL_SEED") {
        Some(seed) => {
            let seed = seed.to_str().unwrap().parse().unwrap();
            seed..=seed
        }
        None => 1..=RUNS,
    };
    let mut buffers = Buffers::default();
    for seed in seeds {
        // Shown only if the test fails; the last one failed.
        println!("FIBSRV_MODEL_SEED={seed}");
        check(seed, &mut buffers);
    }
}

fn check(seed: u64, buffers: &mut Buffers) {
    let mut random = Rng(seed);
    let plan = Plan::random(&mut random, CONTENT_BYTES_MAX);
    let mut run = Run::new(&plan, random);
    // At first anything may happen; then client and service do everything at once.
    for _ in 0..run.state.random.below(400) {
        if run.turn(buffers) == Turn::Over {
            return run.check_end();
        }
        run.maybe_pause(buffers);
    }
    (run.state.mood, run.read_bytes) = (Mood::Fair, READ_BYTES);
    let turns = plan.stream.len() / READ_BYTES + 2 * plan.requests.len() + 10;
    let is_over = (0..turns).any(|_| run.turn(buffers) == Turn::Over);
    assert!(is_over, "it does not end: {:?}", run.conn);
    run.check_end();
}

/// A connection on its way through a plan.
struct Run<'p> {
    plan: &'p Plan,
    /// Maximum number of bytes per read.
    read_bytes: usize,
    parser: Parser,
    conn: Conn,
    state: State<'p>,
    stream_end: StreamEnd,
    output: Vec<u8>,
    shutdowns: u32,
    /// For each request whether its body had not begun when its head was complete.
    awaits_body: Vec<bool>,
}

/// What the connection has received and responded to: the service that it calls.
struct State<'p> {
    plan: &'p Plan,
    random: Rng,
    mood: Mood,
    /// Bytes of the stream that have been received.
    received: usize,
    /// Bytes of the stream that are in the socket or have been received, where the run limits them.
    arrived: Option<usize>,
    /// Whether a response is pending.
    is_pending: bool,
    /// Requests that have got their response.
    responded: usize,
    rejected: Option<Reject>,
    expired: Option<TimeoutKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Reads are short, writes are partial, responses are late.
    Random,
    /// Everything is done at once.
    Fair,
    /// As after a pause: what has arrived is read at once, and the client accepts nothing.
    Resumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    Ahead,
    Received,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Blocked,
    Over,
}

impl Service for State<'_> {
    fn request(&mut self, conn: &mut Conn, request: &Request) {
        check_buffered(conn);
        assert!(!self.is_pending && self.rejected.is_none() && self.expired.is_none());
        let planned = &self.plan.requests[self.responded];
        let is_refused = planned.body == BodyHandling::Refused;
        let needed = if is_refused { planned.head_end } else { planned.end };
        assert!(self.received >= needed, "handled before all of it has been received");
        let head = str::from_utf8(conn.head(request)).unwrap();
        assert!(head.contains(&format!(" /{} ", planned.n)), "{head}");
        self.is_pending = true;
        if !self.happens(4) {
            self.respond(conn);
        }
    }

    fn reads_body(&self, _: &Conn, _: &Request) -> bool {
        self.plan
            .requests
            .get(self.responded)
            .is_none_or(|planned| planned.body != BodyHandling::Refused)
    }

    fn reject(&mut self, conn: &mut Conn, reject: Reject) {
        check_buffered(conn);
        assert!(!self.is_pending && self.rejected.is_none());
        let code: u16 = reject.status().code().parse().unwrap();
        if self.expired.is_some() {
            assert!(matches!(reject, Reject::HeadTimeout | Reject::BodyTimeout));
        } else {
            assert_eq!(self.responded, self.plan.requests.len(), "rejected: {reject:?}");
            assert_eq!(Some(code), self.plan.rejection);
        }
        self.rejected = Some(reject);
        conn.respond(&Response::text(reject.status(), b"no\n"), &PREAMBLE);
    }
}

impl State<'_> {
    /// Whether an event happens that has one chance in `times`.
    fn happens(&mut self, times: usize) -> bool {
        self.mood == Mood::Random && self.random.below(times) == 0
    }

    fn respond(&mut self, conn: &mut Conn) {
        self.is_pending = false;
        let planned = &self.plan.requests[self.responded];
        let body = body(planned.n, planned.content_bytes);
        let kind = ResponseKind::Number(planned.n);
        conn.respond(&Response { status: Status::Ok, kind, body: Body::Bytes(&body) }, &PREAMBLE);
        self.responded += 1;
    }

    /// Where in the stream the current request begins.
    fn start(&self) -> usize {
        self.responded.checked_sub(1).map_or(0, |last| self.plan.requests[last].end)
    }

    /// Where in the stream the current request begins, after the empty lines that have been received before it.
    fn request_start(&self) -> usize {
        let rest = self.plan.stream.get(self.start()..self.received).unwrap_or_default();
        self.start() + empty_lines(rest)
    }
}

/// Checks the bounds: a head, or part of one, and one read; a batch, and the response that completed it.
fn check_buffered(conn: &Conn) {
    let (received, to_send) = conn.buffered();
    assert!(received <= Limits::DEFAULT.head_bytes + READ_BYTES, "{received} bytes received");
    let bound = BATCH_BYTES_HIGH + CONTENT_BYTES_MAX + HEADS_BYTES_MAX;
    assert!(to_send <= bound, "{to_send} bytes to be sent");
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan, mut random: Rng) -> Self {
        Self {
            plan,
            read_bytes: random.pick(&[1, 40, 500, READ_BYTES, READ_BYTES]),
            parser: Parser::new(Limits::DEFAULT),
            conn: Conn::new(),
            state: State {
                plan,
                random,
                mood: Mood::Random,
                received: 0,
                arrived: None,
                is_pending: false,
                responded: 0,
                rejected: None,
                expired: None,
            },
            stream_end: StreamEnd::Ahead,
            output: Vec::new(),
            shutdowns: 0,
            awaits_body: vec![false; plan.requests.len()],
        }
    }

    /// The I/O that comes next.
    fn advance(&mut self) -> Io {
        let io = self.conn.advance(&mut self.parser, &mut self.state);
        check_buffered(&self.conn);
        let responses = self.state.responded + usize::from(self.state.rejected.is_some());
        assert_eq!(self.conn.wait().progress as usize, responses);
        if self.state.is_pending {
            assert!(matches!(io, Io::Wait | Io::Write), "{io:?} while a response is pending");
        }
        io
    }

    fn turn(&mut self, buffers: &mut Buffers) -> Turn {
        self.conn.borrow_buffers(buffers);
        let turn = self.drive();
        self.conn.return_buffers(buffers);
        check_buffered(&self.conn);
        turn
    }

    /// A turn as in the event loop, with one read at most.
    fn drive(&mut self) -> Turn {
        if self.state.is_pending && !self.state.happens(3) {
            self.state.respond(&mut self.conn);
        }
        let mut reads = 0;
        loop {
            match self.advance() {
                Io::Read => {
                    self.check_read();
                    reads += 1;
                    if reads > 1 || !self.read() {
                        return Turn::Blocked;
                    }
                }
                Io::Write => {
                    if !self.write() {
                        return Turn::Blocked;
                    }
                }
                Io::Wait => {
                    assert!(self.state.is_pending, "it waits for nothing");
                    assert_eq!(self.conn.wait().timeout, None);
                    assert_eq!(self.advance(), Io::Wait);
                    return Turn::Blocked;
                }
                Io::Shutdown => {
                    self.shutdowns += 1;
                    assert!(self.shutdowns == 1 && self.conn.outgoing().concat().is_empty());
                    assert_eq!(self.stream_end, StreamEnd::Ahead, "the stream has ended already");
                }
                Io::Close => return Turn::Over,
            }
        }
    }

    /// Checks that nothing is left to do before a read, and that the time limit fits.
    fn check_read(&mut self) {
        assert!(!self.state.is_pending && self.conn.outgoing().concat().is_empty());
        assert_eq!(self.stream_end, StreamEnd::Ahead, "nothing follows the end of stream");
        assert_eq!(self.advance(), Io::Read, "the second time");
        let timeout = self.conn.wait().timeout.unwrap();
        if self.shutdowns > 0 {
            assert_eq!(timeout, TimeoutKind::Linger);
            return;
        }
        let start = self.state.request_start();
        let next = self.plan.requests.get(self.state.responded);
        let received = self.state.received;
        assert!(next.is_none_or(|request| received < request.end), "it has all of a request");
        // Half of an empty line begins no request.
        let has_begun = !matches!(self.plan.stream.get(start..received), None | Some([] | [b'\r']));
        let expected = match next {
            _ if !has_begun && self.state.responded > 0 => TimeoutKind::Idle,
            Some(request) if received >= request.head_end => TimeoutKind::Body,
            // The plan does not know where the head of an invalid or incomplete request ends.
            None if timeout == TimeoutKind::Body => timeout,
            _ => TimeoutKind::Head,
        };
        assert_eq!(timeout, expected);
    }

    /// Reads once. Returns whether there was anything to read.
    fn read(&mut self) -> bool {
        if self.state.happens(4) {
            return false; // nothing has arrived yet
        }
        let end = self.state.arrived.unwrap_or(self.plan.stream.len());
        let rest = &self.plan.stream[self.state.received..end];
        if rest.is_empty() && end < self.plan.stream.len() {
            return false;
        }
        if rest.is_empty() {
            self.conn.receive_eof();
            self.stream_end = StreamEnd::Received;
            return true;
        }
        let most = rest.len().min(self.read_bytes);
        let random = &mut self.state.random;
        let count = match self.state.mood {
            Mood::Fair | Mood::Resumed => most,
            Mood::Random if random.below(2) == 0 => most,
            Mood::Random => 1 + random.below(most),
        };
        self.conn.receive(&rest[..count]);
        self.state.received += count;
        for (request, awaits_body) in self.plan.requests.iter().zip(&mut self.awaits_body) {
            *awaits_body |= self.state.received == request.head_end;
        }
        true
    }

    /// Writes once. Returns whether that was everything.
    fn write(&mut self) -> bool {
        assert_eq!(self.advance(), Io::Write, "the second time");
        assert_eq!(self.conn.wait().timeout, Some(TimeoutKind::Write));
        let outgoing = self.conn.outgoing().concat();
        let length = outgoing.len();
        assert!(length > 0, "nothing to write");
        let random = &mut self.state.random;
        let count = match self.state.mood {
            Mood::Random if random.below(3) == 0 => random.below(length + 1),
            Mood::Random | Mood::Fair => length,
            Mood::Resumed => 0,
        };
        self.output.extend_from_slice(&outgoing[..count]);
        self.conn.advance_written(count);
        count == length
    }

    /// Pauses the server until the deadline has passed, if there is one. Meanwhile some of the stream arrives, perhaps
    /// nothing. Then the connection reads before its deadline expires, as in the event loop.
    fn maybe_pause(&mut self, buffers: &mut Buffers) {
        if self.conn.wait().timeout.is_none() || !self.state.happens(150) {
            return;
        }
        let rest = (self.plan.stream.len() - self.state.received).min(SOCKET_BYTES);
        let arriving = if self.state.happens(2) { 0 } else { self.state.random.below(rest + 1) };
        self.state.arrived = Some(self.state.received + arriving);
        let (mood, read_bytes) = (self.state.mood, self.read_bytes);
        (self.state.mood, self.read_bytes) = (Mood::Resumed, READ_BYTES);
        if self.still_waits(buffers) {
            self.expire();
        }
        (self.state.mood, self.read_bytes, self.state.arrived) = (mood, read_bytes, None);
    }

    /// Whether the connection waits for the same as before, after it has read what has arrived.
    fn still_waits(&mut self, buffers: &mut Buffers) -> bool {
        let (wait, responded) = (self.conn.wait(), self.state.responded);
        let reads = [TimeoutKind::Head, TimeoutKind::Body, TimeoutKind::Idle];
        let is_reading = wait.timeout.is_some_and(|timeout| reads.contains(&timeout));
        for _ in 0..TURNS_BEFORE_EXPIRY {
            if self.turn(buffers) == Turn::Over || self.conn.wait() != wait {
                return false;
            }
        }
        let next = self.plan.requests.get(responded);
        let is_waiting = next.is_some_and(|next| Some(next.end) <= self.state.arrived);
        assert!(!is_reading || !is_waiting, "a complete request in the socket is timed out");
        true
    }

    /// Has the deadline expire.
    fn expire(&mut self) {
        let Some(timeout) = self.conn.wait().timeout else { return };
        let is_begun =
            self.state.received > self.state.request_start() && self.state.rejected.is_none();
        self.conn.expire();
        self.state.is_pending = false;
        self.state.expired = Some(timeout);
        let io = self.advance();
        if is_begun && matches!(timeout, TimeoutKind::Head | TimeoutKind::Body) {
            let is_head = timeout == TimeoutKind::Head;
            let reject = if is_head { Reject::HeadTimeout } else { Reject::BodyTimeout };
            assert_eq!((io, self.state.rejected), (Io::Write, Some(reject)));
        } else if timeout == TimeoutKind::Idle && self.stream_end != StreamEnd::Received {
            assert_eq!(io, Io::Shutdown, "it is shut down before it is closed");
            self.conn.receive_eof();
            assert_eq!(self.advance(), Io::Close);
        } else {
            assert_eq!(io, Io::Close);
        }
    }

    /// Checks what must hold when it has closed.
    fn check_end(mut self) {
        self.conn.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(self.advance(), Io::Close, "a closed connection stays closed");
        let state = &self.state;
        if state.expired.is_none() {
            assert_eq!(state.responded, self.plan.requests.len());
            assert_eq!(state.rejected.is_some(), self.plan.rejection.is_some());
            // Closing at once is right only if nothing is unread: a reset might destroy the response.
            let is_consumed = state.received == state.start() && state.rejected.is_none();
            let is_ended = self.stream_end == StreamEnd::Received;
            assert!(is_ended || is_consumed);
        }
        let is_cut_off = state.expired == Some(TimeoutKind::Write);
        assert!(self.check_output().is_some() || is_cut_off, "{}", self.output.escape_ascii());
    }

    /// Reads the responses. None if one of them is missing or incomplete.
    fn check_output(&self) -> Option<()> {
        let mut output = &self.output[..];
        let responded = &self.plan.requests[..self.state.responded];
        for (planned, awaits_body) in responded.iter().zip(&self.awaits_body) {
            if planned.body == BodyHandling::ReadAfterContinue && *awaits_body {
                self.take(&mut output, ReplyTo::Other, 100)?;
            }
            let reply = self.take(&mut output, planned.asked, 200)?;
            let body = body(planned.n, planned.content_bytes);
            assert!(reply.body == if planned.asked == ReplyTo::Head { b"" } else { &body[..] });
            assert_eq!(reply.field("etag"), Some(&*format!("\"{}\"", planned.n)));
            assert_eq!(reply.closes(), planned.closes);
        }
        // An interim response may have been sent to a request that was never completed.
        if output.starts_with(b"HTTP/1.1 100 ") {
            self.take(&mut output, ReplyTo::Other, 100)?;
        }
        if let Some(reject) = self.state.rejected {
            let status = reject.status().code().parse().unwrap();
            assert!(self.take(&mut output, self.rejected_asked(), status)?.closes());
        }
        output.is_empty().then_some(())
    }

    /// Whether the rejection has content. It has none if HEAD has been received, unless the deadline expired before
    /// those bytes were parsed.
    fn rejected_asked(&self) -> ReplyTo {
        let received = &self.plan.stream[self.state.start()..self.state.received];
        let line = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let is_head = line.is_some_and(|line| received[line..].starts_with(b"HEAD "));
        let is_unseen = self.state.expired.is_some() && !self.output.ends_with(b"\r\n\r\n");
        if is_head && !is_unseen { ReplyTo::Head } else { ReplyTo::Other }
    }

    fn take<'o>(&self, output: &mut &'o [u8], asked: ReplyTo, status: u16) -> Option<ReplyRef<'o>> {
        let reply = ReplyRef::take(output, asked)?;
        assert_eq!(reply.status, status, "after {} responses", self.state.responded);
        Some(reply)
    }
}

/// Length of the empty lines at the front of `bytes`.
fn empty_lines(bytes: &[u8]) -> usize {
    2 * bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count()
}

/// The content of the response to n.
fn body(n: u64, length: usize) -> Vec<u8> {
    let mut body = n.to_string().into_bytes();
    body.resize(length, b'.');
    body
}
