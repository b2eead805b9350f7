//! This server's own guarantees about HTTP/1.1, a test for each. Limits are in `limits`, rejected framings in
//! `smuggling`.

use fibsrv::http::{conn::Io, request::limits::Limits};

use crate::{
    offline::{NOW, Offline, session},
    reply::Reply,
    wire::{
        Ending, NEXT, NEXT_BODY, Wire, check_rejected, check_served, default_limits, only, request,
        statuses,
    },
};

#[test]
fn keep_alive_is_the_default_in_1_1_and_opt_in_in_1_0() {
    for (version, fields, ending) in [
        ("1.1", "", Ending::Open),
        ("1.1", "Connection: close\r\n", Ending::Closed),
        ("1.0", "", Ending::Closed),
        ("1.0", "Connection: keep-alive\r\n", Ending::Open),
    ] {
        let mut wire = Wire::new();
        wire.reply_to(format!("GET /healthz HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(wire.ending(), ending, "{version} {fields:?}");
    }
}

#[test]
fn connection_options_are_compared_case_insensitively_in_lists() {
    for (value, ending) in [
        ("CLOSE", Ending::Closed),
        ("upgrade , Close\t,te", Ending::Closed),
        ("upgrade,te", Ending::Open),
        ("close-not", Ending::Open),
        ("\"close\"", Ending::Open),
        ("close;q=1", Ending::Open),
    ] {
        let mut wire = Wire::new();
        wire.reply_to(request("GET /healthz", &format!("Connection: {value}\r\n")));
        assert_eq!(wire.ending(), ending, "{value:?}");
    }
}

#[test]
fn pipelined_requests_get_responses_in_order_at_any_depth() {
    let mut wire = Wire::new();
    let numbers = || (0..10_000).map(|n| n % 101);
    let requests: String =
        numbers().map(|n| request(&format!("GET /api/fibonacci/{n}"), "")).collect();
    let replies = wire.send(requests);
    assert_eq!(replies.len(), 10_000);
    for (n, reply) in numbers().zip(replies) {
        assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}\"")));
    }
}

#[test]
fn a_batch_is_one_write() {
    let depth = default_limits().pipelined as usize;
    for (requests, batches) in [(1, vec![1]), (depth, vec![depth]), (depth + 1, vec![depth, 1])] {
        assert_eq!(writes(&NEXT.repeat(requests)), batches);
    }
}

/// Returns the number of replies in each write.
fn writes(input: &str) -> Vec<usize> {
    let (mut offline, mut session) = (Offline::new((100, 100), Limits::DEFAULT, None), session());
    let mut writes = Vec::new();
    session.conn_mut().receive(input.as_bytes());
    loop {
        match offline.app.advance(&mut session, &NOW) {
            Io::Write => {
                let outgoing = session.conn().outgoing().concat();
                writes.push(Reply::parse_all(&outgoing).len());
                session.conn_mut().advance_written(outgoing.len());
            }
            Io::Read => return writes,
            other @ (Io::Wait | Io::Shutdown | Io::Close) => panic!("unexpected: {other:?}"),
        }
    }
}

#[test]
fn every_response_has_a_date() {
    for stream in [
        request("GET /healthz", ""),
        request("GET /metrics", ""),
        request("GET /api/fibonacci/1", ""),
        request("GET /api/fibonacci/1", "If-None-Match: *\r\n"),
        request("GET /api/fibonacci/101", ""),
        request("GET /nothing", ""),
        request("OPTIONS *", ""),
        request("PUT /healthz", ""),
        request("BREW /", ""),
        "GET / HTTP/2.0\r\n\r\n".to_owned(),
        "\0".to_owned(),
    ] {
        let reply = Wire::new().reply_to(&stream);
        assert_eq!(reply.field("Date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{stream:?}");
    }
}

#[test]
fn targets_in_absolute_form_are_served() {
    check_served(request("GET http://a.example:81/api/fibonacci/20?q", ""), 200);
    check_served("GET HTTP://b/healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200);
}

#[test]
fn exactly_one_valid_host_is_required_in_1_1() {
    check_rejected("GET /healthz HTTP/1.1\r\n\r\n", 400);
    check_rejected("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    check_rejected("GET /healthz HTTP/1.1\r\nHost: a/\r\n\r\n", 400);
    check_served("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    check_served("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200);
}

/// The body looks like a request, a response or a chunk. The response does not change.
#[test]
fn a_request_body_is_never_interpreted() {
    for body in [NEXT, "\0\r\n\r\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "{}", "\u{16}\u{3}"] {
        let known =
            request("GET /api/fibonacci/20", &format!("Content-Length: {}\r\n", body.len()));
        let chunked = request("GET /api/fibonacci/20", "Transfer-Encoding: chunked\r\n");
        for sent in
            [format!("{known}{body}"), format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())]
        {
            assert_eq!(Wire::new().reply_to(&sent).body, "6765", "{sent:?}");
            check_served(&sent, 200);
        }
    }
}

#[test]
fn a_body_never_becomes_a_request() {
    let smuggled = request("GET /nothing", "");
    for pieces in 1..6 {
        let body = smuggled.repeat(pieces);
        let known = request("PUT /healthz", &format!("Content-Length: {}\r\n", body.len()));
        check_served(format!("{known}{body}"), 405);
        let chunks = format!("{:x}\r\n{smuggled}\r\n", smuggled.len()).repeat(pieces);
        let chunked = request("PUT /healthz", "Transfer-Encoding: chunked\r\n");
        check_served(format!("{chunked}{chunks}0\r\n\r\n"), 405);
    }
}

/// The debug text of a connection has all bytes that it holds. 16 MiB of body in pieces add nothing to it.
#[test]
fn a_body_is_discarded_in_bounded_memory() {
    let limits = Limits { body_bytes: u64::MAX, ..default_limits() };
    for (fields, piece) in [
        ("Content-Length: 16777216\r\n", "x".repeat(0x1_0000)),
        ("Transfer-Encoding: chunked\r\n", format!("fff8\r\n{}\r\n", "x".repeat(0xfff8))),
    ] {
        let mut wire = Wire::with_limits(limits);
        assert_eq!(wire.send(request("PUT /healthz", fields)), []);
        let held = wire.held();
        for _ in 0..255 {
            assert_eq!(wire.send(&piece), []);
            assert!(wire.held() <= held + 64, "{} from {held}", wire.held());
        }
        assert_eq!(wire.ending(), Ending::Open);
    }
}

#[test]
fn a_body_beyond_the_limit_is_413_and_closed() {
    let length = default_limits().body_bytes + 1;
    check_rejected(request("PUT /healthz", &format!("Content-Length: {length}\r\n")), 413);
    check_rejected(
        request("PUT /healthz", "Transfer-Encoding: chunked\r\n") + &format!("{length:x}\r\n"),
        413,
    );
}

#[test]
fn chunked_bodies_are_decoded_strictly() {
    let chunked = |body: &str| request("PUT /healthz", "Transfer-Encoding: chunked\r\n") + body;
    check_served(chunked("2\r\nab\r\n0\r\n\r\n"), 405);
    for body in ["2\r\nabc\r\n", "2\nab\r\n", "2\r\nab0\r\n", "0\r\n\n", " 2\r\nab\r\n", "\r\n"] {
        check_rejected(chunked(body), 400);
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let mut wire = Wire::new();
    let head = request("GET /healthz", "Expect: 100-continue\r\nContent-Length: 2\r\n");
    assert_eq!(only(wire.send(&head)).status, 100, "before any of the body has arrived");
    assert_eq!(only(wire.send("ab")).status, 200);
    assert_eq!(wire.ending(), Ending::Open);
}

#[test]
fn another_expectation_is_417() {
    for value in ["tea", "100-continued", "200-ok", "100-continue, tea", "100-continue;q=1"] {
        check_rejected(request("PUT /healthz", &format!("Expect: {value}\r\n")), 417);
    }
}

#[test]
fn the_close_lingers_after_an_error_in_the_framing() {
    for input in [
        "\0".to_owned(),
        "GET / HTTP/1.1\n\n".to_owned(),
        request("GET /", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        request("GET /", "Transfer-Encoding: chunked\r\n") + "x",
        request("GET /", "Content-Length: 9999999\r\n"),
    ] {
        let mut wire = Wire::new();
        assert_eq!(wire.reply_to(&input).field("Connection"), Some("close"), "{input:?}");
        assert_eq!(wire.ending(), Ending::Lingering, "{input:?}");
    }
}

#[test]
fn half_closed_clients_still_get_their_responses() {
    let mut wire = Wire::new();
    let replies = wire.send_with_end(NEXT.repeat(100));
    assert_eq!(replies.len(), 100);
    assert!(replies.iter().all(|reply| reply.body == NEXT_BODY));
    assert_eq!(wire.ending(), Ending::Closed);
}

#[test]
fn every_error_response_is_a_short_line_of_plain_text() {
    let long = "x".repeat(17_000);
    let inputs = [
        request("GET /nothing", ""),
        request("GET /api/fibonacci/x", ""),
        request("GET /api/fibonacci/101", ""),
        request("PUT /healthz", ""),
        request("BREW /", ""),
        request("GET /", "A\r\n"),
        request("GET /", "Content-Length: x\r\n"),
        request("GET /", "Content-Length: 9999999\r\n"),
        request("GET /", "Transfer-Encoding: x\r\n"),
        request("GET /", "Transfer-Encoding: chunked\r\n") + "x",
        request("GET /", "Expect: x\r\n"),
        request("GET /", "Host: a\r\n"),
        request(&format!("GET /{long}"), ""),
        request("GET /", &format!("A: {long}\r\n")),
        request("GET /", &"A: b\r\n".repeat(64)),
        "GET / HTTP/3.0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\n".to_owned(),
        "\0".to_owned(),
    ];
    let mut seen = Vec::new();
    for input in inputs {
        let reply = Wire::new().reply_to(&input);
        assert!(reply.status >= 400, "{input:?}");
        assert_eq!(reply.field("Content-Type"), Some("text/plain; charset=utf-8"), "{input:?}");
        let text = &reply.body;
        let is_a_short_line = text.ends_with('\n') && text.lines().count() == 1 && text.len() < 80;
        assert!(is_a_short_line, "{input:?}: {text:?}");
        seen.push(reply.status);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [400, 404, 405, 413, 414, 417, 422, 431, 501, 505]);
}

#[test]
fn the_response_to_a_timeout_is_a_line_of_text() {
    let mut wire = Wire::new();
    assert_eq!(statuses(&wire.send("GET /")), [0_u16; 0]);
    assert_eq!(only(wire.expire()).body, "the request head took too long to arrive\n");
}
