//! A connection driven at random, as an event loop with slow peers, late answers and short times might,
//! against a model of what it has been sent: after every step its bounds and its rules must hold, each
//! request gets its own answer, and it ends when its peer does.
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
        conn::{BATCH_BYTES_HIGH, Buffers, Conn, LINGER_BYTES_MAX, Next, Waiting},
        request::{
            head::{Parser, Request},
            headers::Expectation,
            limits::Limits,
        },
        response::{Body, Response, ResponseKind},
    },
    server::connection::READ_BYTES,
};
use parser::{ReplyRef, ReplyTo};
use plan::Plan;
use rng::Rng;

const RUNS: u64 = 1_000;
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
/// Bytes of the largest content that is answered.
const ANSWER_BYTES_MAX: usize = BATCH_BYTES_HIGH + BATCH_BYTES_HIGH / 4;
/// More than the head of any answer takes, and an interim one before it.
const ANSWER_HEAD_BYTES_MAX: usize = 512;

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
        // Shown only if the test fails; the last one is the one.
        println!("FIBSRV_MODEL_SEED={seed}");
        check(seed, &mut buffers);
    }
}

fn check(seed: u64, buffers: &mut Buffers) {
    let mut random = Rng(seed);
    let plan = Plan::random(&mut random, ANSWER_BYTES_MAX);
    let mut run = Run::new(&plan, random);
    // Anything may happen for a while; then everybody does what can be expected of them at once.
    for _ in 0..run.random.below(400) {
        if run.turn(buffers) == Turn::Over {
            return run.check_end();
        }
        run.maybe_expire();
    }
    (run.mood, run.read_bytes) = (Mood::Fair, READ_BYTES);
    let turns = plan.stream.len() / READ_BYTES + 2 * plan.requests.len() + 10;
    let is_over = (0..turns).any(|_| run.turn(buffers) == Turn::Over);
    assert!(is_over, "it goes on and on: {:?}", run.conn);
    run.check_end();
}

/// A connection on its way through a plan.
struct Run<'p> {
    plan: &'p Plan,
    random: Rng,
    mood: Mood,
    /// Most bytes read at once.
    read_bytes: usize,
    parser: Parser,
    conn: Conn,
    /// Bytes of the stream that have been received.
    received: usize,
    stream_end: StreamEnd,
    owed: Option<Request>,
    /// Requests answered.
    answered: usize,
    refused: Option<Reject>,
    output: Vec<u8>,
    shutdowns: u32,
    /// Bytes received since the sending side was shut.
    lingered: usize,
    expired: Option<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Reads are short, writes are partial, answers are late.
    Random,
    /// All is done at once.
    Fair,
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

impl<'p> Run<'p> {
    fn new(plan: &'p Plan, mut random: Rng) -> Self {
        Self {
            plan,
            read_bytes: random.pick(&[1, 40, 500, READ_BYTES, READ_BYTES]),
            random,
            mood: Mood::Random,
            parser: Parser::new(Limits::DEFAULT),
            conn: Conn::new(),
            received: 0,
            stream_end: StreamEnd::Ahead,
            owed: None,
            answered: 0,
            refused: None,
            output: Vec::new(),
            shutdowns: 0,
            lingered: 0,
            expired: None,
        }
    }

    /// Whether what may happen one time in `times` happens now.
    fn happens(&mut self, times: usize) -> bool {
        self.mood == Mood::Random && self.random.below(times) == 0
    }

    fn turn(&mut self, buffers: &mut Buffers) -> Turn {
        self.conn.borrow_buffers(buffers);
        let turn = self.drive();
        self.conn.return_buffers(buffers);
        self.check_bounds();
        turn
    }

    /// A turn as the loop gives it, with one read at most.
    fn drive(&mut self) -> Turn {
        if self.owed.is_some() && !self.happens(3) {
            self.respond();
        }
        let mut reads = 0;
        loop {
            let next = self.conn.next(&mut self.parser);
            self.check_bounds();
            match next {
                Next::Answer(request) => self.take_over(request),
                Next::Reject(reject) => self.refuse(reject),
                Next::Read => {
                    self.check_read();
                    reads += 1;
                    if reads > 1 || !self.read() {
                        return Turn::Blocked;
                    }
                }
                Next::Write => {
                    if !self.write() {
                        return Turn::Blocked;
                    }
                }
                Next::Wait => {
                    assert!(self.owed.is_some(), "it waits for nothing");
                    assert_eq!(self.conn.waiting().0, Waiting::Answer);
                    assert_eq!(self.conn.next(&mut self.parser), Next::Wait);
                    return Turn::Blocked;
                }
                Next::Shutdown => {
                    self.shutdowns += 1;
                    assert!(self.shutdowns == 1 && self.conn.outgoing().concat().is_empty());
                    assert_eq!(self.stream_end, StreamEnd::Ahead, "nobody waits for an end");
                }
                Next::Close => return Turn::Over,
            }
        }
    }

    /// A head or a piece of one and one read; a batch and the answer that made it full.
    fn check_bounds(&self) {
        let (received, to_send) = self.conn.buffered();
        assert!(received <= Limits::DEFAULT.head_bytes + READ_BYTES, "{received} bytes received");
        let bound = BATCH_BYTES_HIGH + ANSWER_BYTES_MAX + ANSWER_HEAD_BYTES_MAX;
        assert!(to_send <= bound, "{to_send} bytes to be sent");
        let answers = self.answered + usize::from(self.refused.is_some());
        assert_eq!(self.conn.waiting().1 as usize, answers);
    }

    fn take_over(&mut self, request: Request) {
        assert!(self.owed.is_none() && self.refused.is_none() && self.expired.is_none());
        let planned = &self.plan.requests[self.answered];
        assert!(self.received >= planned.end, "answered before it is all there");
        let head = str::from_utf8(self.conn.head(&request)).unwrap();
        assert!(head.contains(&format!(" /{} ", planned.n)), "{head}");
        self.owed = Some(request);
        let next = self.conn.next(&mut self.parser);
        assert!(matches!(next, Next::Wait | Next::Write), "{next:?} while an answer is owed");
        if !self.happens(4) {
            self.respond();
        }
    }

    fn respond(&mut self) {
        self.owed = None;
        let planned = &self.plan.requests[self.answered];
        let body = body(planned.n, planned.answer_bytes);
        let fields = ResponseKind::Number(planned.n);
        self.conn.respond(&Response { status: Status::Ok, fields, body: Body::Bytes(&body) }, DATE);
        self.answered += 1;
    }

    fn refuse(&mut self, reject: Reject) {
        assert!(self.owed.is_none() && self.refused.is_none());
        let code: u16 = reject.status().code().parse().unwrap();
        if self.expired.is_some() {
            assert!(matches!(reject, Reject::HeadTimeout | Reject::BodyTimeout));
        } else {
            assert_eq!(self.answered, self.plan.requests.len(), "refused: {reject:?}");
            assert_eq!(Some(code), self.plan.refusal);
        }
        self.refused = Some(reject);
        let response = Response {
            status: reject.status(),
            fields: ResponseKind::Text,
            body: Body::Bytes(b"no\n"),
        };
        self.conn.respond(&response, DATE);
    }

    /// When it wants to read, all that could be done is done, and it knows what it waits for.
    fn check_read(&mut self) {
        assert!(self.owed.is_none() && self.conn.outgoing().concat().is_empty());
        assert_eq!(self.stream_end, StreamEnd::Ahead, "nothing comes behind the end");
        assert_eq!(self.conn.next(&mut self.parser), Next::Read, "asked twice");
        let waiting = self.conn.waiting().0;
        if self.shutdowns > 0 {
            assert_eq!(waiting, Waiting::Linger);
            assert!(self.lingered <= LINGER_BYTES_MAX as usize, "it reads on and on");
            return;
        }
        let start = self.start();
        let next = self.plan.requests.get(self.answered);
        assert!(next.is_none_or(|request| self.received < request.end), "it has all of a request");
        let expected = match next {
            _ if self.received == start && self.answered > 0 => Waiting::Idle,
            Some(request) if self.received >= request.head_end => Waiting::Body,
            // Of what is no request, or not all there, the plan does not know where its head ends.
            None if waiting == Waiting::Body => waiting,
            _ => Waiting::Head,
        };
        assert_eq!(waiting, expected);
    }

    /// Where in the stream the next request begins.
    fn start(&self) -> usize {
        self.answered.checked_sub(1).map_or(0, |last| self.plan.requests[last].end)
    }

    /// Reads once; returns whether there was anything.
    fn read(&mut self) -> bool {
        if self.happens(4) {
            return false; // nothing has come yet
        }
        let rest = &self.plan.stream[self.received..];
        if rest.is_empty() {
            self.conn.receive_eof();
            self.stream_end = StreamEnd::Received;
            return true;
        }
        let most = rest.len().min(self.read_bytes);
        let count = match self.mood {
            Mood::Fair => most,
            Mood::Random if self.random.below(2) == 0 => most,
            Mood::Random => 1 + self.random.below(most),
        };
        self.conn.receive(&rest[..count]);
        self.received += count;
        self.lingered += if self.shutdowns > 0 { count } else { 0 };
        true
    }

    /// Writes once; returns whether all was taken.
    fn write(&mut self) -> bool {
        assert_eq!(self.conn.next(&mut self.parser), Next::Write, "asked twice");
        assert_eq!(self.conn.waiting().0, Waiting::Write);
        let outgoing = self.conn.outgoing().concat();
        let length = outgoing.len();
        assert!(length > 0, "nothing to write");
        let count = match self.mood {
            Mood::Random if self.random.below(3) == 0 => self.random.below(length + 1),
            Mood::Random | Mood::Fair => length,
        };
        self.output.extend_from_slice(&outgoing[..count]);
        self.conn.advance_written(count);
        count == length
    }

    /// Has the time run out for what is waited for, if a limit is set for that.
    fn maybe_expire(&mut self) {
        let waiting = self.conn.waiting().0;
        if waiting == Waiting::Answer || !self.happens(300) {
            return;
        }
        let is_begun = self.received > self.start() && self.refused.is_none();
        self.conn.expire();
        self.owed = None;
        self.expired = Some(waiting);
        let next = self.conn.next(&mut self.parser);
        if is_begun && matches!(waiting, Waiting::Head | Waiting::Body) {
            let is_head = waiting == Waiting::Head;
            let reject = if is_head { Reject::HeadTimeout } else { Reject::BodyTimeout };
            assert_eq!(next, Next::Reject(reject));
            self.refuse(reject);
        } else if waiting == Waiting::Idle && self.stream_end != StreamEnd::Received {
            assert_eq!(next, Next::Shutdown, "it is shut before it is closed");
            self.conn.receive_eof();
            assert_eq!(self.conn.next(&mut self.parser), Next::Close);
        } else {
            assert_eq!(next, Next::Close);
        }
    }

    /// What must hold when it has closed.
    fn check_end(mut self) {
        self.conn.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(self.conn.next(&mut self.parser), Next::Close, "what is over stays over");
        if self.expired.is_none() {
            assert_eq!(self.answered, self.plan.requests.len());
            assert_eq!(self.refused.is_some(), self.plan.refusal.is_some());
            // Closing at once is right only if nothing is unread: else the answer might be lost to a reset.
            let is_used_up = self.received == self.start() && self.refused.is_none();
            let is_ended = self.stream_end == StreamEnd::Received;
            assert!(is_ended || is_used_up || self.lingered > LINGER_BYTES_MAX as usize);
        }
        let is_cut_off = self.expired == Some(Waiting::Write);
        assert!(self.check_output().is_some() || is_cut_off, "{}", self.output.escape_ascii());
    }

    /// Reads the answers; none if one of them is not there or not all.
    fn check_output(&self) -> Option<()> {
        let mut output = &self.output[..];
        for planned in &self.plan.requests[..self.answered] {
            if planned.expectation == Expectation::Continue {
                self.take(&mut output, ReplyTo::Other, 100)?;
            }
            let reply = self.take(&mut output, planned.asked, 200)?;
            let body = body(planned.n, planned.answer_bytes);
            assert!(reply.body == if planned.asked == ReplyTo::Head { b"" } else { &body[..] });
            assert_eq!(reply.field("etag"), Some(&*format!("\"{}\"", planned.n)));
            assert_eq!(reply.closes(), planned.closes);
        }
        // An interim answer may have gone out to a request of which no more came.
        if output.starts_with(b"HTTP/1.1 100 ") {
            self.take(&mut output, ReplyTo::Other, 100)?;
        }
        if let Some(reject) = self.refused {
            let status = reject.status().code().parse().unwrap();
            assert!(self.take(&mut output, self.refused_asked(), status)?.closes());
        }
        output.is_empty().then_some(())
    }

    /// Whether the refusal has content: not if it answers HEAD, as far as that has come. When the time runs
    /// out before that was looked at, it has.
    fn refused_asked(&self) -> ReplyTo {
        let received = &self.plan.stream[self.start()..self.received];
        let line = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let is_head = line.is_some_and(|line| received[line..].starts_with(b"HEAD "));
        let is_unseen = self.expired.is_some() && !self.output.ends_with(b"\r\n\r\n");
        if is_head && !is_unseen { ReplyTo::Head } else { ReplyTo::Other }
    }

    fn take<'o>(&self, output: &mut &'o [u8], asked: ReplyTo, status: u16) -> Option<ReplyRef<'o>> {
        let reply = ReplyRef::take(output, asked)?;
        assert_eq!(reply.status, status, "after {} answers", self.answered);
        Some(reply)
    }
}

/// The content that answers n.
fn body(n: u64, length: usize) -> Vec<u8> {
    let mut body = n.to_string().into_bytes();
    body.resize(length, b'.');
    body
}
