//! RFC 9112 section 2: messages, their lines and their version.

use fibsrv::http::{
    Status,
    conn::TimeoutKind,
    preamble::Preamble,
    render::render,
    response::{Body, BodyMode, ConnectionHeader, CrossOrigin, ErrorField, Response, ResponseKind},
};

use crate::wire::{
    Ending, NEXT, Wire, check_rejected, check_served, default_limits, request, statuses,
};

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Renders every possible head: each status with each kind of fields and connection.
pub(crate) fn all_response_heads() -> Vec<String> {
    let preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");
    let mut heads = Vec::new();
    for status in Status::ALL {
        for kind in [
            ResponseKind::Number(7),
            ResponseKind::Text,
            ResponseKind::Media("a/b"),
            ResponseKind::Allow(ALLOW),
            ResponseKind::Error(ErrorField::Allow(ALLOW), CrossOrigin::Readable),
            ResponseKind::NumberJson(7),
        ] {
            for connection in
                [ConnectionHeader::Implied, ConnectionHeader::KeepAlive, ConnectionHeader::Close]
            {
                let mut out = Vec::new();
                let response = Response { status, kind, body: Body::Bytes(b"") };
                render(&mut out, &response, BodyMode::Send, connection, &preamble);
                heads.push(String::from_utf8(out).unwrap());
            }
        }
    }
    heads
}

/// RFC 9112 section 2.2: a message is octets in a superset of US-ASCII, so that no character of a wider encoding is
/// a delimiter. The second octet of U+010A in UTF-16 is LF; U+2028 and U+0085 are line ends in some encodings;
/// U+FF1A resembles a colon.
#[test]
fn messages_are_octets_and_not_characters() {
    for value in ["\u{e9}", "\u{10a}\u{10d}", "\u{85}", "\u{2028}", "\u{ff1a}", "\u{ff0c}close"] {
        check_served(request("GET /healthz", &format!("A: {value}\r\n")), 200);
    }
    for octet in 0x80..=0xff_u8 {
        let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: x";
        check_served([&head[..], &[octet], b"y\r\n\r\n"].concat(), 200);
    }
    check_rejected("GET /healthz HTTP/1.1\u{85}\r\nHost: a\r\n\r\n", 400);
    check_rejected(request("GET /healthz", "Content-Length\u{ff1a} 5\r\n"), 400);
}

/// RFC 9112 section 2.2: a recipient may accept LF alone as a line end. This one rejects it, because all recipients
/// of a stream must agree on its lines.
#[test]
fn a_bare_lf_is_rejected() {
    for head in [
        "GET /healthz HTTP/1.1\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\n",
        "GET /healthz HTTP/1.1\r\nHost: a\n\n",
        "\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\nContent-Length: 5\r\n\r\n",
    ] {
        check_rejected(head, 400);
    }
}

/// RFC 9112 section 2.2: a sender generates no CR without LF outside of content.
#[test]
fn no_bare_cr_or_lf_is_sent() {
    for head in all_response_heads() {
        let without_line_ends = head.replace("\r\n", "");
        assert!(!without_line_ends.contains(['\r', '\n']), "{head:?}");
    }
}

/// RFC 9112 section 2.2: a recipient rejects a CR without LF or replaces it with a space. This one rejects it, in
/// every position.
#[test]
fn a_bare_cr_is_rejected() {
    for head in [
        "GET\r/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /heal\rthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz\rHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\rHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHo\rst: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost\r: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nA:\rb\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\r\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\rContent-Length: 5\r\n\r\n",
        "\rGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        check_rejected(head, 400);
    }
}

/// RFC 9112 section 2.2: empty lines before a request line are ignored, because some clients send one after a body.
#[test]
fn empty_lines_before_a_request_line_are_ignored() {
    check_served(format!("\r\n{NEXT}"), 200);
    check_served(format!("\r\n\r\n\r\n{NEXT}"), 200);
    check_served(format!("{}abcde\r\n", request("PUT /healthz", "Content-Length: 5\r\n")), 405);
}

/// RFC 9112 section 2.2: an empty line alone is not a request and gets no response.
#[test]
fn an_empty_line_alone_gets_no_response() {
    let mut wire = Wire::new();
    assert_eq!(wire.send("\r\n"), []);
    assert_eq!(wire.ending(), Ending::Open);
    assert_eq!(wire.reply_to(NEXT).status, 200);
}

/// RFC 9112 section 2.2: a client may send an empty line after a request. It begins no request: the connection stays
/// idle, and neither its timeout nor the end of the stream causes an error.
#[test]
fn an_empty_line_after_a_request_leaves_the_connection_idle() {
    for empty_lines in ["\r\n", "\r\n\r\n\r\n"] {
        for slowly in [false, true] {
            let stream = format!("{NEXT}{empty_lines}");
            let sent = || {
                let mut wire = Wire::new();
                let stream = stream.as_bytes();
                let replies = if slowly { wire.send_slowly(stream) } else { wire.send(stream) };
                assert_eq!(statuses(&replies), [200]);
                assert_eq!(wire.timeout(), Some(TimeoutKind::Idle));
                wire
            };
            let mut timed_out = sent();
            assert_eq!(timed_out.expire(), [], "no 408");
            assert_eq!(timed_out.ending(), Ending::Lingering);
            let mut ended = sent();
            assert_eq!(ended.end(), [], "no 400");
            assert_eq!(ended.ending(), Ending::Closed);
            let mut continued = sent();
            assert_eq!(statuses(&continued.send(format!("\r\n{NEXT}{empty_lines}"))), [200]);
            assert_eq!(continued.timeout(), Some(TimeoutKind::Idle));
        }
    }
}

/// RFC 9112 section 2.2: empty lines on a new connection are no request either: it closes without a response.
#[test]
fn empty_lines_alone_get_no_response() {
    for lines in ["\r\n", "\r\n\r\n"] {
        let mut timed_out = Wire::new();
        assert_eq!(timed_out.send(lines), []);
        assert_eq!(timed_out.expire(), []);
        assert_eq!(timed_out.ending(), Ending::Closed);
        let mut ended = Wire::new();
        assert_eq!(ended.send(lines), []);
        assert_eq!(ended.end(), []);
        assert_eq!(ended.ending(), Ending::Closed);
    }
}

/// RFC 9112 section 2.2: empty lines count as part of the head, whether they arrive with the request or before it.
#[test]
fn empty_lines_without_end_are_431() {
    let lines = "\r\n".repeat(default_limits().head_bytes / 2 + 1);
    for stream in [lines.clone(), format!("{NEXT}{lines}")] {
        for slowly in [false, true] {
            let mut wire = Wire::new();
            let stream = stream.as_bytes();
            let mut replies = if slowly { wire.send_slowly(stream) } else { wire.send(stream) };
            assert_eq!(replies.pop().map(|reply| reply.status), Some(431));
            assert_eq!(wire.ending(), Ending::Lingering);
        }
    }
}

/// RFC 9112 section 2.2: no white space is sent between the status line and the first field.
#[test]
fn no_white_space_follows_the_status_line() {
    for head in all_response_heads() {
        let (_, fields) = head.split_once("\r\n").unwrap();
        assert!(!fields.starts_with([' ', '\t']), "{head:?}");
    }
}

/// RFC 9112 section 2.2: a recipient rejects white space between the request line and the first field, or ignores
/// the line. This one rejects it.
#[test]
fn white_space_before_the_first_field_is_rejected() {
    for fields in [" Host: a\r\n", "\tHost: a\r\n", " \r\nHost: a\r\n", " A: b\r\nHost: a\r\n"] {
        check_rejected(format!("GET /healthz HTTP/1.1\r\n{fields}\r\n"), 400);
    }
}

/// RFC 9112 section 2.2: bytes that are not an HTTP message get 400, and the connection closes.
#[test]
fn bytes_that_are_no_message_get_400_and_a_close() {
    for input in [
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "\0\0\0\0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "{\"jsonrpc\":\"2.0\"}\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "GET\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "Host: a\r\n\r\n",
        " GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        check_rejected(input, 400);
    }
}

/// RFC 9112 section 2.3: the version is `HTTP/` in capitals and two digits separated by a dot.
#[test]
fn the_version_is_case_sensitive_and_has_two_digits() {
    for version in [
        "http/1.1",
        "Http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.1.1",
        "HTTP/1,1",
        "HTTP/a.1",
        "HTTP/1.a",
        "HTTP 1.1",
        "HTTPS/1.1",
        "HTTP/-1.1",
        "HTTP/\u{661}.1",
        "HTTP/1.1;",
        "ICY/1.1",
        "1.1",
    ] {
        check_rejected(format!("GET /healthz {version}\r\nHost: a\r\n\r\n"), 400);
    }
}

/// RFC 9112 section 2.3, RFC 9110 section 2.5: a higher minor version is served as the highest known one.
#[test]
fn a_higher_minor_version_is_served_as_1_1() {
    for minor in 1..=9 {
        check_served(format!("GET /healthz HTTP/1.{minor}\r\nHost: a\r\n\r\n"), 200);
    }
    check_rejected("GET /healthz HTTP/1.2\r\n\r\n", 400); // no Host
}

/// RFC 9112 section 2.3, RFC 9110 section 2.5: a response has the server's version, whatever that of the request
/// (`Reply` accepts no other).
#[test]
fn responses_have_the_version_of_the_server() {
    for version in ["1.0", "1.1", "1.2", "0.9", "2.0"] {
        let mut wire = Wire::new();
        let reply = wire.reply_to(format!("GET /healthz HTTP/{version}\r\nHost: a\r\n\r\n"));
        let is_served = version.starts_with("1.");
        assert_eq!(reply.status, if is_served { 200 } else { 505 }, "{version}");
    }
    assert!(all_response_heads().iter().all(|head| head.starts_with("HTTP/1.1 ")));
}
