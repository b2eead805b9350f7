//! RFC 9112 section 4: status lines.

use crate::{
    section_2_messages::all_response_heads,
    wire::{Wire, only, request},
};

/// RFC 9112 section 4: version, space, three digits, space and reason phrase. The second space is required even
/// without a phrase.
#[test]
fn the_space_after_the_status_code_is_always_sent() {
    for head in all_response_heads() {
        let (line, _) = head.split_once("\r\n").unwrap();
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        assert_eq!(parts.len(), 3, "{line:?}");
        assert_eq!(parts[0], "HTTP/1.1", "{line:?}");
        assert!(parts[1].len() == 3 && parts[1].parse::<u16>().is_ok(), "{line:?}");
        assert!(!parts[2].starts_with(' '), "one space: {line:?}");
    }
}

/// RFC 9112 section 4: an interim response has a status line like any other, and here no fields.
#[test]
fn the_interim_response_has_a_complete_status_line() {
    let mut wire = Wire::new();
    let expecting = "Expect: 100-continue\r\nContent-Length: 1\r\n";
    let interim = only(wire.send(request("GET /healthz", expecting)));
    assert_eq!((interim.status, interim.reason.as_str()), (100, "Continue"));
    assert_eq!((interim.fields, &*interim.body), (vec![], ""));
}

/// RFC 9112 section 4: each status is sent with its registered reason phrase.
#[test]
fn reason_phrases_are_those_of_the_registry() {
    for (line, phrase) in [
        ("GET /healthz", "OK"),
        ("OPTIONS *", "No Content"),
        ("GET *", "Bad Request"),
        ("GET /nothing", "Not Found"),
        ("PUT /healthz", "Method Not Allowed"),
        ("GET /api/fibonacci/101", "Unprocessable Content"),
        ("BREW /", "Not Implemented"),
    ] {
        assert_eq!(Wire::new().reply_to(request(line, "")).reason, phrase, "{line}");
    }
}
