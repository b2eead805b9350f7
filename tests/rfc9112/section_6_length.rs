//! RFC 9112 section 6.3: the length of a body, by the list items about requests.

use crate::wire::{Ending, NEXT, Wire, check_rejected, check_served, only, request};

/// RFC 9112 section 6.3 item 1: a response to HEAD ends with its head, whatever its fields are.
#[test]
fn a_response_to_head_ends_with_its_head() {
    let mut wire = Wire::new();
    let targets = ["/healthz", "/metrics", "/api/fibonacci/100", "/api/fibonacci/x", "/nothing"];
    let heads: String = targets.map(|target| request(&format!("HEAD {target}"), "")).concat();
    let replies = wire.send_head(heads);
    assert_eq!(replies.len(), targets.len(), "a body would stand where a status line must");
    assert!(replies.iter().all(|reply| reply.field("Content-Length") != Some("0")));
}

/// RFC 9112 section 6.3 item 2: CONNECT never gets 2xx, so that no tunnel starts and the bytes after it are the next
/// request.
#[test]
fn connect_does_not_start_a_tunnel() {
    check_served(request("CONNECT a:443", ""), 405);
}

/// RFC 9112 section 6.3 item 3: both fields are an error and may be an attempt to smuggle a request. The bytes after
/// the head are not interpreted.
#[test]
fn both_fields_are_an_error() {
    let head = request("POST /healthz", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    check_rejected(format!("{head}5c\r\n{NEXT}\r\n0\r\n\r\n"), 400);
    check_rejected(format!("{head}0\r\n\r\n{NEXT}"), 400);
}

/// RFC 9112 section 6.3 item 4: chunked as the last coding delimits the body.
#[test]
fn chunked_delimits_the_body() {
    let head = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
    check_served(format!("{head}{:X}\r\n{NEXT}\r\n0\r\n\r\n", NEXT.len()), 405);
}

/// RFC 9112 section 6.3 item 4: if chunked is not the last coding, the length is unknown: 400, and the connection
/// closes.
#[test]
fn chunked_that_is_not_last_gets_400_and_a_close() {
    for coding in
        ["chunked, gzip", "chunked,identity", "gzip", "identity", "chunked, chunked, gzip"]
    {
        let head = request("POST /healthz", &format!("Transfer-Encoding: {coding}\r\n"));
        check_rejected(head + "0\r\n\r\n", 400);
    }
    let lines = "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n";
    check_rejected(request("POST /healthz", lines) + "0\r\n\r\n", 400);
}

/// RFC 9112 section 6.3 item 5: an invalid length is an unrecoverable error: 400, and the connection closes.
#[test]
fn an_invalid_length_gets_400_and_a_close() {
    for length in [
        "", "-1", "+1", "x", "0x5", "5x", "5 5", "5;", "5.0", "1e1", "1_0", "\"5\"", "\u{665}",
        "\u{ff15}",
    ] {
        let head = request("POST /healthz", &format!("Content-Length: {length}\r\n"));
        check_rejected(head + "GET /", 400);
    }
}

/// RFC 9112 section 6.3 item 5: different lengths are such an error, in one line or in several. A list of equal
/// lengths may be accepted and is rejected here.
#[test]
fn several_lengths_get_400_and_a_close() {
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
        check_rejected(request("POST /healthz", fields) + "GET /", 400);
    }
}

/// RFC 9112 section 6.3 item 6: a valid length alone is exactly that of the body.
#[test]
fn a_valid_length_delimits_the_body() {
    for length in [0, 1, 5, NEXT.len(), 10_000] {
        let head = request("POST /healthz", &format!("Content-Length: {length}\r\n"));
        let body: String = NEXT.chars().cycle().take(length).collect();
        check_served(format!("{head}{body}"), 405);
    }
}

/// RFC 9112 section 6.3 item 6: if the client closes before the end of the body, the message is incomplete and the
/// connection closes.
#[test]
fn a_body_truncated_by_the_client_is_incomplete() {
    for got in ["", "G", "GET "] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(request("POST /healthz", "Content-Length: 5\r\n") + got), []);
        let reply = only(wire.end());
        assert_eq!((reply.status, reply.field("Connection")), (400, Some("close")), "{got:?}");
        assert_eq!(wire.ending(), Ending::Closed, "{got:?}");
    }
}

/// RFC 9112 section 6.3 item 6: if the body times out, the message is incomplete and the connection closes.
#[test]
fn a_body_that_does_not_arrive_in_time_is_incomplete() {
    for got in ["", "G", "GET "] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(request("POST /healthz", "Content-Length: 5\r\n") + got), []);
        let reply = only(wire.expire());
        assert_eq!((reply.status, reply.field("Connection")), (408, Some("close")), "{got:?}");
        assert_eq!(wire.ending(), Ending::Lingering, "{got:?}");
        assert_eq!(wire.send(NEXT), [], "{got:?}");
    }
}

/// RFC 9112 section 6.3 item 7: a request with neither field has no body.
#[test]
fn a_request_with_neither_field_has_no_body() {
    for line in ["GET /healthz", "POST /healthz", "PUT /healthz", "DELETE /healthz"] {
        let status = if line.starts_with("GET") { 200 } else { 405 };
        check_served(request(line, ""), status);
        check_served(request(line, "Content-Type: text/plain\r\nTrailer: A\r\n"), status);
    }
}
