//! RFC 9110 section 13: preconditions, with `If-None-Match`.

use crate::wire::{Ending, Wire, check_served, only, request};

/// Returns the status of F(20) with this `If-None-Match`, which is the same for GET and HEAD.
fn status(value: &str) -> u16 {
    let fields = format!("If-None-Match: {value}\r\n");
    let mut wire = Wire::new();
    let get = wire.reply_to(request("GET /api/fibonacci/20", &fields));
    let head = only(wire.send_head(request("HEAD /api/fibonacci/20", &fields)));
    assert_eq!(get.fields, head.fields, "{value:?}");
    assert_eq!(get.status, head.status, "{value:?}");
    assert_eq!(wire.ending(), Ending::Open, "{value:?}");
    get.status
}

/// RFC 9110 section 13.1.2: a listed tag gets 304, any other tag a full response.
#[test]
fn a_listed_tag_gets_304_and_any_other_200() {
    for value in [
        "\"20\"",
        "\"1\", \"20\"",
        "\"20\",\"1\"",
        "\"1\" ,\t\"20\" , \"3\"",
        ",\"20\"",
        "\"1\",,\"20\"",
    ] {
        assert_eq!(status(value), 304, "{value:?}");
    }
    for value in
        ["\"21\"", "\"2\"", "\"020\"", "\"20 \"", "\" 20\"", "\"200\"", "\"6765\"", "\"\"", ""]
    {
        assert_eq!(status(value), 200, "{value:?}");
    }
}

/// RFC 9110 section 13.1.2: tags are compared weakly.
#[test]
fn the_comparison_is_weak() {
    assert_eq!(status("W/\"20\""), 304);
    assert_eq!(status("\"1\", W/\"2\", W/\"20\""), 304);
    assert_eq!(status("W/\"21\""), 200);
}

/// RFC 9110 section 13.1.2: `*` matches any existing representation, and nothing if there is none.
#[test]
fn a_star_matches_any_existing_representation() {
    assert_eq!(status("*"), 304);
    assert_eq!(status("\"*\""), 200, "a tag like any other");
    for (target, status) in
        [("/api/fibonacci/101", 422), ("/api/fibonacci/x", 400), ("/nothing", 404)]
    {
        check_served(request(&format!("GET {target}"), "If-None-Match: *\r\n"), status);
    }
}

/// RFC 9110 section 8.8.3: a comma within a tag is not a separator.
#[test]
fn a_tag_may_contain_a_comma() {
    assert_eq!(status("\"a,b\", \"20\""), 304);
    assert_eq!(status("\"a, 20\""), 200);
}

/// RFC 9110 section 5.3: several field lines are one list.
#[test]
fn field_lines_are_combined() {
    let asked =
        request("GET /api/fibonacci/20", "If-None-Match: \"1\"\r\nif-none-match: \"20\"\r\n");
    check_served(asked, 304);
}

/// A malformed tag matches nothing, because a full response is always correct.
#[test]
fn a_malformed_value_gets_a_full_response() {
    for value in
        ["20", "\"20", "20\"", "'20'", "w/\"20\"", "W/20", "W\"20\"", "**", "x, \"20\"", "<\"20\">"]
    {
        assert_eq!(status(value), 200, "{value:?}");
    }
}

/// RFC 9110 section 15.4.5: a 304 has the fields of the 200 that a cache needs, and none that describe content.
#[test]
fn a_304_has_the_caching_fields_of_the_200() {
    let full = Wire::new().reply_to(request("GET /api/fibonacci/20", ""));
    let short = Wire::new().reply_to(request("GET /api/fibonacci/20", "If-None-Match: \"20\"\r\n"));
    assert_eq!(short.status, 304);
    for name in ["Date", "ETag", "Cache-Control", "Vary", "Expires", "Content-Location"] {
        assert_eq!(short.field(name), full.field(name), "{name}");
    }
    assert_eq!(short.field("ETag"), Some("\"20\""));
    for name in ["Content-Type", "Content-Length"] {
        assert_eq!(short.field(name), None, "{name}");
    }
}

/// RFC 9110 section 13.2.1: a precondition is ignored with methods that do not select a representation.
#[test]
fn a_precondition_is_ignored_with_other_methods() {
    for (line, status) in [("PUT /api/fibonacci/20", 405), ("OPTIONS /api/fibonacci/20", 204)] {
        check_served(request(line, "If-None-Match: \"20\"\r\n"), status);
    }
    for target in ["/healthz", "/metrics"] {
        let asked = request(&format!("GET {target}"), "If-None-Match: *\r\n");
        assert_eq!(
            Wire::new().reply_to(asked).status,
            200,
            "{target}: it has no entity tag and must not be stored"
        );
    }
}

/// RFC 9110 sections 13.1.3 and 13.1.4: preconditions on the modification date are ignored if there is none.
#[test]
fn modification_dates_are_ignored() {
    for name in ["If-Modified-Since", "If-Unmodified-Since"] {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0"] {
            check_served(request("GET /api/fibonacci/20", &format!("{name}: {date}\r\n")), 200);
        }
    }
}

/// The tag depends neither on the spelling of the number nor on the protocol version.
#[test]
fn the_tag_identifies_the_number() {
    for target in ["/api/fibonacci/20", "/api/fibonacci/0020", "/api/fibonacci/%32%30?q"] {
        for version in ["1.0", "1.1"] {
            let head =
                format!("GET {target} HTTP/{version}\r\nHost: a\r\nIf-None-Match: \"20\"\r\n\r\n");
            let reply = Wire::new().reply_to(head);
            assert_eq!((reply.status, reply.field("ETag")), (304, Some("\"20\"")), "{target}");
        }
    }
}
