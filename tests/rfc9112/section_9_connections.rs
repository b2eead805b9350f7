//! RFC 9112 section 9: persistence and closing of connections. `tests/it/closing.rs` has what only a socket shows: no
//! reset before the client has read the response.

use fibsrv::http::conn::{LINGER_BYTES_MAX, LINGER_BYTES_MIN, LINGER_PERIODS_MAX};

use crate::wire::{Ending, NEXT, NEXT_BODY, Wire, check_rejected, check_served, request, statuses};

/// Returns the state of the connection after a request of this version with these fields, and the `Connection` field
/// of the response.
fn persistence(version: &str, fields: &str) -> (Ending, Option<String>) {
    let mut wire = Wire::new();
    let reply = wire.reply_to(format!("GET /healthz HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(reply.status, 200, "{version} {fields:?}");
    (wire.ending(), reply.field("Connection").map(str::to_owned))
}

/// RFC 9112 section 9.2: each request has one final response, which may follow an interim one.
#[test]
fn each_request_has_one_final_response() {
    let expecting = "Expect: 100-continue\r\nContent-Length: 1\r\n";
    let mut wire = Wire::new();
    let stream = [NEXT, &request("GET /healthz", expecting)].concat();
    assert_eq!(statuses(&wire.send(stream)), [200, 100]);
    assert_eq!(statuses(&wire.send(format!("x{NEXT}"))), [200, 200]);
}

/// RFC 9112 section 9.3, first rule: `close` ends the connection in any version and in any combination.
#[test]
fn close_ends_the_connection() {
    for version in ["1.0", "1.1", "1.2"] {
        for value in [
            "close",
            "Close",
            "CLOSE",
            "close, keep-alive",
            "keep-alive, close",
            "a,,close ,b",
            ",close",
        ] {
            let found = persistence(version, &format!("Connection: {value}\r\n"));
            assert_eq!(found, (Ending::Closed, Some("close".to_owned())), "{version} {value:?}");
        }
        let lines = "Connection: keep-alive\r\nConnection: close\r\n";
        assert_eq!(persistence(version, lines).0, Ending::Closed, "{version}");
    }
}

/// RFC 9112 section 9.3, second rule: in HTTP/1.1 and later the connection persists.
#[test]
fn a_connection_persists_in_1_1() {
    for version in ["1.1", "1.9"] {
        for fields in
            ["", "Connection: keep-alive\r\n", "Connection: closed\r\n", "Connection:\r\n"]
        {
            assert_eq!(persistence(version, fields), (Ending::Open, None), "{version} {fields:?}");
        }
    }
}

/// RFC 9112 section 9.3, third rule: in HTTP/1.0 the connection persists if the client requests keep-alive, and the
/// response confirms it.
#[test]
fn a_connection_persists_in_1_0_with_keep_alive() {
    for value in ["keep-alive", "Keep-Alive", "KEEP-ALIVE", "a, keep-alive"] {
        let found = persistence("1.0", &format!("Connection: {value}\r\n"));
        assert_eq!(found, (Ending::Open, Some("keep-alive".to_owned())), "{value}");
    }
}

/// RFC 9112 section 9.3, last rule: otherwise the connection closes after the response.
#[test]
fn otherwise_the_connection_ends() {
    for fields in
        ["", "Connection: TE\r\n", "Keep-Alive: timeout=5\r\n", "Proxy-Connection: keep-alive\r\n"]
    {
        let expected = (Ending::Closed, Some("close".to_owned()));
        assert_eq!(persistence("1.0", fields), expected, "{fields:?}");
    }
}

/// RFC 9112 section 9.3: the last response before a close has `close`, also if it is an error.
#[test]
fn the_last_response_has_close() {
    let mut wire = Wire::new();
    for target in ["/healthz", "/nothing", "/api/fibonacci/x", "/api/fibonacci/1", "/metrics"] {
        wire.reconnect();
        let reply = wire.reply_to(request(&format!("GET {target}"), "Connection: close\r\n"));
        assert_eq!(reply.field("Connection"), Some("close"), "{target}");
        assert_eq!(wire.ending(), Ending::Closed, "{target}");
    }
}

/// RFC 9112 section 9.3: the whole body is read or the connection closes: the rest of a body is never the next
/// request.
#[test]
fn the_whole_body_is_read_or_the_connection_closes() {
    for length in [1, NEXT.len(), NEXT.len() * 1000] {
        let body: String = NEXT.chars().cycle().take(length).collect();
        let head = request("PUT /nothing", &format!("Content-Length: {length}\r\n"));
        check_served(format!("{head}{body}"), 404);
    }
    let too_long = request("PUT /nothing", "Content-Length: 99999999\r\n");
    check_rejected(format!("{too_long}{}", NEXT.repeat(100)), 413);
}

/// RFC 9112 section 9.3.2: responses to pipelined requests have the order of the requests.
#[test]
fn pipelined_requests_get_responses_in_order() {
    let mut wire = Wire::new();
    let requests: String =
        (0..=100).map(|n| request(&format!("GET /api/fibonacci/{n}"), "")).collect();
    let replies = wire.send(requests);
    let tags: Vec<_> = replies.iter().map(|reply| reply.field("ETag").unwrap()).collect();
    assert_eq!(tags, (0..=100).map(|n| format!("\"{n}\"")).collect::<Vec<_>>());
}

/// RFC 9112 section 9.3.2: a failed request among them keeps its place in that order.
#[test]
fn errors_among_pipelined_requests_keep_the_order() {
    let lines =
        ["GET /healthz", "GET /nothing", "PUT /healthz", "GET /api/fibonacci/x", "GET /readyz"];
    let requests: String = lines.iter().map(|line| request(line, "")).collect();
    assert_eq!(statuses(&Wire::new().send(requests)), [200, 404, 405, 400, 200]);
}

/// RFC 9112 section 9.5: an idle connection that times out closes without a response, which a client could take for
/// that to its next request.
#[test]
fn an_idle_connection_closes_without_a_response() {
    let mut wire = Wire::new();
    assert_eq!(wire.reply_to(NEXT).status, 200);
    assert_eq!(wire.expire(), []);
    assert_eq!(wire.ending(), Ending::Lingering);
}

/// RFC 9112 section 9.6: after the response to a request with `close` the server closes and processes no further
/// request, even if it has arrived already.
#[test]
fn no_request_is_processed_after_a_client_sent_close() {
    let last = request("GET /api/fibonacci/10", "Connection: close\r\n");
    let mut wire = Wire::new();
    let reply = wire.reply_to(format!("{last}{NEXT}"));
    assert_eq!((&*reply.body, reply.field("Connection")), (NEXT_BODY, Some("close")));
    assert_eq!(wire.ending(), Ending::Lingering, "unread input is left, so in stages");
    assert_eq!(wire.send(NEXT), []);
    assert_eq!(wire.end(), []);
    assert_eq!(wire.ending(), Ending::Closed);

    wire.reconnect();
    assert_eq!(wire.reply_to(&last).body, NEXT_BODY);
    assert_eq!(wire.ending(), Ending::Closed, "none is left, so at once");
}

/// RFC 9112 section 9.6: `close` takes effect after the response to the request that has it: the requests before it
/// are served.
#[test]
fn close_takes_effect_after_its_own_response() {
    let last = request("PUT /healthz", "Connection: close\r\nContent-Length: 5\r\n") + "GET /";
    let replies = Wire::new().send([NEXT, NEXT, &last, NEXT].concat());
    assert_eq!(statuses(&replies), [200, 200, 405]);
    let options: Vec<_> = replies.iter().map(|reply| reply.field("Connection")).collect();
    assert_eq!(options, [None, None, Some("close")]);
}

/// RFC 9112 section 9.6: after a response with `close` the server processes no further request.
#[test]
fn no_request_is_processed_after_the_server_sent_close() {
    check_rejected(request("BREW /healthz", ""), 501);
    check_rejected(request("GET /healthz", "Content-Length: x\r\n"), 400);
    let mut wire = Wire::new();
    let old = "GET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(statuses(&wire.send(format!("{old}{old}{NEXT}"))), [200]);
    assert_eq!(wire.send(NEXT), []);
}

/// RFC 9112 section 9.6: a client that uploads without waiting for 100 receives the rejection, because the server reads
/// and discards what it sends.
#[test]
fn a_rejected_upload_is_discarded() {
    let mut wire = Wire::new();
    let upload = request("PUT /healthz", "Content-Length: 20971520\r\n");
    assert_eq!(statuses(&wire.send(upload)), [413]);
    let held = wire.held();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..320 {
        assert_eq!(wire.send(&piece), []);
        assert_eq!(wire.ending(), Ending::Lingering);
        assert!(wire.held() < held + 32, "nothing but their number is kept");
    }
    assert_eq!(wire.end(), []);
    assert_eq!(wire.ending(), Ending::Closed);
}

/// RFC 9112 section 9.6: the last response of a server that drains closes in stages, because the client does not know
/// about the close yet and may be sending its next request.
#[test]
fn the_last_response_while_draining_closes_in_stages() {
    let mut wire = Wire::new();
    assert_eq!(wire.reply_to(NEXT).field("Connection"), None);
    wire.drain();
    let last = wire.reply_to(NEXT);
    assert_eq!((&*last.body, last.field("Connection")), (NEXT_BODY, Some("close")));
    assert_eq!(wire.ending(), Ending::Lingering);
    assert_eq!(wire.send(NEXT), []);
    assert_eq!(wire.end(), []);
    assert_eq!(wire.ending(), Ending::Closed);

    let mut closing = Wire::new();
    closing.drain();
    assert_eq!(closing.reply_to(request("GET /healthz", "Connection: close\r\n")).status, 200);
    assert_eq!(closing.ending(), Ending::Closed, "the client knows about the close");
}

/// RFC 9112 section 9.6: while a rejected upload goes on, the close waits, up to a number of periods and of bytes.
#[test]
fn a_slow_upload_is_discarded_for_a_bounded_time() {
    let upload = request("PUT /healthz", "Content-Length: 99999999\r\n");
    let mut wire = Wire::new();
    for (period_bytes, periods) in [
        (LINGER_BYTES_MIN - 1, 0),
        (LINGER_BYTES_MIN, LINGER_PERIODS_MAX - 1),
        (LINGER_BYTES_MAX / 4, 3),
    ] {
        wire.reconnect();
        assert_eq!(statuses(&wire.send(&upload)), [413]);
        let mut renewed = 0;
        let piece = vec![b'x'; period_bytes];
        loop {
            assert_eq!(wire.send(&piece), []);
            if !wire.renew_linger() {
                break;
            }
            renewed += 1;
        }
        assert_eq!(renewed, periods, "{period_bytes}");
        assert_eq!(wire.expire(), []);
        assert_eq!(wire.ending(), Ending::Closed, "{period_bytes}");
    }
}

/// RFC 9112 section 9.6: a lingering close is bounded in time, whether the client sends or not.
#[test]
fn lingering_ends_after_its_timeout() {
    for sent in [&b""[..], &[b'x'; 8192]] {
        let mut wire = Wire::new();
        assert_eq!(statuses(&wire.send("\0")), [400]);
        assert_eq!(wire.send(sent), []);
        assert_eq!(wire.ending(), Ending::Lingering);
        assert_eq!(wire.expire(), []);
        assert_eq!(wire.ending(), Ending::Closed);
    }
}
