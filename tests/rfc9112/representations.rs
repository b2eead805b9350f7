//! RFC 9110 section 12: numbers as text and in JSON, by `Accept`. RFC 9457: errors as problem details.

use fibsrv::fibonacci::Calculator;
use serde_json::{Value, json};

use crate::{
    reply::Reply,
    wire::{Ending, Wire, check_served, only, request},
};

const JSON: &str = "Accept: application/json\r\n";

fn get(target: &str, fields: &str) -> Reply {
    Wire::new().reply_to(request(&format!("GET {target}"), fields))
}

fn get_20(fields: &str) -> Reply {
    get("/api/fibonacci/20", fields)
}

/// RFC 9110 section 12.5.1: the representation with the higher weight is sent, text if both have the same.
#[test]
fn accept_selects_text_or_json() {
    for (accept, media_type) in [
        ("application/json", "application/json"),
        ("application/json, text/plain;q=0.9", "application/json"),
        ("application/*, text/*;q=0.1", "application/json"),
        ("text/plain;q=0.5, */*;q=0.6", "application/json"),
        ("*/*", "text/plain; charset=utf-8"),
        ("application/json, text/plain, */*", "text/plain; charset=utf-8"),
        ("application/json;q=0", "text/plain; charset=utf-8"),
        ("text/html", "text/plain; charset=utf-8"),
        ("application/json;q=x", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
    ] {
        let reply = get_20(&format!("Accept: {accept}\r\n"));
        assert_eq!(
            (reply.status, reply.field("Content-Type")),
            (200, Some(media_type)),
            "{accept}"
        );
        let text =
            if media_type == "application/json" { r#"{"n":20,"value":"6765"}"# } else { "6765" };
        assert_eq!(reply.body, text, "{accept}");
        assert_eq!(reply.field("Vary"), Some("Accept, Accept-Encoding"));
    }
    let fields = "Accept: text/plain;q=0.1\r\naccept: application/json;q=0.2\r\n";
    assert_eq!(get_20(fields).field("Content-Type"), Some("application/json"), "one list");
}

/// A number of the table, one computed at once, and one computed by a job. The digits are the same as in the text.
#[test]
fn numbers_of_every_size_have_json() {
    let mut wire = Wire::with_max_n(100_000);
    for n in [0, 1, 100, 101, 15_000, 30_000, 100_000] {
        let line = format!("/api/fibonacci/{n}");
        for _computed_then_cached in 0..2 {
            let reply = wire.reply_to(request(&format!("GET {line}"), JSON));
            let value: Value = serde_json::from_str(&reply.body).unwrap();
            let digits = Calculator::default().compute(n).digits;
            let digits = str::from_utf8(&digits).unwrap();
            assert!(value == json!({"n": n, "value": digits}), "F({n})");
            let length = reply.body.len().to_string();
            let head = only(wire.send_head(request(&format!("HEAD {line}"), JSON)));
            assert_eq!(head.field("Content-Length"), Some(&*length), "F({n})");
            assert_eq!(head.fields, reply.fields, "F({n})");
            assert_eq!(wire.ending(), Ending::Open);
        }
    }
}

/// Responses after one with shared digits and an end are complete, too.
#[test]
fn requests_pipelined_after_json_are_served() {
    let mut wire = Wire::with_max_n(100_000);
    let stream = request("GET /api/fibonacci/50000", JSON) + &request("GET /api/fibonacci/10", "");
    for _ in 0..2 {
        let replies = wire.send(&stream);
        assert_eq!(replies.len(), 2);
        assert!(replies[0].body.ends_with("\"}"));
        assert_eq!(replies[1].body, "55");
    }
}

/// RFC 9110 section 8.8.3: each representation has an entity tag of its own, and preconditions compare that of the one
/// that is selected.
#[test]
fn each_representation_has_its_entity_tag() {
    assert_eq!(get_20("").field("ETag"), Some("\"20\""));
    assert_eq!(get_20(JSON).field("ETag"), Some("\"20-json\""));
    for (accept, fields, status) in [
        (JSON, "If-None-Match: \"20-json\"\r\n", 304),
        (JSON, "If-None-Match: \"20\"\r\n", 200),
        ("", "If-None-Match: \"20-json\"\r\n", 200),
        ("", "If-None-Match: \"20\"\r\n", 304),
        (JSON, "If-Match: \"20\"\r\n", 412),
        (JSON, "If-Match: \"20-json\"\r\n", 200),
    ] {
        let reply = get_20(&format!("{accept}{fields}"));
        assert_eq!(reply.status, status, "{accept}{fields}");
    }
    let not_modified = get_20(&format!("{JSON}If-None-Match: *\r\n"));
    assert_eq!((not_modified.status, not_modified.field("ETag")), (304, Some("\"20-json\"")));
    assert_eq!(not_modified.field("Vary"), Some("Accept, Accept-Encoding"));
}

/// RFC 9110 section 14.2: a server may ignore ranges. Those of JSON are, and the server does not claim to serve them.
#[test]
fn ranges_of_json_are_ignored() {
    for range in ["bytes=0-1", "bytes=999-"] {
        let reply = get_20(&format!("{JSON}Range: {range}\r\n"));
        assert_eq!((reply.status, &*reply.body), (200, r#"{"n":20,"value":"6765"}"#));
        assert_eq!(reply.field("Accept-Ranges"), None);
    }
}

/// RFC 9457 section 3: type, title, status and detail, which is the line of text that other clients get.
#[test]
fn errors_are_problem_details_for_clients_that_prefer_them() {
    for (line, fields, title, status) in [
        ("GET /nothing", "", "Not Found", 404),
        ("GET /api/fibonacci/x", "", "Bad Request", 400),
        ("GET /api/fibonacci/101", "", "Unprocessable Content", 422),
        ("POST /api/fibonacci/20", "", "Method Not Allowed", 405),
        ("GET /api/fibonacci/20", "If-Match: \"1\"\r\n", "Precondition Failed", 412),
        ("GET /robots.txt", "If-Match: \"1\"\r\n", "Precondition Failed", 412),
    ] {
        let text = Wire::new().reply_to(request(line, fields));
        assert_eq!(text.field("Content-Type"), Some("text/plain; charset=utf-8"), "{line}");
        for accept in [JSON, "Accept: application/problem+json\r\n"] {
            let asked = request(line, &format!("{fields}{accept}"));
            let problem = Wire::new().reply_to(&asked);
            check_served(&asked, status);
            assert_eq!(problem.field("Content-Type"), Some("application/problem+json"), "{line}");
            let expected = json!({
                "type": "about:blank",
                "title": title,
                "status": status,
                "detail": text.body.trim_end(),
            });
            assert_eq!(serde_json::from_str::<Value>(&problem.body).unwrap(), expected);
            for name in ["Cache-Control", "Vary", "Allow"] {
                assert_eq!(problem.field(name), text.field(name), "{line} {name}");
            }
            assert_eq!(problem.field("Vary"), Some("Accept"), "{line}");
        }
    }
    let reply = get("/api/fibonacci/20", "Accept: application/problem+json\r\n");
    assert_eq!(reply.body, "6765", "no error");
}

/// RFC 9110 section 15.5.17 with RFC 9457. Only the text has ranges, so that JSON is not preferred, but problems are.
#[test]
fn problem_details_keep_the_fields_of_the_error() {
    let reply = get_20("Accept: application/problem+json\r\nRange: bytes=9-\r\n");
    assert_eq!((reply.status, reply.field("Content-Range")), (416, Some("bytes */4")));
    assert_eq!(reply.field("Content-Type"), Some("application/problem+json"));
}

/// RFC 9110 section 9.3.2: HEAD has the same fields and no content.
#[test]
fn head_has_the_length_of_problem_details() {
    let get = get("/nothing", JSON);
    let head = only(Wire::new().send_head(request("HEAD /nothing", JSON)));
    assert_eq!(head.fields, get.fields);
}

/// The metrics count each form but plain text.
#[test]
fn forms_are_counted() {
    let mut wire = Wire::new();
    for (target, fields) in [
        ("/api/fibonacci/20", ""),
        ("/nothing", ""),
        ("/api/fibonacci/20", JSON),
        ("/api/fibonacci/20", "Accept: application/json\r\nIf-None-Match: *\r\n"),
        ("/api/fibonacci/20", "Range: bytes=0-\r\n"),
        ("/api/fibonacci/20", "Range: bytes=9-\r\n"),
        ("/nothing", JSON),
    ] {
        wire.reply_to(request(&format!("GET {target}"), fields));
    }
    let metrics = wire.reply_to(request("GET /metrics", "")).body;
    for (form, count) in [("json", 1), ("gzip", 0), ("range", 1), ("problem", 1)] {
        let line = format!("fibsrv_response_forms_total{{form=\"{form}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

/// A request that is rejected has no preferences: the response is text.
#[test]
fn malformed_requests_get_text() {
    let reply = get("/healthz", &format!("{JSON}A b: c\r\n"));
    assert_eq!((reply.status, reply.field("Vary")), (400, None));
    assert_eq!(reply.field("Content-Type"), Some("text/plain; charset=utf-8"));
}
