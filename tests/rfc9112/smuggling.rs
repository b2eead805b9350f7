//! Streams that two recipients may split differently. Each gets 400, the connection closes, and the bytes after it are
//! never interpreted; or the stream is valid and split in the only valid way.

use crate::wire::{NEXT, check_rejected, check_served, request};

/// Checks that a request with these fields, whose framing is in doubt, is rejected.
fn check_fields_rejected(fields: &str) {
    for rest in ["", "GET /", "0\r\n\r\n", "5\r\nGET /\r\n0\r\n\r\n"] {
        check_rejected(request("POST /healthz", fields) + rest, 400);
    }
}

#[test]
fn content_length_with_transfer_encoding_is_rejected() {
    for length in ["0", "5", "6", "99999999999999999999"] {
        check_fields_rejected(&format!(
            "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
        ));
        check_fields_rejected(&format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"
        ));
    }
}

#[test]
fn repeated_content_lengths_are_rejected_even_if_equal() {
    for (first, second) in [("5", "5"), ("5", "6"), ("0", "5"), ("5", "0"), ("5", "05"), ("5", "")]
    {
        check_fields_rejected(&format!("Content-Length: {first}\r\nContent-Length: {second}\r\n"));
        check_fields_rejected(&format!("Content-Length: {first}, {second}\r\n"));
        check_fields_rejected(&format!("Content-Length: {first},{second}\r\n"));
    }
}

#[test]
fn malformed_content_lengths_are_rejected() {
    for length in [
        "",
        "+5",
        "-5",
        "-0",
        " ",
        "5 5",
        "5\t5",
        "0x5",
        "5h",
        "5.",
        ".5",
        "5.0",
        "5e0",
        "5;",
        "5,",
        ",5",
        "'5'",
        "\"5\"",
        "(5)",
        "five",
        "\u{665}",
        "\u{ff15}",
        "\u{b2}",
        "5\u{a0}",
        "1_000",
        "1,000",
        "NaN",
        "5\u{200b}",
    ] {
        check_fields_rejected(&format!("Content-Length: {length}\r\n"));
    }
}

#[test]
fn control_characters_around_a_content_length_are_rejected() {
    for control in ["\0", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\r", "\u{1b}", "\u{1f}", "\u{7f}"] {
        for value in [format!("{control}5"), format!("5{control}"), format!("{control} 5")] {
            check_fields_rejected(&format!("Content-Length: {value}\r\n"));
        }
    }
}

#[test]
fn transfer_codings_other_than_one_chunked_are_rejected() {
    for coding in [
        "",
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "chunked-",
        "chunk",
        "chunkeD ed",
        "chunked, chunked",
        "chunked,chunked",
        "chunked, gzip",
        "a b, chunked",
        "gzip;q=1, chunked",
        "gzip,, chunked",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked;",
        "chunked;a=b",
        "chunked chunked",
        "\"chunked\"",
        "'chunked'",
        "chunked.",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "c\u{4ab}unked",
        "chun\u{212a}ed",
    ] {
        check_fields_rejected(&format!("Transfer-Encoding: {coding}\r\n"));
    }
}

#[test]
fn several_transfer_encoding_lines_are_rejected() {
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("chunked", "x"),
        ("", "chunked"),
        ("chunked", ""),
    ] {
        let lines = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        check_fields_rejected(&lines);
        check_fields_rejected(&format!(
            "Transfer-Encoding: {first}\r\nA: b\r\ntransfer-encoding: {second}\r\n"
        ));
    }
}

#[test]
fn control_characters_around_a_coding_are_rejected() {
    for control in ["\0", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\r", "\u{1b}", "\u{1f}", "\u{7f}"] {
        for value in
            [format!("{control}chunked"), format!("chunked{control}"), format!("chu{control}nked")]
        {
            check_fields_rejected(&format!("Transfer-Encoding: {value}\r\n"));
        }
    }
}

#[test]
fn a_coding_in_http_1_0_is_rejected() {
    for fields in ["", "Connection: keep-alive\r\n", "Content-Length: 5\r\n", "Host: a\r\n"] {
        let head = format!("POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
        check_rejected(head + "0\r\n\r\n", 400);
    }
}

#[test]
fn folded_lines_are_rejected() {
    for name in ["Content-Length", "Transfer-Encoding", "A"] {
        for value in [
            "\r\n 5",
            "\r\n\t5",
            "5\r\n ",
            "5\r\n ,5",
            "chunked\r\n , identity",
            "\r\n \r\n chunked",
        ] {
            check_fields_rejected(&format!("{name}: {value}\r\n"));
        }
    }
    check_fields_rejected("A: b\r\n Content-Length: 5\r\n");
    check_fields_rejected(" Content-Length: 5\r\n");
}

#[test]
fn white_space_before_the_colon_is_rejected() {
    for space in [" ", "\t", "  ", "\u{a0}", "\u{b}", "\u{c}", "\0", "\r"] {
        check_fields_rejected(&format!("Content-Length{space}: 5\r\n"));
        check_fields_rejected(&format!("Transfer-Encoding{space}: chunked\r\n"));
        check_fields_rejected(&format!("{space}Transfer-Encoding: chunked\r\n"));
    }
}

/// A CR, a LF or a NUL is inserted at each position of a head.
#[test]
fn a_bare_cr_a_bare_lf_and_a_nul_are_rejected_anywhere() {
    let head = request("POST /healthz", "A: b\r\nContent-Length: 5\r\n");
    for octet in ["\r", "\n", "\0"] {
        // Before the last two bytes the head may still become complete.
        for at in 1..head.len() - 2 {
            let splits_a_line_end = head.as_bytes()[at] == b'\n';
            if octet == "\r" && splits_a_line_end {
                continue; // CR CR LF: in `a_bare_cr_is_invalid`
            }
            let mut mangled = head.clone();
            mangled.insert_str(at, octet);
            check_rejected(mangled + "GET /", 400);
        }
    }
}

#[test]
fn a_line_end_in_a_value_does_not_begin_a_field() {
    for hidden in ["\nContent-Length: 5", "\rContent-Length: 5", "\n\n", "\r\r", "\n\r", "\0\r"] {
        check_fields_rejected(&format!("A: b{hidden}\r\n"));
    }
}

#[test]
fn ambiguous_chunk_sizes_are_rejected() {
    for size in [
        "0x5",
        "0X5",
        "+5",
        "-5",
        "-0",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "5h",
        "5_0",
        "5,5",
        "5.0",
        "#5",
        "\"5\"",
        "",
        "\u{665}",
        "\u{ff15}",
        "5\u{a0}",
        "\0",
        "5\0",
        "5\r",
        "5\n",
        "\n5",
        "\r\n5",
        "5\u{b}",
        "5\u{c}",
        "10000000000000005",
        "fffffffffffffffff",
        "00000000000000000x5",
    ] {
        let head = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
        check_rejected(format!("{head}{size}\r\nGET /\r\n0\r\n\r\n"), 400);
    }
}

#[test]
fn chunk_data_without_crlf_after_it_is_rejected() {
    let head = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
    for end in ["", "\n", "\r", "\r\r", "\n\r", "xx", "\0\0", " \r\n", "\u{85}"] {
        check_rejected(format!("{head}5\r\nGET /{end}0\r\n\r\n"), 400);
    }
}

#[test]
fn a_last_chunk_without_the_end_of_the_body_is_rejected() {
    let head = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
    for end in
        ["0\n\n", "0\r\n\n", "0\r\n\rG", "0\r\r\n\r\n", "0\n\r\n", "0\r\n \r\n", "0 \r\n\r\n"]
    {
        check_rejected(format!("{head}{end}"), 400);
    }
}

/// Tokens that resemble the names of the framing fields are other fields and frame nothing, so that the bytes after
/// the head are the next request.
#[test]
fn similar_names_that_are_tokens_are_other_fields() {
    for name in [
        "Content_Length",
        "Content.Length",
        "ContentLength",
        "Content-Length2",
        "X-Content-Length",
        "Content-Lengt",
        "Content--Length",
        "Transfer_Encoding",
        "Transfer.Encoding",
        "TransferEncoding",
        "Transfer-Encodin",
        "X-Transfer-Encoding",
        "HTTP_TRANSFER_ENCODING",
        "`Transfer-Encoding",
    ] {
        for value in ["5", "chunked"] {
            check_served(request("POST /healthz", &format!("{name}: {value}\r\n")), 405);
            // They are ignored beside the real one: neither a second length nor a coding.
            let both = format!("{name}: {value}\r\nContent-Length: {}\r\n", NEXT.len());
            check_served(request("POST /healthz", &both) + NEXT, 405);
        }
    }
}

/// Names that resemble those of the framing fields, are not tokens, and that some recipients may trim.
#[test]
fn similar_names_that_are_not_tokens_are_rejected() {
    for (name, value) in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        for trick in
            ["\u{b}", "\u{c}", "\0", "\u{1}", "\u{7f}", "\u{a0}", "\u{ad}", "\u{200b}", "\u{feff}"]
        {
            check_fields_rejected(&format!("{name}{trick}: {value}\r\n"));
            check_fields_rejected(&format!("{trick}{name}: {value}\r\n"));
        }
        for written in [
            name.to_owned(),
            format!("{name} {value}"),
            format!("{name};: {value}"),
            format!("\"{name}\": {value}"),
            format!("{name}\\: {value}"),
            format!("{}: {value}", name.replace('-', "\u{2010}")),
            format!("{}: {value}", name.replace('n', "\u{578}")),
        ] {
            check_fields_rejected(&format!("{written}\r\n"));
        }
    }
}

/// A colon in a value belongs to the value.
#[test]
fn a_name_ends_at_the_first_colon() {
    check_served(request("POST /healthz", "A:Content-Length: 5\r\n"), 405);
    check_fields_rejected("Content-Length:: 5\r\n");
    check_fields_rejected("Transfer-Encoding:: chunked\r\n");
}

/// A length in a trailer or in the previous request does not apply to the next request.
#[test]
fn framing_does_not_leak_into_the_next_request() {
    let trailer = request("POST /healthz", "Transfer-Encoding: chunked\r\n");
    check_served(format!("{trailer}0\r\nContent-Length: {}\r\n\r\n", NEXT.len()), 405);
    let length = request("POST /healthz", "Content-Length: 5\r\n");
    check_served(format!("{length}GET /"), 405);
}

/// Valid heads are cached. The same fields are rejected after a request line that makes them invalid.
#[test]
fn cached_fields_are_checked_against_each_request_line() {
    let chunked = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let good = format!("GET /healthz HTTP/1.1\r\n{chunked}");
    for line in ["GET /healthz HTTP/1.0", "GET /healthz HTTP/1.1 ", "GET /heal thz HTTP/1.1"] {
        check_rejected_after(&good, &format!("{line}\r\n{chunked}"));
    }
    check_rejected_after(NEXT, &NEXT.replace("GET ", "GET\t"));
    check_rejected_after(NEXT, &NEXT.replacen("\r\n", "\n", 1));
    check_rejected_after(NEXT, &NEXT.replacen("\r\n", "\r\r\n", 1));
}

/// Checks that `bad` is rejected after two requests with the same fields, which are then cached.
fn check_rejected_after(good: &str, bad: &str) {
    let mut wire = crate::wire::Wire::new();
    let replies = wire.send(format!("{good}{good}{bad}{NEXT}"));
    assert_eq!(crate::wire::statuses(&replies), [200, 200, 400], "{bad:?}");
    assert_eq!(wire.send(NEXT), [], "{bad:?}");
}
