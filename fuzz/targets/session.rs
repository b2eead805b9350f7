//! One connection driven by a script in place of the event loop, and what must hold after each step; and the whole
//! application on the same stream.

use fibsrv::{
    app::{
        App, ConnectionId, NumberLimits, Recorder, ResponseTable, Session, Settings, Timestamp,
        route::{Index, Route, route},
    },
    fibonacci::{Calculator, Table},
    http::{
        Method, Reject, Status,
        conn::{BATCH_BYTES_HIGH, Buffers, Conn, Io, Service},
        preamble::Preamble,
        request::{
            head::{Parser, Request},
            limits::Limits,
        },
        response::{Body, Response, ResponseKind},
    },
    metrics::{Build, Claim},
};

use fibsrv_fuzz::Script;

use crate::parser::ReplyTo;

static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");
/// The content of `/metrics`: large, so that few of them fill a batch.
const LARGE_BODY: &[u8] = &[b'm'; 12 * 1024];
/// No response is longer.
const RESPONSE_BYTES_MAX: usize = 512 + LARGE_BODY.len();

/// The outcome of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// All bytes written.
    pub(crate) output: Vec<u8>,
    /// For each response whether its request was HEAD, in order.
    pub(crate) asked: Vec<ReplyTo>,
    /// Whether a deadline expired.
    pub(crate) has_expired: bool,
}

/// A connection on its way through a stream.
struct Run<'s, 'i> {
    stream: &'s [u8],
    parser: Parser,
    responder: Responder<'s, 'i>,
    ends: u32,
    shutdowns: u32,
}

/// Responds to requests, now or later.
struct Responder<'s, 'i> {
    table: &'s Table,
    script: &'s mut Script<'i>,
    outcome: Outcome,
    pending: Option<Request>,
}

/// Drives a connection from its first byte to its close.
pub(crate) fn run(
    table: &Table,
    limits: Limits,
    stream: &[u8],
    script: &mut Script<'_>,
) -> Outcome {
    let responder = Responder { table, script, outcome: Outcome::default(), pending: None };
    let parser = Parser::new(limits);
    let mut run = Run { stream, parser, responder, ends: 0, shutdowns: 0 };
    let (mut conn, mut buffers) = (Conn::new(), Buffers::default());
    // Each turn uses an instruction, or some of the stream, or comes closer to the end.
    for _ in 0..2_000 + stream.len() {
        conn.borrow_buffers(&mut buffers);
        if let Some(request) = run.responder.pending.take() {
            run.responder.respond(&mut conn, &request);
        }
        let is_over = run.turn(&mut conn);
        conn.return_buffers(&mut buffers);
        if is_over {
            return run.responder.outcome;
        }
        if run.responder.script.step() == 255 {
            run.expire(&mut conn);
        }
    }
    panic!("it does not end");
}

impl Run<'_, '_> {
    fn advance(&mut self, conn: &mut Conn) -> Io {
        let io = conn.advance(&mut self.parser, &mut self.responder);
        let (received, outgoing) = conn.buffered();
        let head_bytes = self.parser.limits().head_bytes;
        assert!(received <= head_bytes + self.read_bytes(), "{received} received");
        assert!(outgoing <= BATCH_BYTES_HIGH + RESPONSE_BYTES_MAX, "{outgoing} to be sent");
        io
    }

    /// As much as a head, so that small limits make small bounds, which a short stream can reach.
    fn read_bytes(&self) -> usize {
        self.parser.limits().head_bytes
    }

    /// Runs one turn. Returns whether it was the last.
    fn turn(&mut self, conn: &mut Conn) -> bool {
        let mut may_read = true;
        loop {
            match self.advance(conn) {
                Io::Write => {
                    if !self.write(conn) {
                        return false;
                    }
                }
                Io::Read => {
                    if !std::mem::take(&mut may_read) {
                        return false;
                    }
                    self.read(conn);
                }
                Io::Wait => {
                    assert!(self.responder.pending.is_some(), "it waits for nothing");
                    return false;
                }
                Io::Shutdown => {
                    self.shutdowns += 1;
                    assert_eq!(self.shutdowns, 1, "shut down twice");
                }
                Io::Close => {
                    assert_eq!(self.advance(conn), Io::Close, "a closed connection stays closed");
                    return true;
                }
            }
        }
    }

    fn read(&mut self, conn: &mut Conn) {
        assert!(self.responder.pending.is_none() && conn.outgoing().concat().is_empty());
        assert_eq!(self.ends, 0, "reading after the end of stream");
        let length = self.responder.script.length(self.stream.len());
        let length = length.min(self.stream.len()).min(self.read_bytes());
        let (piece, rest) = self.stream.split_at(length);
        self.stream = rest;
        if piece.is_empty() {
            conn.receive_eof();
            self.ends += 1;
        } else {
            conn.receive(piece);
        }
    }

    /// Writes once. Returns whether that was everything.
    fn write(&mut self, conn: &mut Conn) -> bool {
        let outgoing = conn.outgoing().concat();
        let all = outgoing.len();
        let script = &mut *self.responder.script;
        let count = script.length(all) - usize::from(script.step() == 1);
        self.responder.outcome.output.extend_from_slice(&outgoing[..count]);
        conn.advance_written(count);
        count == all
    }

    /// Has the deadline expire.
    fn expire(&mut self, conn: &mut Conn) {
        conn.expire();
        self.responder.outcome.has_expired = true;
        self.responder.pending = None;
        match self.advance(conn) {
            Io::Write | Io::Close => {}
            Io::Shutdown => self.shutdowns += 1, // an idle connection is shut down before it is closed
            io => panic!("{io:?}"),
        }
    }
}

impl Service for Responder<'_, '_> {
    fn request(&mut self, conn: &mut Conn, request: &Request) {
        if self.script.step() & 7 == 7 {
            self.pending = Some(*request);
        } else {
            self.respond(conn, request);
        }
    }

    fn reads_body(&self, conn: &Conn, request: &Request) -> bool {
        route(request.target, conn.head(request)) != Route::Unknown
    }

    fn reject(&mut self, conn: &mut Conn, reject: Reject) {
        let is_timeout = matches!(reject, Reject::HeadTimeout | Reject::BodyTimeout);
        assert_eq!(is_timeout, self.outcome.has_expired, "{reject:?}");
        conn.respond(&Response::text(reject.status(), reject.text().as_bytes()), &PREAMBLE);
        // A rejected request may be HEAD as well.
        let is_head = conn.outgoing().concat().ends_with(b"\r\n\r\n");
        self.outcome.asked.push(if is_head { ReplyTo::Head } else { ReplyTo::Other });
    }
}

impl Responder<'_, '_> {
    fn respond(&mut self, conn: &mut Conn, request: &Request) {
        let is_head = request.method == Method::Head;
        self.outcome.asked.push(if is_head { ReplyTo::Head } else { ReplyTo::Other });
        let response = match route(request.target, conn.head(request)) {
            Route::Fibonacci(Index::Number(n)) => match self.table.get(n) {
                Some(digits) => Response {
                    status: Status::Ok,
                    kind: ResponseKind::Number(n),
                    body: Body::Bytes(digits),
                },
                None => Response::text(Status::UnprocessableContent, b"too large\n"),
            },
            Route::Fibonacci(Index::Malformed) => {
                Response::text(Status::BadRequest, b"no number\n")
            }
            Route::Metrics => Response::text(Status::Ok, LARGE_BODY),
            Route::Healthz | Route::Readyz | Route::Asset(_) => Response::text(Status::Ok, b"ok"),
            Route::Query => Response::text(Status::BadRequest, b"no number\n"),
            Route::Server | Route::Tunnel => Response::text(Status::NoContent, b""),
            Route::Unknown => Response::text(Status::NotFound, b"not found\n"),
        };
        conn.respond(&response, &PREAMBLE);
    }
}

/// An application that has few numbers in its table.
pub(crate) fn app(limits: Limits) -> App {
    let numbers = NumberLimits { max_n: 30_000, max_in_flight: 1, bytes: 64 * 1024 };
    let build = Build { version: "", revision: "", rustc: "" };
    let recorder = Recorder::new(Claim::private(), None);
    App::new(ResponseTable::new(100).unwrap(), Settings { limits, numbers, build }, recorder)
}

/// Has the application respond to a stream that arrives at once. It must end and not panic.
pub(crate) fn serve(app: &mut App, mut stream: &[u8]) {
    let now = Timestamp { now_ns: 0, unix_ms: 0, preamble: &PREAMBLE };
    let mut session = Session::new(ConnectionId { key: 0, generation: 0 }, None);
    let mut calculator = Calculator::default();
    for _ in 0..2_000 + stream.len() {
        match app.advance(&mut session, &now) {
            Io::Read => {
                let (piece, rest) = stream.split_at(stream.len().min(120));
                stream = rest;
                if piece.is_empty() {
                    session.conn_mut().receive_eof();
                } else {
                    session.conn_mut().receive(piece);
                }
            }
            Io::Write => {
                app.end_batch(1);
                let length = session.conn().outgoing().concat().len();
                session.conn_mut().advance_written(length);
            }
            Io::Wait => {
                let job = app.next_job().expect("it waits for a job");
                let completed = job.run(&mut calculator);
                assert_eq!(app.complete(&completed), [session.id()]);
                app.resume(&mut session, Some(&completed), &now, 0);
            }
            Io::Shutdown => {}
            Io::Close => return,
        }
    }
    panic!("it does not end");
}
