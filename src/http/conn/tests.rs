//! A connection as its owner and its service see it, without a socket.

use super::*;
use std::sync::Arc;

use crate::http::{
    Status,
    response::{Body, ResponseKind},
};

const LIMITS: Limits =
    Limits { head_bytes: 1024, target_bytes: 200, fields: 16, body_bytes: 64, pipelined: 8 };
static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");

/// Responds with the target, and records what it is called with.
#[derive(Debug, Default)]
struct Echo(Vec<String>);

impl Service for Echo {
    fn request(&mut self, conn: &mut Conn, request: &Request) {
        let head = String::from_utf8_lossy(conn.head(request)).into_owned();
        let target = head.trim_start().split(' ').nth(1).unwrap_or_default();
        self.0.push(target.to_owned());
        respond(conn, Status::Ok, target.as_bytes());
    }

    fn reads_body(&self, conn: &Conn, request: &Request) -> bool {
        !String::from_utf8_lossy(conn.head(request)).contains(" /no-body ")
    }

    fn reject(&mut self, conn: &mut Conn, reject: Reject) {
        self.0.push(reject.status().code().to_owned());
        respond(conn, reject.status(), b"");
    }
}

/// Responds later, outside of `advance`. Rejects nothing.
struct Later;

impl Service for Later {
    fn request(&mut self, _: &mut Conn, _: &Request) {}

    fn reads_body(&self, _: &Conn, _: &Request) -> bool {
        true
    }

    fn reject(&mut self, _: &mut Conn, reject: Reject) {
        panic!("{reject:?}")
    }
}

/// One word per request and I/O operation, in order, until the connection has to wait.
fn run(conn: &mut Conn) -> Vec<String> {
    let (mut parser, mut service) = (Parser::new(LIMITS), Echo::default());
    loop {
        let io = conn.advance(&mut parser, &mut service);
        match io {
            Io::Write => {
                service.0.push("write".to_owned());
                conn.advance_written(conn.outgoing().concat().len());
            }
            Io::Shutdown => service.0.push("shutdown".to_owned()),
            Io::Read => return service.0,
            Io::Wait => panic!("every response is made at once"),
            Io::Close => {
                service.0.push("close".to_owned());
                return service.0;
            }
        }
    }
}

/// The I/O that comes next for a connection whose responses come later.
fn next(conn: &mut Conn) -> Io {
    conn.advance(&mut Parser::new(LIMITS), &mut Later)
}

fn respond(conn: &mut Conn, status: Status, body: &[u8]) {
    conn.respond(
        &Response { status, kind: ResponseKind::Text, body: Body::Bytes(body) },
        &PREAMBLE,
    );
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
fn requests_one_after_the_other() {
    let mut conn = Conn::new();
    assert_eq!(run(&mut conn), [""; 0]);
    for target in ["/1", "/2"] {
        conn.receive(get(target).as_bytes());
        assert_eq!(run(&mut conn), [target, "write"]);
    }
    conn.receive_eof();
    assert_eq!(run(&mut conn), ["close"]);
}

#[test]
fn pipelined_requests_share_a_write() {
    check(&[get("/1"), get("/2"), get("/3")].concat(), "/1 /2 /3 write");
}

#[test]
fn a_batch_has_a_bounded_number_of_responses() {
    let depth = LIMITS.pipelined as usize + 1;
    let mut expected = vec!["/"; depth];
    expected.insert(depth - 1, "write");
    expected.push("write");
    check(&get("/").repeat(depth), &expected.join(" "));
}

#[test]
fn a_batch_has_a_bounded_number_of_bytes() {
    let mut conn = Conn::new();
    conn.receive(get("/").repeat(2).as_bytes());
    assert_eq!(next(&mut conn), Io::Wait);
    respond(&mut conn, Status::Ok, &vec![b'x'; BATCH_BYTES_HIGH]);
    assert_eq!(next(&mut conn), Io::Write);
    conn.advance_written(1);
    assert_eq!(next(&mut conn), Io::Write, "a batch is written completely before the next");
    conn.advance_written(conn.outgoing().concat().len());
    assert_eq!(run(&mut conn), ["/", "write"]);
}

#[test]
fn the_last_response_closes() {
    let close = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    check(close, "/1 write close");
    check(&format!("{close}{}", get("/2")), "/1 write shutdown");
    check("GET /1 HTTP/1.0\r\n\r\n", "/1 write close");
    check("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/1 write");
}

#[test]
fn a_rejection_lingers() {
    let mut conn = Conn::new();
    conn.receive(b"BREW / HTTP/1.1\r\n\r\n");
    assert_eq!(run(&mut conn), ["501", "write", "shutdown"]);
    conn.receive(get("/1").as_bytes());
    assert_eq!(run(&mut conn), [""; 0], "bytes after a rejection are no request");
    conn.receive_eof();
    assert_eq!(run(&mut conn), ["close"]);
}

#[test]
fn lingering_discards_until_the_deadline() {
    let mut conn = Conn::new();
    conn.receive(b"\0");
    run(&mut conn);
    let buffered = conn.buffered();
    for _ in 0..100 {
        conn.receive(&[0; 8192]);
        assert_eq!(run(&mut conn), [""; 0]);
        assert_eq!(conn.buffered(), buffered);
    }
    assert_eq!(conn.wait().timeout, Some(TimeoutKind::Linger));
    conn.expire();
    assert_eq!(run(&mut conn), ["close"]);
}

#[test]
fn bodies_are_discarded_and_never_parsed_as_requests() {
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
fn continue_is_sent_before_the_body_is_read() {
    let mut conn = Conn::new();
    let head = "PUT /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    conn.receive(head.as_bytes());
    assert_eq!(next(&mut conn), Io::Write);
    assert_eq!(conn.outgoing().concat(), render::CONTINUE);
    assert_eq!(run(&mut conn), ["write"]);
    conn.receive(b"abc");
    assert_eq!(run(&mut conn), ["/1", "write"]);
}

#[test]
fn continue_is_not_sent_once_the_body_has_begun() {
    let head = "PUT /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    for body in ["a", "abc"] {
        let mut conn = Conn::new();
        conn.receive(format!("{head}{body}").as_bytes());
        assert!(!run(&mut conn).contains(&"100".to_owned()));
        conn.receive(&b"abc"[body.len()..]);
        run(&mut conn);
        assert_eq!(conn.wait().timeout, Some(TimeoutKind::Idle));
    }
    let mut conn = Conn::new();
    conn.receive(head.as_bytes());
    conn.mark_more_pending();
    assert_eq!(next(&mut conn), Io::Read, "the rest is in the socket");
}

#[test]
fn a_body_that_is_not_read_gets_the_final_response_and_a_close() {
    let head = |fields: &str| format!("PUT /no-body HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let expecting = head("Expect: 100-continue\r\nContent-Length: 3\r\n");
    check(&expecting, "/no-body write shutdown");
    check(&format!("{expecting}abc{}", get("/1")), "/no-body write shutdown");
    check(&format!("{}abc{}", head("Content-Length: 3\r\n"), get("/1")), "/no-body /1 write");
    check(&head("Expect: 100-continue\r\n"), "/no-body write");
}

#[test]
fn empty_lines_leave_a_connection_idle() {
    let mut conn = Conn::new();
    for line_end in ["\r\n", "\r\n\r\n"] {
        conn.receive(line_end.as_bytes());
        assert_eq!(run(&mut conn), [""; 0]);
        assert_eq!(conn.wait().timeout, Some(TimeoutKind::Head));
        assert!(!conn.has_input());
    }
    conn.receive(format!("{}\r\n", get("/1")).as_bytes());
    assert_eq!(run(&mut conn), ["/1", "write"]);
    let idle = conn.wait();
    assert_eq!(idle.timeout, Some(TimeoutKind::Idle));
    for piece in ["\r\n", "\r", "\n\r", "\n"] {
        conn.receive(piece.as_bytes());
        assert_eq!(run(&mut conn), [""; 0]);
        assert_eq!(conn.wait(), idle, "the deadline stays the same");
    }
    conn.receive(format!("\r\n{}", get("/2")).as_bytes());
    assert_eq!(run(&mut conn), ["/2", "write"]);
    conn.receive(b"\r\n");
    conn.receive_eof();
    assert_eq!(run(&mut conn), ["close"]);
}

#[test]
fn half_closed_connections_get_their_responses() {
    let mut conn = Conn::new();
    conn.receive([get("/1"), get("/2")].concat().as_bytes());
    conn.receive_eof();
    assert_eq!(run(&mut conn), ["/1", "/2", "write", "close"]);
    let mut conn = Conn::new();
    conn.receive(b"GET / HTT");
    conn.receive_eof();
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
        assert_eq!((conn.inbox.capacity(), conn.outbox.bytes.capacity()), (0, 0));
    }
    conn.borrow_buffers(&mut buffers);
    conn.receive(b"GET /1 HTTP/1.1\r\nHo");
    run(&mut conn);
    conn.return_buffers(&mut buffers);
    assert_eq!(conn.inbox.capacity(), 19, "exactly the bytes received");
    conn.borrow_buffers(&mut buffers);
    conn.receive(b"st: a\r\n\r\n");
    assert_eq!(run(&mut conn), ["/1", "write"]);
}

#[test]
fn written_bytes_are_dropped_when_the_buffers_are_returned() {
    let (mut conn, mut buffers) = (Conn::new(), Buffers::default());
    conn.borrow_buffers(&mut buffers);
    conn.receive(get("/1").as_bytes());
    let io = conn.advance(&mut Parser::new(LIMITS), &mut Echo::default());
    assert!(matches!(io, Io::Write));
    let rendered = conn.outgoing().concat();
    conn.advance_written(10);
    conn.return_buffers(&mut buffers);
    assert_eq!(conn.buffered().1, rendered.len() - 10);
    assert_eq!(conn.outgoing().concat(), rendered[10..]);
}

#[test]
fn consumed_bytes_are_released_by_the_next_read() {
    let mut conn = Conn::new();
    for _ in 0..3 {
        conn.receive(get("/1").repeat(20).as_bytes());
        run(&mut conn);
        assert_eq!(
            conn.buffered(),
            (20 * get("/1").len(), 0),
            "in a turn that reads several times"
        );
    }
}

#[test]
fn expired_deadlines() {
    let check = |input: &str, timeout: TimeoutKind, expected: &str| {
        let mut conn = Conn::new();
        conn.receive(input.as_bytes());
        run(&mut conn);
        assert_eq!(conn.wait().timeout, Some(timeout), "{input:?}");
        conn.expire();
        assert_eq!(run(&mut conn).join(" "), expected, "{input:?}");
    };
    check("", TimeoutKind::Head, "close");
    check("GET", TimeoutKind::Head, "408 write shutdown");
    check(&get("/"), TimeoutKind::Idle, "shutdown");
    let body = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab";
    check(body, TimeoutKind::Body, "408 write shutdown");
    check("\0", TimeoutKind::Linger, "close");
}

#[test]
fn a_shared_body_is_not_copied_and_ends_the_batch() {
    let (mut conn, mut buffers) = (Conn::new(), Buffers::default());
    let body: Arc<[u8]> = vec![b'x'; 10].into();
    conn.borrow_buffers(&mut buffers);
    conn.receive(get("/").repeat(2).as_bytes());
    assert_eq!(next(&mut conn), Io::Wait);
    let response =
        Response { status: Status::Ok, kind: ResponseKind::Text, body: Body::Shared(&body) };
    let length = conn.respond(&response, &PREAMBLE).bytes;
    assert_eq!(next(&mut conn), Io::Write, "nothing may follow it");
    let [head, shared] = conn.outgoing();
    assert!(std::ptr::eq(shared, &raw const *body));
    assert_eq!(head.len() + shared.len(), length);
    conn.advance_written(length - 4);
    conn.return_buffers(&mut buffers);
    assert_eq!(conn.outgoing(), [&b""[..], b"xxxx"]);
    conn.borrow_buffers(&mut buffers);
    assert_eq!(next(&mut conn), Io::Write);
    conn.advance_written(4);
    assert_eq!(Arc::strong_count(&body), 1, "it is released as soon as it is sent");
    assert_eq!(run(&mut conn), ["/", "write"]);
}

#[test]
fn unread_bytes_in_the_kernel_make_the_close_linger() {
    let last = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut conn = Conn::new();
    conn.receive(last.as_bytes());
    conn.mark_more_pending();
    assert_eq!(run(&mut conn), ["/1", "write", "shutdown"]);
}

#[test]
fn without_keep_alive_the_next_response_closes() {
    let mut conn = Conn::new();
    conn.receive(get("/1").as_bytes());
    assert_eq!(run(&mut conn), ["/1", "write"]);
    conn.disable_keep_alive();
    assert_eq!(run(&mut conn), [""; 0], "it may send one more request");
    conn.receive(get("/2").as_bytes());
    assert_eq!(next(&mut conn), Io::Wait);
    assert!(!conn.close_if_idle(), "a response is pending");
    respond(&mut conn, Status::Ok, b"x");
    let text = String::from_utf8(conn.outgoing().concat()).unwrap();
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(run(&mut conn), ["write", "shutdown"], "the client may be sending the next request");
    conn.receive(get("/3").as_bytes());
    assert_eq!(run(&mut conn), [""; 0], "which is discarded, instead of met with a reset");
    conn.receive_eof();
    assert_eq!(run(&mut conn), ["close"]);
}

#[test]
fn without_keep_alive_a_client_that_sent_close_sees_the_close_at_once() {
    let mut conn = Conn::new();
    conn.disable_keep_alive();
    conn.receive(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(run(&mut conn), ["/1", "write", "close"]);
}

#[test]
fn only_connections_without_a_request_are_closed_as_idle() {
    for (input, expected) in [("", "shutdown"), ("GET", "")] {
        let mut conn = Conn::new();
        conn.receive(input.as_bytes());
        run(&mut conn);
        assert_eq!(conn.close_if_idle(), input.is_empty());
        assert_eq!(run(&mut conn).join(" "), expected);
    }
}

#[test]
fn a_response_is_pending_until_the_deadline() {
    let mut conn = Conn::new();
    conn.receive(get("/1").as_bytes());
    assert!(!conn.is_awaiting_response());
    assert_eq!(next(&mut conn), Io::Wait);
    assert!(conn.is_awaiting_response());
    conn.expire();
    assert!(!conn.is_awaiting_response());
    assert_eq!(run(&mut conn), ["close"]);
}
