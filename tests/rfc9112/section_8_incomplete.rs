//! RFC 9112 section 8: incomplete messages.

use crate::wire::{Ending, NEXT, Wire, only, request};

/// Checks that a stream which ends after `input` is rejected as incomplete, after any number of valid requests.
fn check_incomplete(input: &str) {
    let mut wire = Wire::new();
    assert_eq!(wire.send(input), [], "{input:?}");
    let reply = only(wire.end());
    assert_eq!((reply.status, reply.field("Connection")), (400, Some("close")), "{input:?}");
    assert_eq!(wire.ending(), Ending::Closed, "{input:?}");
}

/// RFC 9112 section 8: an incomplete request may get an error before the connection closes and is never served. A
/// head without its empty line is incomplete at every byte.
#[test]
fn a_head_without_its_end_is_not_served() {
    for length in 1..NEXT.len() {
        check_incomplete(&NEXT[..length]);
    }
}

/// RFC 9112 section 8: a chunked body is incomplete until the last chunk and the trailers have arrived.
#[test]
fn a_chunked_body_without_its_last_chunk_is_incomplete() {
    let head = request("GET /healthz", "Transfer-Encoding: chunked\r\n");
    let body = "5;x=y\r\nGET /\r\n0\r\nA: b\r\n\r\n";
    for length in 0..body.len() {
        check_incomplete(&format!("{head}{}", &body[..length]));
    }
}

/// RFC 9112 section 8: a body of known length is incomplete until that many bytes have arrived.
#[test]
fn a_body_shorter_than_its_length_is_incomplete() {
    let head = request("GET /healthz", "Content-Length: 5\r\n");
    for length in 0..5 {
        check_incomplete(&format!("{head}{}", &"GET /"[..length]));
    }
}

/// RFC 9112 section 8: complete requests before an incomplete one are served.
#[test]
fn complete_requests_before_an_incomplete_one_are_served() {
    let mut wire = Wire::new();
    assert_eq!(wire.reply_to(format!("{NEXT}GET /hea")).body, "55");
    assert_eq!(only(wire.end()).status, 400);
    assert_eq!(wire.ending(), Ending::Closed);
}

/// RFC 9112 section 8: a request that times out, too, may get a response before the connection closes.
#[test]
fn a_request_that_times_out_gets_408() {
    let chunked = request("GET /healthz", "Transfer-Encoding: chunked\r\n");
    for begun in [
        "G",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n",
        "\r\nG",
        &chunked,
        &(chunked.clone() + "5\r\nGET"),
    ] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(begun), [], "{begun:?}");
        let reply = only(wire.expire());
        assert_eq!((reply.status, reply.field("Connection")), (408, Some("close")), "{begun:?}");
        assert_eq!(wire.ending(), Ending::Lingering, "{begun:?}");
        assert_eq!(wire.send(NEXT), [], "{begun:?}");
    }
}
