//! Scripts of other origins (CORS, the Fetch standard section 3.3), and the redirection of a form (RFC 9110 section
//! 15.4.4).

use crate::{
    reply::Reply,
    wire::{Wire, check_served, only, request},
};

const PREFLIGHT: &str = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\
    Access-Control-Request-Headers: range\r\n";

fn reply_to(line: &str, fields: &str) -> Reply {
    Wire::new().reply_to(request(line, fields))
}

/// Numbers, files and errors may be read by every script, with all fields. The response does not depend on `Origin`, so
/// that a cache may have stored it for any client.
#[test]
fn public_responses_may_be_read_by_every_origin() {
    for (line, fields, status) in [
        ("GET /api/fibonacci/20", "", 200),
        ("GET /api/fibonacci/20", "Accept: application/json\r\n", 200),
        ("GET /api/fibonacci/20", "Range: bytes=1-2\r\n", 206),
        ("GET /api/fibonacci/20", "Range: bytes=9-\r\n", 416),
        ("GET /api/fibonacci/20", "If-None-Match: \"20\"\r\n", 304),
        ("GET /api/fibonacci/x", "", 400),
        ("GET /api/fibonacci/101", "", 422),
        ("GET /api/fibonacci?n=20", "", 303),
        ("PUT /api/fibonacci/20", "", 405),
        ("GET /nothing", "", 404),
        ("GET /", "", 200),
        ("GET /openapi.json", "", 200),
    ] {
        let reply = reply_to(line, fields);
        assert_eq!(reply.status, status, "{line} {fields}");
        assert_eq!(reply.field("Access-Control-Allow-Origin"), Some("*"), "{line} {fields}");
        assert_eq!(reply.field("Access-Control-Expose-Headers"), Some("*"), "{line} {fields}");
        for origin in ["https://a.example", "null", "", "x\r\nOrigin: y"] {
            let same = reply_to(line, &format!("{fields}Origin: {origin}\r\n"));
            assert_eq!(
                (same.status, same.fields),
                (status, reply.fields.clone()),
                "{line} {origin}"
            );
        }
    }
}

/// What operators need is read by no script of another origin, whatever the method and the status.
#[test]
fn responses_for_operators_may_not_be_read_by_other_origins() {
    let check = |reply: Reply, status: u16, line: &str| {
        assert_eq!(reply.status, status, "{line}");
        for name in ["Access-Control-Allow-Origin", "Access-Control-Expose-Headers"] {
            assert_eq!(reply.field(name), None, "{line}");
        }
    };
    for target in ["/metrics", "/healthz", "/readyz"] {
        for (method, status) in [("GET", 200), ("OPTIONS", 204), ("PUT", 405), ("DELETE", 405)] {
            let line = format!("{method} {target}");
            check(reply_to(&line, "Origin: https://a.example\r\n"), status, &line);
        }
        let fields = "Accept: application/problem+json\r\n";
        check(reply_to(&format!("POST {target}"), fields), 405, target);
    }
    for fields in ["", "Accept: application/problem+json\r\n"] {
        let mut wire = Wire::new();
        wire.set_unready();
        check(wire.reply_to(request("GET /readyz", fields)), 503, fields);
    }
}

/// A preflight request gets methods, fields and the time for which a browser may remember them.
#[test]
fn a_preflight_request_is_accepted_for_a_day() {
    for target in ["/api/fibonacci/20", "/api/fibonacci?n=1", "/", "/openapi.json"] {
        let reply = reply_to(&format!("OPTIONS {target}"), PREFLIGHT);
        assert_eq!(reply.status, 204, "{target}");
        assert_eq!(reply.field("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(reply.field("Access-Control-Allow-Methods"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(reply.field("Access-Control-Max-Age"), Some("86400"));
        let fields = reply.field("Access-Control-Allow-Headers").unwrap();
        for name in ["Accept", "If-Match", "If-None-Match", "If-Range", "Range", "traceparent"] {
            assert!(fields.split(", ").any(|allowed| allowed == name), "{name}");
        }
        check_served(request(&format!("OPTIONS {target}"), PREFLIGHT), 204);
    }
}

/// Without both fields it is an OPTIONS request as any other, and so it is for what only operators need.
#[test]
fn other_options_requests_are_no_preflight() {
    for (target, fields) in [
        ("/api/fibonacci/20", ""),
        ("/api/fibonacci/20", "Origin: https://a.example\r\n"),
        ("/api/fibonacci/20", "Access-Control-Request-Method: GET\r\n"),
        ("/metrics", PREFLIGHT),
        ("/healthz", PREFLIGHT),
        ("*", PREFLIGHT),
    ] {
        let reply = reply_to(&format!("OPTIONS {target}"), fields);
        assert_eq!((reply.status, reply.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
        assert_eq!(reply.field("Access-Control-Allow-Methods"), None, "{target} {fields}");
    }
    assert_eq!(reply_to("OPTIONS /nothing", PREFLIGHT).status, 404);
}

/// RFC 9110 section 15.4.4: a form is redirected to the number.
#[test]
fn a_form_is_redirected_to_the_number() {
    for (query, location) in [
        ("n=20", "/api/fibonacci/20"),
        ("n=0020", "/api/fibonacci/20"),
        ("a=b&n=%37&c", "/api/fibonacci/7"),
    ] {
        let line = format!("/api/fibonacci?{query}");
        let reply = reply_to(&format!("GET {line}"), "");
        assert_eq!((reply.status, reply.field("Location")), (303, Some(location)), "{query}");
        assert_eq!(reply.field("Cache-Control"), Some("no-store"));
        let head = only(Wire::new().send_head(request(&format!("HEAD {line}"), "")));
        assert_eq!((head.status, head.fields), (303, reply.fields), "{query}");
        check_served(request(&format!("GET {line}"), ""), 303);
    }
    for (query, status) in [
        ("", 400),
        ("?", 400),
        ("?n=", 400),
        ("?n=x", 400),
        ("?n=-1", 400),
        ("?n=1&n=2", 400),
        ("?m=1", 400),
        ("?n=101", 422),
        ("?n=99999999999999999999", 422),
    ] {
        check_served(request(&format!("GET /api/fibonacci{query}"), ""), status);
    }
    check_served(request("POST /api/fibonacci?n=20", ""), 405);
}
