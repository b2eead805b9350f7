//! RFC 9110 section 13: preconditions, of which `If-None-Match` is evaluated.

use crate::wire::{Ending, Wire, check_served, only, request};

/// The status of F(20) with this value of `If-None-Match`, the same for GET and HEAD.
fn status(value: &str) -> u16 {
    let fields = format!("If-None-Match: {value}\r\n");
    let mut wire = Wire::new();
    let get = wire.ask(request("GET /api/fibonacci/20", &fields));
    let head = only(wire.send_head(request("HEAD /api/fibonacci/20", &fields)));
    assert_eq!(get.fields, head.fields, "{value:?}");
    assert_eq!(get.status, head.status, "{value:?}");
    assert_eq!(wire.ending(), Ending::Open, "{value:?}");
    get.status
}

/// RFC 9110 section 13.1.2: a tag that is listed means 304, one that is not means an answer in full.
#[test]
fn a_listed_tag_is_304_and_any_other_200() {
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

/// RFC 9110 section 13.1.2: the comparison is the weak one.
#[test]
fn the_comparison_is_weak() {
    assert_eq!(status("W/\"20\""), 304);
    assert_eq!(status("\"1\", W/\"2\", W/\"20\""), 304);
    assert_eq!(status("W/\"21\""), 200);
}

/// RFC 9110 section 13.1.2: `*` matches whatever there is; where there is nothing it matches nothing.
#[test]
fn a_star_matches_any_representation_there_is() {
    assert_eq!(status("*"), 304);
    assert_eq!(status("\"*\""), 200, "a tag like any other");
    for (target, status) in
        [("/api/fibonacci/101", 422), ("/api/fibonacci/x", 400), ("/nothing", 404)]
    {
        check_served(request(&format!("GET {target}"), "If-None-Match: *\r\n"), status);
    }
}

/// RFC 9110 section 8.8.3: a comma inside of a tag separates nothing.
#[test]
fn a_tag_may_have_a_comma() {
    assert_eq!(status("\"a,b\", \"20\""), 304);
    assert_eq!(status("\"a, 20\""), 200);
}

/// RFC 9110 section 5.3: several lines are one list.
#[test]
fn lines_are_combined() {
    let asked =
        request("GET /api/fibonacci/20", "If-None-Match: \"1\"\r\nif-none-match: \"20\"\r\n");
    check_served(asked, 304);
}

/// What is no tag matches nothing: an answer in full is always right.
#[test]
fn a_malformed_value_is_answered_in_full() {
    for value in
        ["20", "\"20", "20\"", "'20'", "w/\"20\"", "W/20", "W\"20\"", "**", "x, \"20\"", "<\"20\">"]
    {
        assert_eq!(status(value), 200, "{value:?}");
    }
}

/// RFC 9110 section 15.4.5: a 304 has the fields that a cache needs and that a 200 would have had, and none
/// that describe content it does not have.
#[test]
fn the_fields_of_a_304_are_those_of_the_200_about_caching() {
    let full = Wire::new().ask(request("GET /api/fibonacci/20", ""));
    let short = Wire::new().ask(request("GET /api/fibonacci/20", "If-None-Match: \"20\"\r\n"));
    assert_eq!(short.status, 304);
    for name in ["Date", "ETag", "Cache-Control", "Vary", "Expires", "Content-Location"] {
        assert_eq!(short.field(name), full.field(name), "{name}");
    }
    assert_eq!(short.field("ETag"), Some("\"20\""));
    for name in ["Content-Type", "Content-Length"] {
        assert_eq!(short.field(name), None, "{name}");
    }
}

/// RFC 9110 section 13.2.1: a precondition is for methods that select a representation: others are
/// answered as if it were not there.
#[test]
fn a_precondition_does_not_touch_other_methods() {
    for (line, status) in [("PUT /api/fibonacci/20", 405), ("OPTIONS /api/fibonacci/20", 204)] {
        check_served(request(line, "If-None-Match: \"20\"\r\n"), status);
    }
    for target in ["/healthz", "/metrics"] {
        let asked = request(&format!("GET {target}"), "If-None-Match: *\r\n");
        assert_eq!(
            Wire::new().ask(asked).status,
            200,
            "{target}: it has no tag and is never stored"
        );
    }
}

/// RFC 9110 sections 13.1.3 and 13.1.4: without a date of modification, those that ask for one are ignored.
#[test]
fn dates_of_modification_are_ignored() {
    for name in ["If-Modified-Since", "If-Unmodified-Since"] {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0"] {
            check_served(request("GET /api/fibonacci/20", &format!("{name}: {date}\r\n")), 200);
        }
    }
}

/// The tag does not depend on how the number is written, and not on the version of the protocol.
#[test]
fn the_tag_is_that_of_the_number() {
    for target in ["/api/fibonacci/20", "/api/fibonacci/0020", "/api/fibonacci/%32%30?q"] {
        for version in ["1.0", "1.1"] {
            let head =
                format!("GET {target} HTTP/{version}\r\nHost: a\r\nIf-None-Match: \"20\"\r\n\r\n");
            let reply = Wire::new().ask(head);
            assert_eq!((reply.status, reply.field("ETag")), (304, Some("\"20\"")), "{target}");
        }
    }
}
