//! RFC 9110: response fields, HEAD, expectations, methods, and the comparison of targets.

use crate::{
    reply::Reply,
    wire::{Ending, NEXT, Wire, check_served, only, request, statuses},
};

fn reply_to(method_and_target: &str) -> Reply {
    Wire::new().reply_to(request(method_and_target, ""))
}

/// RFC 9110 section 9.3.2: the response to HEAD has the status and the fields of GET, and no content.
#[test]
fn head_has_the_fields_of_get_and_no_content() {
    for target in [
        "/healthz",
        "/readyz",
        "/api/fibonacci/0",
        "/api/fibonacci/100",
        "/api/fibonacci/101",
        "/api/fibonacci/x",
        "/nothing",
        "/",
        "/openapi.json",
        "/robots.txt",
        "/favicon.ico",
        "http://a/healthz",
    ] {
        let get = reply_to(&format!("GET {target}"));
        let mut wire = Wire::new();
        let head = only(wire.send_head(request(&format!("HEAD {target}"), "")));
        assert_eq!((head.status, head.fields), (get.status, get.fields), "{target}");
        assert_eq!(wire.ending(), Ending::Open, "{target}");
    }
    let mut wire = Wire::new();
    let metrics = only(wire.send_head(request("HEAD /metrics", "")));
    assert_eq!((metrics.status, wire.ending()), (200, Ending::Open));
}

/// RFC 9110 section 9.3.2: the response to HEAD has no content even if the request is rejected, because the client
/// would not read it.
#[test]
fn a_rejected_head_has_no_content() {
    let long = "x".repeat(17_000);
    for (stream, status) in [
        ("HEAD /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\r\n\r\nHEAD /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("HEAD /healthz HTTP/1.1\nHost: a\r\n\r\n".to_owned(), 400),
        ("HEAD /healthz HTTP/2.0\r\n\r\n".to_owned(), 505),
        (request("HEAD * ", ""), 400),
        (request("HEAD *", ""), 400),
        (request("HEAD /healthz", "A\r\n"), 400),
        (request("HEAD /healthz", "Expect: tea\r\n"), 417),
        (request("HEAD /healthz", "Content-Length: 9999999\r\n"), 413),
        (request("HEAD /healthz", "Transfer-Encoding: chunked\r\n") + "x", 400),
        (request("HEAD /healthz", &format!("A: {long}\r\n")), 431),
        (format!("HEAD /{long}"), 414),
    ] {
        for before in ["", NEXT] {
            let mut wire = Wire::new();
            assert_eq!(wire.send(before).len(), usize::from(!before.is_empty()));
            let rejection = only(wire.send_head(&stream));
            assert_eq!(rejection.status, status, "{stream:?}");
            assert!(rejection.field("Content-Length").is_some_and(|length| length != "0"));
            assert_eq!(wire.ending(), Ending::Lingering, "{stream:?}");
        }
    }
}

/// RFC 9110 section 9.3.2: the same if the body is rejected after the header block has been found in the cache.
#[test]
fn a_rejected_head_with_cached_headers_has_no_content() {
    let fields = "Transfer-Encoding: chunked\r\n";
    let mut wire = Wire::new();
    assert_eq!(wire.reply_to(request("PUT /healthz", fields) + "0\r\n\r\n").status, 405);
    let reply = only(wire.send_head(request("HEAD /healthz", fields) + "x"));
    assert_eq!((reply.status, &*reply.body), (400, ""));
}

/// RFC 9110 section 9.3.2: the same if the head or the body times out.
#[test]
fn a_head_that_times_out_has_no_content() {
    for begun in ["HEAD /", "HEAD / HTTP/1.1\r\nHo", &request("HEAD /", "Content-Length: 5\r\n")] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(begun), []);
        assert_eq!(only(wire.expire_head()).status, 408, "{begun:?}");
    }
}

/// RFC 9110 section 6.6.1: `Date` has the preferred format and is not repeated (`field` checks that).
#[test]
fn date_is_an_imf_fixdate() {
    for line in ["GET /healthz", "GET /api/fibonacci/1", "GET /nothing", "OPTIONS *", "BREW /"] {
        let reply = reply_to(line);
        let date = reply.field("Date").unwrap();
        let shape: String =
            date.chars().map(|letter| if letter.is_ascii_digit() { '9' } else { letter }).collect();
        assert_eq!(shape, "Sun, 99 Nov 9999 99:99:99 GMT", "{line}");
    }
}

/// RFC 9111 section 5.2.2: numbers may be stored for a year, everything else not at all.
#[test]
fn every_response_has_cache_control() {
    for target in ["/api/fibonacci/0", "/api/fibonacci/100"] {
        let caching = "public, max-age=31536000, immutable";
        assert_eq!(
            reply_to(&format!("GET {target}")).field("Cache-Control"),
            Some(caching),
            "{target}"
        );
    }
    for line in [
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /nothing",
        "GET /api/fibonacci/x",
        "GET /api/fibonacci/101",
        "PUT /api/fibonacci/1",
        "OPTIONS *",
        "BREW /",
        "GET *",
    ] {
        assert_eq!(reply_to(line).field("Cache-Control"), Some("no-store"), "{line}");
    }
}

/// Content has a media type, and the client must not guess another.
#[test]
fn content_has_a_media_type_and_nosniff() {
    for line in [
        "GET /healthz",
        "GET /metrics",
        "GET /api/fibonacci/1",
        "GET /nothing",
        "PUT /healthz",
        "BREW /",
    ] {
        let reply = reply_to(line);
        assert!(!reply.body.is_empty(), "{line}");
        assert!(reply.field("Content-Type").is_some_and(|media| media.starts_with("text/plain;")));
        assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"), "{line}");
    }
}

/// RFC 9110 section 8.8.3: numbers have a strong tag in quotes; nothing else has one.
#[test]
fn entity_tags_are_strong_and_for_numbers_only() {
    for n in [0, 1, 9, 10, 99, 100] {
        let reply = reply_to(&format!("GET /api/fibonacci/{n}"));
        assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}\"")));
    }
    for line in
        ["GET /healthz", "GET /metrics", "GET /nothing", "GET /api/fibonacci/101", "OPTIONS *"]
    {
        assert_eq!(reply_to(line).field("ETag"), None, "{line}");
    }
}

/// RFC 9110 sections 9.3.7, 10.2.1 and 15.5.6: a 405 and a response to OPTIONS have `Allow`.
#[test]
fn allow_is_in_405_and_in_responses_to_options() {
    for target in ["/healthz", "/readyz", "/metrics", "/api/fibonacci/1", "/api/fibonacci/x"] {
        for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
            let reply = reply_to(&format!("{method} {target}"));
            assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
        }
        let reply = reply_to(&format!("OPTIONS {target}"));
        assert_eq!((reply.status, reply.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    }
}

/// RFC 9110 section 9.3.8: TRACE is not implemented, so that no field of a request is sent back.
#[test]
fn trace_does_not_reflect_the_request() {
    let reply = Wire::new().reply_to(request("TRACE /healthz", "Cookie: secret\r\n"));
    assert_eq!(reply.status, 405);
    assert!(!reply.body.contains("secret"));
}

/// RFC 9110 section 10.1.1: an HTTP/1.0 client and a request without a body get no interim response. A request whose
/// body is rejected gets its final response at once.
#[test]
fn an_interim_response_is_sent_to_clients_that_wait_for_it() {
    let body = "Content-Length: 2\r\n";
    for (version, fields, expected) in [
        ("1.1", body, &[100, 200][..]),
        ("1.1", "Transfer-Encoding: chunked\r\n", &[100, 200]),
        ("1.0", body, &[200]),
        ("1.1", "", &[200]),
        ("1.1", "Content-Length: 0\r\n", &[200]),
        ("1.1", "Content-Length: 9999999\r\n", &[413]),
    ] {
        let head = format!(
            "GET /healthz HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\n{fields}\r\n"
        );
        let mut wire = Wire::new();
        let mut replies = wire.send(head);
        if replies.iter().all(|reply| reply.status == 100) {
            let chunked = fields.starts_with("Transfer");
            replies.extend(wire.send(if chunked { "0\r\n\r\n" } else { "ab" }));
        }
        assert_eq!(statuses(&replies), expected, "{version} {fields:?}");
    }
}

/// RFC 9110 section 10.1.1: a server may omit 100 if it has already received some or all of the content.
#[test]
fn no_interim_response_is_sent_once_the_body_has_begun() {
    let head = request("GET /healthz", "Expect: 100-continue\r\nContent-Length: 2\r\n");
    for (first, second) in [("ab", ""), ("a", "b")] {
        let mut wire = Wire::new();
        let mut replies = wire.send(format!("{head}{first}"));
        replies.extend(wire.send(second));
        assert_eq!(statuses(&replies), [200], "{first}");
        assert_eq!(wire.ending(), Ending::Open, "{first}");
    }
}

/// RFC 9110 section 10.1.1: a request whose method or path is rejected gets its final status instead of 100, and the
/// response announces the close, because the client may send the body or not. The body is never taken for a request.
#[test]
fn a_request_that_is_rejected_gets_its_final_status_instead_of_100() {
    for (line, status) in [
        ("PUT /healthz", 405),
        ("POST /api/fibonacci/20", 405),
        ("CONNECT a:1", 405),
        ("PUT /nothing", 404),
        ("GET /nothing", 404),
        ("GET /api/fibonacci/x", 400),
    ] {
        for fields in [format!("Content-Length: {}\r\n", NEXT.len()), chunked_field()] {
            let head = request(line, &format!("Expect: 100-continue\r\n{fields}"));
            for body in ["", NEXT] {
                let mut wire = Wire::new();
                let reply = wire.reply_to(format!("{head}{body}"));
                assert_eq!((reply.status, reply.field("Connection")), (status, Some("close")));
                assert_eq!(wire.ending(), Ending::Lingering, "{line}");
                assert_eq!(wire.send(NEXT), [], "{line}");
            }
        }
    }
    let served = request("GET /nothing", "Content-Length: 2\r\n") + "ab";
    check_served(served, 404); // without the expectation the body is read and the connection persists
}

fn chunked_field() -> String {
    "Transfer-Encoding: chunked\r\n".to_owned()
}

/// RFC 9110 section 10.1.1: `Expect` is a list, in which `100-continue` may be repeated and which may be empty.
#[test]
fn a_repeated_or_empty_expectation_is_served() {
    for (fields, interims) in [
        ("Expect: 100-continue, 100-Continue\r\n", 1),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", 1),
        ("Expect: ,100-continue,\r\n", 1),
        ("Expect:\r\n", 0),
        ("Expect: ,\r\n", 0),
    ] {
        let mut wire = Wire::new();
        let fields = format!("{fields}Content-Length: 2\r\n");
        let interim = wire.send(request("GET /healthz", &fields));
        assert_eq!(statuses(&interim), vec![100; interims], "{fields:?}");
        assert_eq!(only(wire.send("ab")).status, 200, "{fields:?}");
        assert_eq!(wire.ending(), Ending::Open, "{fields:?}");
    }
}

/// RFC 9110 section 7.8: an upgrade may be ignored, and the protocol never changes.
#[test]
fn an_upgrade_is_ignored() {
    for protocol in ["h2c", "websocket", "TLS/1.0", "HTTP/2.0"] {
        let fields = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        check_served(request("GET /healthz", &fields), 200);
    }
}

/// RFC 3986 section 6.2.2.2: escapes of unreserved characters are equivalent to the characters, in either case.
#[test]
fn escapes_of_unreserved_characters_are_decoded() {
    for path in ["/%68ealthz", "/%68%65%61%6c%74%68%7a", "/%68%65%61%6C%74%68%7A", "/healthz?%zz?"]
    {
        let status = if path.contains('?') { 400 } else { 200 };
        assert_eq!(reply_to(&format!("GET {path}")).status, status, "{path}");
    }
    for path in ["/api/fibonacci/%32%30", "/%61%70i/fibonacci/2%30", "/api/fibonacci/20?%00"] {
        assert_eq!(reply_to(&format!("GET {path}")).body, "6765", "{path}");
    }
}

/// RFC 3986 section 2.2: an escape of a reserved character is not equivalent to it, and nothing is decoded twice.
#[test]
fn escapes_of_reserved_characters_are_not_decoded() {
    for path in [
        "/api%2Ffibonacci/20",
        "/api/fibonacci%2F20",
        "%2Fhealthz",
        "/healthz%3Fx",
        "/healthz%23",
        "/%2568ealthz",
        "/healthz%00",
        "/healthz%20",
        "/healthz%0d%0a",
        "/%c0%afhealthz",
        "/.%2e/healthz",
        "/x/../healthz",
        "/./healthz",
        "//healthz",
        "/healthz/",
        "/Healthz",
    ] {
        let status = if path.starts_with('%') { 400 } else { 404 };
        assert_eq!(reply_to(&format!("GET {path}")).status, status, "{path}");
    }
    for n in ["%2B1", "%2D1", "%201", "1%20", "%D9%A3", "%EF%BC%91", "%00", "%253"] {
        assert_eq!(reply_to(&format!("GET /api/fibonacci/{n}")).status, 400, "{n}");
    }
}
