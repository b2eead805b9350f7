//! One connection and the application, driven by a script in place of the event loop, and what must hold
//! after each step of it.

use fibsrv::{
    app::{Answer, App, Bounds},
    fibonacci::Table,
    http::{
        Method, Reject, Status,
        conn::{BATCH_BYTES_HIGH, Buffers, Conn, Next},
        request::{
            head::{Parser, Request},
            limits::Limits,
        },
        response::{Body, Response, ResponseKind},
    },
    metrics::Build,
};

use fibsrv_fuzz::Script;

use crate::parser::ReplyTo;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
/// In place of the metrics, which depend on the turns it took: large, so that few fill a batch.
const LARGE_BODY: &[u8] = &[b'm'; 12 * 1024];
/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 512 + LARGE_BODY.len();

/// What came of a connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// All that was written.
    pub(crate) output: Vec<u8>,
    /// For each answer what was asked for, in order.
    pub(crate) asked: Vec<ReplyTo>,
    /// Whether its time ran out.
    pub(crate) has_expired: bool,
    ends: u32,
    shutdowns: u32,
    owed: Option<Request>,
}

/// An application that has all numbers up to F(100).
pub(crate) fn app() -> App {
    let bounds = Bounds { max_n: 100, under_way: 1, bytes: 0 };
    App::new(Table::new(100).unwrap(), bounds, Build { version: "", revision: "", rustc: "" })
}

impl Session {
    /// Takes a connection from its first byte to its close.
    pub(crate) fn run(
        app: &mut App,
        limits: Limits,
        mut stream: &[u8],
        script: &mut Script<'_>,
    ) -> Self {
        let (mut parser, mut buffers) = (Parser::new(limits), Buffers::default());
        let (mut conn, mut session) = (Conn::new(), Self::default());
        // Each turn uses an instruction, or some of the stream, or comes nearer to the close.
        for _ in 0..2_000 + stream.len() {
            conn.borrow_buffers(&mut buffers);
            if let Some(request) = session.owed.take() {
                session.respond(&mut conn, app, &request);
            }
            let is_over = session.turn(&mut conn, &mut parser, app, (&mut stream, &mut *script));
            conn.return_buffers(&mut buffers);
            if is_over {
                return session;
            }
            if script.step() == 255 {
                session.expire(&mut conn, &mut parser, app);
            }
        }
        panic!("it does not end");
    }

    /// One turn; returns whether it was the last.
    fn turn(
        &mut self,
        conn: &mut Conn,
        parser: &mut Parser,
        app: &mut App,
        (stream, script): (&mut &[u8], &mut Script<'_>),
    ) -> bool {
        // As much as a head, so that small limits make small bounds, which a short stream can reach.
        let read_bytes = parser.limits().head_bytes;
        let mut may_read = true;
        loop {
            let next = conn.next(parser);
            let (received, outgoing) = conn.buffered();
            assert!(received <= parser.limits().head_bytes + read_bytes, "{received} received");
            assert!(outgoing <= BATCH_BYTES_HIGH + ANSWER_BYTES_MAX, "{outgoing} to be sent");
            match next {
                Next::Answer(request) if script.step() & 7 == 7 => self.owed = Some(request),
                Next::Answer(request) => self.respond(conn, app, &request),
                Next::Reject(reject) => {
                    self.refuse(conn, app, reject);
                }
                Next::Write => {
                    let outgoing = conn.outgoing().concat();
                    let all = outgoing.len();
                    let count = script.length(all) - usize::from(script.step() == 1);
                    self.output.extend_from_slice(&outgoing[..count]);
                    conn.advance_written(count);
                    if count < all {
                        return false;
                    }
                }
                Next::Read => {
                    assert!(self.owed.is_none() && conn.outgoing().concat().is_empty());
                    assert_eq!(self.ends, 0, "reading behind the end");
                    if !std::mem::take(&mut may_read) {
                        return false;
                    }
                    let length = script.length(stream.len()).min(stream.len()).min(read_bytes);
                    let (piece, rest) = stream.split_at(length);
                    *stream = rest;
                    if piece.is_empty() {
                        conn.receive_eof();
                        self.ends += 1;
                    } else {
                        conn.receive(piece);
                    }
                }
                Next::Wait => {
                    assert!(self.owed.is_some(), "nobody is to answer");
                    return false;
                }
                Next::Shutdown => {
                    self.shutdowns += 1;
                    assert_eq!(self.shutdowns, 1, "shut down twice");
                }
                Next::Close => {
                    assert_eq!(conn.next(parser), Next::Close, "what is over stays over");
                    return true;
                }
            }
        }
    }

    /// Has the time run out, which is told or ends it.
    fn expire(&mut self, conn: &mut Conn, parser: &mut Parser, app: &mut App) {
        conn.expire();
        self.has_expired = true;
        self.owed = None;
        match conn.next(parser) {
            Next::Reject(reject) => {
                assert!(matches!(reject, Reject::HeadTimeout | Reject::BodyTimeout), "{reject:?}");
                self.refuse(conn, app, reject);
            }
            Next::Shutdown => self.shutdowns += 1, // an idle one is shut before it is closed
            next => assert_eq!(next, Next::Close),
        }
    }

    fn refuse(&mut self, conn: &mut Conn, app: &mut App, reject: Reject) {
        conn.respond(&app.reject(reject), DATE);
        // What cannot become a request may have asked with HEAD all the same.
        let is_head = conn.outgoing().concat().ends_with(b"\r\n\r\n");
        self.asked.push(if is_head { ReplyTo::Head } else { ReplyTo::Other });
    }

    fn respond(&mut self, conn: &mut Conn, app: &mut App, request: &Request) {
        let is_head = request.method == Method::Head;
        self.asked.push(if is_head { ReplyTo::Head } else { ReplyTo::Other });
        let response = match app.answer(request, conn.head(request)) {
            Answer::Ready(response) => response,
            Answer::Scrape(format) => {
                let fields = ResponseKind::Media(format.content_type());
                Response { status: Status::Ok, fields, body: Body::Bytes(LARGE_BODY) }
            }
            Answer::Compute(n) => panic!("F({n}) lies beyond the table"),
        };
        conn.respond(&response, DATE);
    }
}
