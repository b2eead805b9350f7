//! RFC 9112 section 7: the chunked transfer coding, its extensions and its trailers.

use fibsrv::http::request::body::CHUNK_FRAMING_MAX;

use crate::wire::{NEXT, Wire, check_rejected, check_served, request, statuses};

/// Returns a request with this chunked body.
fn chunked(body: &str) -> String {
    request("PUT /healthz", "Transfer-Encoding: chunked\r\n") + body
}

/// RFC 9112 section 7: names of transfer codings are case-insensitive.
#[test]
fn coding_names_are_case_insensitive() {
    for name in ["chunked", "Chunked", "CHUNKED", "cHUNKED"] {
        let head = request("PUT /healthz", &format!("Transfer-Encoding: {name}\r\n"));
        check_served(head + "5\r\nGET /\r\n0\r\n\r\n", 405);
    }
}

/// RFC 9112 section 7.1: a recipient can decode chunks. Sizes are hexadecimal in either case, with or without
/// leading zeros, and the data are any octets.
#[test]
fn chunks_are_decoded() {
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "00a\r\n0123456789\r\n00\r\n\r\n",
        "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        "2\r\n\r\n\r\n0\r\n\r\n",
        "1\r\n\0\r\n1\r\n\u{1}\r\n0\r\n\r\n",
    ] {
        check_served(chunked(body), 405);
    }
}

/// RFC 9112 section 7.1: no size overflows: 2^64 is not 0, and 2^64 + 5 is not 5.
#[test]
fn a_chunk_size_does_not_overflow() {
    for size in ["100000000", "100000005", "7fffffffffffffff", "ffffffffffffffff"] {
        check_rejected(chunked(&format!("{size}\r\nGET /\r\n0\r\n\r\n")), 413);
    }
    for size in [
        "10000000000000000",
        "10000000000000005",
        &"f".repeat(1000),
        &format!("1{}", "0".repeat(32)),
    ] {
        check_rejected(chunked(&format!("{size}\r\nGET /\r\n0\r\n\r\n")), 400);
    }
}

/// RFC 9112 section 7.1: the sum of the sizes does not overflow.
#[test]
fn chunk_sizes_do_not_overflow_in_sum() {
    check_rejected(chunked("5\r\nGET /\r\nfffffffffffffffb\r\n0\r\n\r\n"), 413);
}

/// RFC 9112 section 7.1: a malformed chunk is an error, and the bytes after it are not interpreted.
#[test]
fn malformed_chunks_are_400() {
    for body in [
        "\r\n",
        "g\r\n",
        "x5\r\n",
        "0x5\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "\t5\r\n",
        "5 \r\n",
        "5\t\r\n",
        "5,\r\n",
        "5.\r\n",
        "5_\r\n",
        "\u{665}\r\n",
        "\"5\"\r\n",
        ";\r\n",
        ";a=b\r\n",
        "5\n",
        "5\r5",
        "5\r\r\n",
        "5\0\r\n",
        "5\u{b}\r\n",
        "5 5\r\n",
    ] {
        check_rejected(chunked(&format!("{body}GET /\r\n0\r\n\r\n")), 400);
    }
}

/// RFC 9112 section 7.1: a chunk's data has the length of its size, and CRLF follows it.
#[test]
fn chunk_data_that_does_not_end_in_crlf_is_400() {
    for body in [
        "5\r\nGET /0\r\n\r\n",
        "5\r\nGET /\n0\r\n\r\n",
        "5\r\nGET /\r0\r\n\r\n",
        "5\r\nGET / \r\n0\r\n\r\n",
        "4\r\nGET /\r\n0\r\n\r\n",
        "6\r\nGET /\r\n0\r\n\r\n",
        "5\r\nGET /\r\r\n0\r\n\r\n",
        "5\r\nGET /\0\0\r\n0\r\n\r\n",
    ] {
        check_rejected(chunked(body), 400);
    }
}

/// RFC 9112 section 7.1: chunked has no parameters, and any parameter is an error.
#[test]
fn parameters_of_chunked_are_an_error() {
    for coding in ["chunked;q=1", "chunked;a", "chunked; a=b", "chunked ;a=b", "chunked;"] {
        let head = request("PUT /healthz", &format!("Transfer-Encoding: {coding}\r\n"));
        check_rejected(head + "0\r\n\r\n", 400);
    }
}

/// RFC 9112 section 7.1.1: unrecognized extensions are ignored.
#[test]
fn chunk_extensions_are_ignored() {
    for extension in
        [";a", ";a=b", ";a=\"b c;d\"", ";a;b=c", ";a=\"0\"", ";Content-Length=0", ";a=\"\u{e9}\""]
    {
        check_served(chunked(&format!("5{extension}\r\nGET /\r\n0{extension}\r\n\r\n")), 405);
    }
}

/// RFC 9112 section 7.1.1, RFC 9110 section 5.6.3: white space around the semicolon and the equals sign of an
/// extension is bad but must be accepted.
#[test]
fn white_space_around_the_delimiters_of_an_extension_is_accepted() {
    for extension in [" ;a", "\t;a", " \t ;a=b", "; a", "; a = b", " ; a ; b = \"c\""] {
        check_served(chunked(&format!("5{extension}\r\nGET /\r\n0{extension}\r\n\r\n")), 405);
    }
}

/// RFC 9112 section 7.1.1: an extension cannot hide a line end, which another recipient may see.
#[test]
fn a_line_end_in_a_chunk_extension_is_400() {
    for extension in [";a\n", ";a\nb", ";a\rb", ";\"\r\r\n", ";a\0", ";\u{7f}"] {
        check_rejected(chunked(&format!("5{extension}\r\nGET /\r\n0\r\n\r\n")), 400);
    }
}

/// RFC 9112 section 7.1.1, RFC 9110 section 5.6.4: a value is a token or a quoted string, in which a semicolon, an
/// equals sign and an escaped quote belong to the value.
#[test]
fn quoted_strings_in_a_chunk_extension_are_accepted() {
    for value in ["", "b", ";", "; c=d", "\\\"", "\\\\", "a\\\"b", "\t\u{e9}", "0"] {
        check_served(chunked(&format!("5;a=\"{value}\"\r\nGET /\r\n0;a=\"{value}\"\r\n\r\n")), 405);
    }
}

/// RFC 9112 section 7.1.1, RFC 9110 section 5.6.4: a quoted string cannot contain a line end. A recipient that reads
/// one there would see the next request elsewhere than one that ends the line.
#[test]
fn an_unterminated_quoted_string_in_a_chunk_extension_is_400() {
    check_rejected(
        chunked("1;a=\"\r\n2\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        400,
    );
    for extension in [";a=\"", ";a=\"b", ";a=\"b\\\"", ";a=\"\\", ";a=\"b\";c=\"", ";a=\"\r\n\""] {
        check_rejected(chunked(&format!("5{extension}\r\nGET /\r\n0\r\n\r\n")), 400);
        check_rejected(chunked(&format!("0{extension}\r\n\r\n")), 400);
    }
}

/// RFC 9112 section 7.1.1: an extension has a name, and names and unquoted values are tokens.
#[test]
fn a_malformed_chunk_extension_is_400() {
    for extension in [
        ";",
        ";;a",
        ";=b",
        "; =b",
        ";a=",
        ";a= ",
        ";a=;b",
        ";a b",
        ";a=b c",
        ";a,b",
        ";a==b",
        ";a=b=c",
        ";\"a\"",
        ";a=\"b\"c",
        ";a=b\"c\"",
        ";(a)",
        ";a=\u{e9}",
        ";\u{e9}",
        ";a ",
        ";a=b ",
    ] {
        check_rejected(chunked(&format!("5{extension}\r\nGET /\r\n0\r\n\r\n")), 400);
    }
}

/// RFC 9112 section 7.1.1: the total length of the extensions of a body is limited, and beyond the limit the response
/// is a 4xx.
#[test]
fn chunk_extensions_are_limited() {
    let framing = "5;\r\n\r\n0\r\n\r\n".len();
    let longest = CHUNK_FRAMING_MAX as usize + "GET /".len() - framing;
    let body = |length: usize| format!("5;{}\r\nGET /\r\n0\r\n\r\n", "x".repeat(length));
    check_served(chunked(&body(longest)), 405);
    check_rejected(chunked(&body(longest + 1)), 400);
}

/// RFC 9112 sections 7.1.1 and 7.1.2: sizes, extensions and trailers of all chunks share one limit. Otherwise a client
/// could send extensions without end and no content to speak of.
#[test]
fn the_framing_of_all_chunks_shares_one_limit() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(95));
    let chunks = chunk.repeat(160);
    let framing = chunks.len() - 160 + "0\r\nA:\r\n\r\n".len();
    let longest = CHUNK_FRAMING_MAX as usize + 160 - framing;
    let body = |length: usize| format!("{chunks}0\r\nA:{}\r\n\r\n", "t".repeat(length));
    check_served(chunked(&body(longest)), 405);
    check_rejected(chunked(&body(longest + 1)), 400);
    check_rejected(chunked(&chunk.repeat(170)), 400);
}

/// RFC 9112 section 7.1: the sender chooses the size of chunks. Content pays for framing, so that small chunks pass
/// however long the body is, and tiny ones of a short body too.
#[test]
fn a_body_may_be_sent_in_small_chunks() {
    let content = |size: usize, count: usize| {
        let chunk = format!("{size:x}\r\n{}\r\n", "c".repeat(size));
        chunk.repeat(count) + "0\r\n\r\n"
    };
    check_served(chunked(&content(8, 100_000)), 405);
    check_served(chunked(&content(1, 4_000)), 405);
    check_rejected(chunked(&content(1, 4_100)), 400);
}

/// RFC 9112 section 7.1.2: trailers may be discarded and must not be taken for header fields: not for framing, host,
/// persistence or a precondition.
#[test]
fn trailers_are_not_merged_into_the_head() {
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: gzip",
        "Host: b c",
        "Host: a",
        "Connection: close",
        "Expect: tea",
        "If-None-Match: *",
        "A:",
    ] {
        check_served(chunked(&format!("0\r\n{trailer}\r\n\r\n")), 405);
        let get = request("GET /api/fibonacci/7", "Transfer-Encoding: chunked\r\n");
        check_served(format!("{get}0\r\n{trailer}\r\nB: c\r\n\r\n"), 200);
    }
}

/// RFC 9112 section 7.1.2: trailers are field lines that end with an empty line.
#[test]
fn malformed_trailers_are_400() {
    for trailer in [
        "A\r\n",
        ": b\r\n",
        "A : b\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\nC: d\r\n",
        "A: b\rC: d\r\n",
        "A: \0\r\n",
        "A(: b\r\n",
        "\n",
        "\u{e9}: b\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        check_rejected(chunked(&format!("0\r\n{trailer}\r\n")), 400);
    }
}

/// RFC 9112 section 7.1.2: the length of the trailers is limited like that of a head.
#[test]
fn trailers_are_limited() {
    let longest = CHUNK_FRAMING_MAX as usize - "0\r\nA:\r\n\r\n".len();
    let body = |length: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(length));
    check_served(chunked(&body(longest)), 405);
    check_rejected(chunked(&body(longest + 1)), 400);
}

/// RFC 9112 section 7.1.3: the next request begins where decoding ends.
#[test]
fn the_next_request_begins_after_the_last_chunk() {
    let body = "1\r\nG\r\n2;x\r\nET\r\n0\r\nT: v\r\n\r\n";
    let stream = [chunked(body), chunked("0\r\n\r\n"), chunked(body), NEXT.to_owned()].concat();
    assert_eq!(statuses(&Wire::new().send(stream)), [405, 405, 405, 200]);
}

/// RFC 9112 section 7.4: `TE` lists the codings that a client accepts, and none has to be used.
#[test]
fn the_codings_in_te_are_not_used() {
    let plain = Wire::new().reply_to(request("GET /healthz", ""));
    for offer in ["trailers", "gzip", "chunked", "trailers, gzip;q=0.5", ""] {
        let offered = request("GET /healthz", &format!("TE: {offer}\r\nConnection: TE\r\n"));
        assert_eq!(Wire::new().reply_to(offered), plain, "{offer:?}");
    }
}
