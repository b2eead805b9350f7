//! RFC 9112 section 5: field lines.

use crate::{
    section_2_messages::all_response_heads,
    wire::{Ending, Wire, check_rejected, check_served, request},
};

/// RFC 9112 section 5: a field line is a token, a colon and a value.
#[test]
fn a_line_that_is_not_a_field_is_400() {
    for line in [
        "A",
        "A b",
        ":",
        ": a",
        ":a",
        "A=b",
        "(A): b",
        "A/b: c",
        "A[]: b",
        "A{}: b",
        "\"A\": b",
        "A,B: c",
        "A;b: c",
        "A@b: c",
        "A\\: b",
        "\u{e9}: b",
        "A\u{7f}: b",
        "A\u{1}: b",
        "\u{b}A: b",
    ] {
        check_rejected(request("GET /healthz", &format!("{line}\r\n")), 400);
    }
}

/// RFC 9112 section 5: field names are case-insensitive.
#[test]
fn field_names_are_case_insensitive() {
    for name in ["connection", "CONNECTION", "cOnNeCtIoN"] {
        let mut wire = Wire::new();
        let reply = wire.reply_to(request("GET /healthz", &format!("{name}: close\r\n")));
        assert_eq!((reply.status, reply.field("Connection")), (200, Some("close")), "{name}");
    }
    for name in ["content-length", "CONTENT-LENGTH", "cONTENT-lENGTH"] {
        check_served(request("PUT /healthz", &format!("{name}: 2\r\n")) + "G ", 405);
    }
    for name in ["transfer-encoding", "TRANSFER-ENCODING", "tRANSFER-eNCODING"] {
        check_served(request("PUT /healthz", &format!("{name}: chunked\r\n")) + "0\r\n\r\n", 405);
    }
}

/// RFC 9112 section 5: a field name may have any `tchar`, and an unknown field is ignored.
#[test]
fn unknown_fields_are_ignored() {
    for line in
        ["!#$%&'*+-.^_`|~09aZ: b", "A:", "A:b", "A: \t b\t ", "A: :", "A: b,,c", "A: \"\\\""]
    {
        check_served(request("GET /healthz", &format!("{line}\r\n")), 200);
    }
}

/// RFC 9112 section 5.1: white space between a field name and the colon gets 400.
#[test]
fn white_space_before_the_colon_is_400() {
    for name in ["Host", "A", "Content-Length", "Transfer-Encoding", "Connection"] {
        for space in [" ", "\t", "  ", " \t", "\u{b}", "\u{c}", "\u{a0}", "\0"] {
            check_rejected(request("GET /healthz", &format!("{name}{space}: 1\r\n")), 400);
        }
    }
    check_rejected("GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", 400);
}

/// RFC 9112 section 5.1: white space around a value is not part of it.
#[test]
fn white_space_around_a_value_is_excluded() {
    for length in ["5", " 5", "\t5", "5 ", "5\t", " \t 5 \t "] {
        check_served(
            request("PUT /healthz", &format!("Content-Length:{length}\r\n")) + "GET /",
            405,
        );
    }
    for option in ["close", " \tclose", "close\t \t"] {
        let mut wire = Wire::new();
        wire.reply_to(request("GET /healthz", &format!("Connection:{option}\r\n")));
        assert_eq!(wire.ending(), Ending::Closed, "{option:?}");
    }
    let tag = Wire::new().reply_to(request("GET /api/fibonacci/9", "If-None-Match:\t\"9\" \t\r\n"));
    assert_eq!(tag.status, 304);
}

/// RFC 9112 section 5, RFC 9110 section 5.5: a value with CR, LF or NUL is rejected, and so is any other control
/// character.
#[test]
fn control_characters_in_a_value_are_400() {
    for octet in (0..=0x1f_u8).chain([0x7f]).filter(|octet| !matches!(octet, b'\t')) {
        let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: x";
        check_rejected([&head[..], &[octet], b"y\r\n\r\n"].concat(), 400);
    }
    check_served(request("GET /healthz", "A: x\ty\r\n"), 200);
}

/// RFC 9112 section 5.2: no folded line is sent.
#[test]
fn no_folded_line_is_sent() {
    for head in all_response_heads() {
        assert!(!head.contains("\r\n ") && !head.contains("\r\n\t"), "{head:?}");
    }
}

/// RFC 9112 section 5.2: a folded line in a request gets 400 or is unfolded. Here it gets 400.
#[test]
fn a_folded_line_is_400() {
    for fields in [
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A: b\r\n \r\n",
        "A:\r\n b\r\n",
        "A: b\r\n \t c: d\r\n",
        "Content-Length:\r\n 5\r\n",
        "Content-Length: 1\r\n 0\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "A: b\r\n Content-Length: 5\r\n",
        "A: b\r\n Transfer-Encoding: chunked\r\n",
    ] {
        check_rejected(request("GET /healthz", fields), 400);
    }
    check_rejected("GET /healthz HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400);
}
