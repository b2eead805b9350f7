//! RFC 9112 sections 6, 6.1 and 6.2: the presence of a body, and the two fields that delimit it.

use crate::{
    section_2_messages::all_response_heads,
    wire::{Ending, NEXT, Wire, check_rejected, check_served, only, request, statuses},
};

/// RFC 9112 section 6: either of two fields signals a body, whatever the method.
#[test]
fn the_framing_of_a_request_does_not_depend_on_its_method() {
    let methods = [
        ("GET /healthz", 200),
        ("POST /healthz", 405),
        ("PUT /healthz", 405),
        ("DELETE /healthz", 405),
        ("OPTIONS /healthz", 204),
        ("TRACE /healthz", 405),
        ("PATCH /healthz", 405),
        ("CONNECT a:1", 405),
    ];
    for (line, status) in methods {
        check_served(request(line, ""), status);
        let known = request(line, &format!("Content-Length: {}\r\n", NEXT.len()));
        check_served(format!("{known}{NEXT}"), status);
        let chunked = request(line, "Transfer-Encoding: chunked\r\n");
        check_served(format!("{chunked}{:x}\r\n{NEXT}\r\n0\r\n\r\n", NEXT.len()), status);
    }
    let mut wire = Wire::new();
    let head = request("HEAD /healthz", &format!("Content-Length: {}\r\n", NEXT.len()));
    assert_eq!(only(wire.send_head(format!("{head}{NEXT}"))).status, 200);
    assert_eq!(wire.reply_to(NEXT).body, "55");
}

/// RFC 9112 section 6: 1xx, 204 and 304 have no content (`Reply` expects none, and the next reply follows in the
/// stream).
#[test]
fn some_statuses_never_have_content() {
    let mut wire = Wire::new();
    let expecting = "Expect: 100-continue\r\nContent-Length: 1\r\n";
    let stream = [
        request("OPTIONS /healthz", ""),
        request("GET /api/fibonacci/20", "If-None-Match: \"20\"\r\n"),
        request("GET /healthz", expecting),
    ];
    assert_eq!(statuses(&wire.send(stream.concat())), [204, 304, 100]);
    assert_eq!(statuses(&wire.send(format!("x{NEXT}"))), [200, 200]);
}

/// RFC 9112 section 6: any other response has content, if only of length zero, and so a length.
#[test]
fn all_other_responses_have_a_length() {
    for head in all_response_heads() {
        let has_none = ["HTTP/1.1 204 ", "HTTP/1.1 304 "].iter().any(|line| head.starts_with(line));
        assert_eq!(head.matches("\r\nContent-Length: ").count(), usize::from(!has_none), "{head}");
    }
}

/// RFC 9112 section 6.1: a recipient can parse the chunked coding.
#[test]
fn the_chunked_coding_is_understood() {
    let chunked = request("PUT /healthz", "Transfer-Encoding: chunked\r\n");
    for body in ["0\r\n\r\n", "5\r\nGET /\r\n0\r\n\r\n", "1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n"] {
        check_served(format!("{chunked}{body}"), 405);
    }
}

/// RFC 9112 section 6.1: no `Transfer-Encoding` is sent with 1xx, 204, a 2xx to CONNECT, or to an HTTP/1.0 client
/// (`Reply` accepts none at all).
#[test]
fn no_transfer_coding_is_sent() {
    for head in all_response_heads() {
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    }
    for version in ["1.0", "1.1"] {
        let head = format!("GET /metrics HTTP/{version}\r\nHost: a\r\nTE: chunked, gzip\r\n\r\n");
        assert_eq!(Wire::new().reply_to(head).field("Transfer-Encoding"), None, "{version}");
    }
}

/// RFC 9112 section 6.1: an unknown transfer coding gets 501 if chunked is the last coding. Otherwise the length of the
/// body is unknown, which gets 400 (section 6.3 item 4).
#[test]
fn an_unknown_transfer_coding_before_chunked_is_501() {
    for coding in ["gzip", "deflate", "compress", "x-gzip", "identity", "br", "cow", "gzip, cow"] {
        check_rejected(request("PUT /healthz", &format!("Transfer-Encoding: {coding}\r\n")), 400);
        for last in ["chunked", "Chunked", "\tCHUNKED"] {
            let fields = format!("Transfer-Encoding: {coding},{last}\r\n");
            check_rejected(request("PUT /healthz", &fields) + "0\r\n\r\n", 501);
        }
    }
}

/// RFC 9112 sections 6.1 and 6.3 items 3 and 4: the framing stays in doubt if an unknown coding is combined with a
/// length, a second chunked or HTTP/1.0, which gets 400.
#[test]
fn an_unknown_transfer_coding_with_ambiguous_framing_is_400() {
    let unknown = "Transfer-Encoding: gzip, chunked\r\n";
    for fields in [
        format!("{unknown}Content-Length: 5\r\n"),
        format!("Content-Length: 5\r\n{unknown}"),
        format!("{unknown}Transfer-Encoding: chunked\r\n"),
        "Transfer-Encoding: chunked, gzip, chunked\r\n".to_owned(),
    ] {
        check_rejected(request("PUT /healthz", &fields) + "0\r\n\r\n", 400);
    }
    check_rejected(format!("PUT /healthz HTTP/1.0\r\n{unknown}\r\n0\r\n\r\n"), 400);
}

/// RFC 9112 section 6.1: a request with both fields may be rejected, and the connection must close.
#[test]
fn both_framings_in_one_request_are_rejected_and_close() {
    let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for fields in [
        format!("{length}{coding}"),
        format!("{coding}{length}"),
        format!("{coding}A: b\r\nContent-Length: 0\r\n"),
        "content-length: 5\r\nTRANSFER-ENCODING: Chunked\r\n".to_owned(),
    ] {
        check_rejected(request("PUT /healthz", &fields) + "0\r\n\r\n", 400);
    }
}

/// RFC 9112 section 6.1: a transfer coding in HTTP/1.0 is faulty framing, with or without a length, and the
/// connection closes even if keep-alive was requested.
#[test]
fn a_transfer_coding_in_http_1_0_is_faulty_framing() {
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
    ] {
        check_rejected(format!("PUT /healthz HTTP/1.0\r\n{fields}\r\n0\r\n\r\n"), 400);
    }
}

/// RFC 9112 section 6.2, RFC 9110 section 8.6: a length is never combined with a transfer coding (`Reply` accepts
/// none), it is that of the content, and the response to HEAD has the same.
#[test]
fn the_length_sent_is_that_of_the_content() {
    for target in ["/healthz", "/metrics", "/api/fibonacci/100", "/api/fibonacci/x", "/nothing"] {
        let mut wire = Wire::new();
        let get = wire.reply_to(request(&format!("GET {target}"), ""));
        assert_eq!(wire.ending(), Ending::Open, "{target}: nothing is left over");
        assert_eq!(get.field("Content-Length"), Some(&*get.body.len().to_string()), "{target}");
        if target != "/metrics" {
            let head = only(wire.send_head(request(&format!("HEAD {target}"), "")));
            assert_eq!(head.field("Content-Length"), get.field("Content-Length"), "{target}");
        }
    }
}

/// RFC 9112 section 6.2, RFC 9110 section 8.6: no length overflows.
#[test]
fn a_length_does_not_overflow() {
    for length in [
        "4294967296", // 2^32
        "4294967297",
        "9223372036854775808",                     // 2^63
        "18446744073709551615",                    // 2^64 - 1
        "18446744073709551616",                    // 2^64
        "18446744073709551621",                    // 2^64 + 5
        "340282366920938463463374607431768211461", // 2^128 + 5
        &"9".repeat(4000),
    ] {
        let head = request("PUT /healthz", &format!("Content-Length: {length}\r\n"));
        check_rejected(head + "GET /", 413);
    }
    let padded = format!("Content-Length: {}5\r\n", "0".repeat(4000));
    check_served(request("PUT /healthz", &padded) + "GET /", 405);
}
