//! RFC 9112 section 6.3: how long a body is, by the items of its list that are about requests.

use crate::wire::{Ending, NEXT, Wire, check_refused, check_served, only, request};

/// RFC 9112 section 6.3, item 1: an answer to HEAD ends with its head, whatever its fields say.
#[test]
fn an_answer_to_head_ends_with_its_head() {
    let mut wire = Wire::new();
    let targets = ["/healthz", "/metrics", "/api/fibonacci/100", "/api/fibonacci/x", "/nothing"];
    let heads: String = targets.map(|target| request(&format!("HEAD {target}"), "")).concat();
    let replies = wire.send_head(heads);
    assert_eq!(replies.len(), targets.len(), "a body would stand where a status line must");
    assert!(replies.iter().all(|reply| reply.field("Content-Length") != Some("0")));
}

/// RFC 9112 section 6.3, item 2: CONNECT is never answered with 2xx, so that no tunnel begins, and what
/// follows it is the next request.
#[test]
fn connect_does_not_begin_a_tunnel() {
    check_served(request("CONNECT a:443", ""), 405);
}

/// RFC 9112 section 6.3, item 3: both fields are an error, as they may be meant to smuggle a request: the
/// bytes behind the head belong to nobody.
#[test]
fn both_fields_are_an_error() {
    let head = request("POST /healthz", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    check_refused(format!("{head}5c\r\n{NEXT}\r\n0\r\n\r\n"), 400);
    check_refused(format!("{head}0\r\n\r\n{NEXT}"), 400);
}

/// RFC 9112 section 6.3, item 4: if chunked is there and last, it delimits the body.
#[test]
fn chunked_delimits_the_body() {
    let head = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
    check_served(format!("{head}{:X}\r\n{NEXT}\r\n0\r\n\r\n", NEXT.len()), 405);
}

/// RFC 9112 section 6.3, item 4: if chunked is not the last coding, the length cannot be known: 400, and
/// closed.
#[test]
fn chunked_that_is_not_last_is_400_and_closed() {
    for coding in
        ["chunked, gzip", "chunked,identity", "gzip", "identity", "chunked, chunked, gzip"]
    {
        let head = request("POST /healthz", &format!("Transfer-Encoding: {coding}\r\n"));
        check_refused(head + "0\r\n\r\n", 400);
    }
    let lines = "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n";
    check_refused(request("POST /healthz", lines) + "0\r\n\r\n", 400);
}

/// RFC 9112 section 6.3, item 5: a length that is invalid is an error that cannot be recovered from: 400,
/// and closed.
#[test]
fn an_invalid_length_is_400_and_closed() {
    for length in [
        "", "-1", "+1", "x", "0x5", "5x", "5 5", "5;", "5.0", "1e1", "1_0", "\"5\"", "\u{665}",
        "\u{ff15}",
    ] {
        let head = request("POST /healthz", &format!("Content-Length: {length}\r\n"));
        check_refused(head + "GET /", 400);
    }
}

/// RFC 9112 section 6.3, item 5: lengths that differ are such an error, in one line or in several. A list
/// of the same length may be taken as that length; here it is refused as well.
#[test]
fn several_lengths_are_400_and_closed() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nA: b\r\ncontent-length:\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
    ] {
        check_refused(request("POST /healthz", fields) + "GET /", 400);
    }
}

/// RFC 9112 section 6.3, item 6: a valid length alone is that of the body: not a byte less, not one more.
#[test]
fn a_valid_length_delimits_the_body() {
    for length in [0, 1, 5, NEXT.len(), 10_000] {
        let head = request("POST /healthz", &format!("Content-Length: {length}\r\n"));
        let body: String = NEXT.chars().cycle().take(length).collect();
        check_served(format!("{head}{body}"), 405);
    }
}

/// RFC 9112 section 6.3, item 6: if the peer closes before all of the body has come, the message is
/// incomplete, and the connection is closed.
#[test]
fn a_body_cut_off_by_the_peer_is_incomplete() {
    for got in ["", "G", "GET "] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(request("POST /healthz", "Content-Length: 5\r\n") + got), []);
        let reply = only(wire.end());
        assert_eq!((reply.status, reply.field("Connection")), (400, Some("close")), "{got:?}");
        assert_eq!(wire.ending(), Ending::Closed, "{got:?}");
    }
}

/// RFC 9112 section 6.3, item 6: if time runs out before all of the body has come, likewise.
#[test]
fn a_body_that_does_not_come_in_time_is_incomplete() {
    for got in ["", "G", "GET "] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(request("POST /healthz", "Content-Length: 5\r\n") + got), []);
        let reply = only(wire.expire());
        assert_eq!((reply.status, reply.field("Connection")), (408, Some("close")), "{got:?}");
        assert_eq!(wire.ending(), Ending::Lingering, "{got:?}");
        assert_eq!(wire.send(NEXT), [], "{got:?}");
    }
}

/// RFC 9112 section 6.3, item 7: a request with neither field has no body.
#[test]
fn a_request_with_neither_field_has_no_body() {
    for line in ["GET /healthz", "POST /healthz", "PUT /healthz", "DELETE /healthz"] {
        let status = if line.starts_with("GET") { 200 } else { 405 };
        check_served(request(line, ""), status);
        check_served(request(line, "Content-Type: text/plain\r\nTrailer: A\r\n"), status);
    }
}
