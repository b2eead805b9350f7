//! Renders responses: from a status, a few fields and a body to bytes (RFC 9112 section 4, RFC 9110 section 6).
//!
//! Every response field is written here, in [`super::preamble`] or in `fields.rs`. This is the hot path: it copies into
//! an existing buffer and does not use `core::fmt`.

use crate::http::{
    decimal, fields, json,
    preamble::Preamble,
    response::{Body, BodyMode, ConnectionHeader, Response, ResponseKind},
};

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes to reserve for a head; the longest has about 570.
const HEAD_BYTES_MAX: usize = 640;

/// Appends `response` to `out`, except a shared body. Returns the number of bytes appended.
pub fn render(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    mode: BodyMode,
    connection: ConnectionHeader,
    preamble: &Preamble,
) -> usize {
    let before = out.len();
    if let Body::Prefixed { bytes, fields_bytes } = response.body {
        // Nearly every response is one of these: two copies.
        out.reserve(HEAD_BYTES_MAX + bytes.len());
        out.extend_from_slice(preamble.as_bytes());
        push_connection(out, connection);
        let end = if mode == BodyMode::Send { bytes.len() } else { fields_bytes };
        out.extend_from_slice(bytes.get(..end).unwrap_or_default());
    } else {
        render_any(out, response, mode, connection, preamble);
    }
    out.len() - before
}

/// Appends any response, as [`render`] does.
#[inline(never)] // keeps the path of the table's numbers short
fn render_any(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    mode: BodyMode,
    connection: ConnectionHeader,
    preamble: &Preamble,
) {
    out.reserve(HEAD_BYTES_MAX);
    fields::push_preamble(out, response);
    fields::push_field(out, "Date", preamble.date());
    push_connection(out, connection);
    fields::push_own_fields(out, response);
    if !response.status.has_content() || matches!(response.body, Body::UnknownLength) {
        out.extend_from_slice(b"\r\n");
        return;
    }
    push_length(out, response.content_len());
    if mode == BodyMode::Send {
        debug_assert!(!matches!(response.body, Body::Length(_)), "there is no content to send");
        if let ResponseKind::NumberJson(n) = response.kind {
            json::push_number_start(out, n);
        }
        if let Body::Bytes(bytes) | Body::Problem(bytes) = response.body {
            out.extend_from_slice(bytes);
            out.extend_from_slice(response.tail());
        }
    }
}

/// Appends the last fields of a response with F(n), and the empty line: what follows [`Preamble`] and `Connection`.
pub fn push_number_fields(out: &mut Vec<u8>, n: u64, length: usize) {
    fields::push_tag(out, n, "");
    push_length(out, length);
}

fn push_connection(out: &mut Vec<u8>, connection: ConnectionHeader) {
    match connection {
        ConnectionHeader::Implied => {}
        ConnectionHeader::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        ConnectionHeader::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

/// Appends `Content-Length` and the empty line.
fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(b"Content-Length: ");
    decimal::push(out, length as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::{
        Span, Status,
        response::{CrossOrigin, ErrorField},
    };

    static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");

    fn check(
        response: &Response<'_>,
        mode: BodyMode,
        connection: ConnectionHeader,
        expected: &str,
    ) {
        let mut out = b"before".to_vec();
        let length = render(&mut out, response, mode, connection, &PREAMBLE);
        assert_eq!(str::from_utf8(&out[6..]).unwrap(), expected);
        assert_eq!(length, expected.len());
    }

    const NUMBER: Response<'_> =
        Response { status: Status::Ok, kind: ResponseKind::Number(20), body: Body::Bytes(b"6765") };
    const NUMBER_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
        X-Content-Type-Options: nosniff\r\nAccept-Ranges: bytes\r\n\
        Cache-Control: public, max-age=31536000, immutable\r\n\
        Vary: Accept, Accept-Encoding\r\nAccess-Control-Allow-Origin: *\r\n\
        Access-Control-Expose-Headers: *\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\nContent-Length: 4\r\n\r\n";

    #[test]
    fn a_number_is_cacheable_and_has_an_entity_tag() {
        check(&NUMBER, BodyMode::Send, ConnectionHeader::Implied, &format!("{NUMBER_HEAD}6765"));
    }

    #[test]
    fn a_number_of_the_table_has_the_fields_of_any_other() {
        let mut bytes = Vec::new();
        push_number_fields(&mut bytes, 20, 4);
        let fields_bytes = bytes.len();
        bytes.extend_from_slice(b"6765");
        let body = Body::Prefixed { bytes: &bytes, fields_bytes };
        assert_eq!(body.len(), 4);
        let of_table = Response { body, ..NUMBER };
        for connection in
            [ConnectionHeader::Implied, ConnectionHeader::KeepAlive, ConnectionHeader::Close]
        {
            for mode in [BodyMode::Send, BodyMode::Omit] {
                let mut expected = Vec::new();
                render(&mut expected, &NUMBER, mode, connection, &PREAMBLE);
                check(&of_table, mode, connection, str::from_utf8(&expected).unwrap());
            }
        }
    }

    #[test]
    fn head_has_the_same_fields_and_no_content() {
        check(&NUMBER, BodyMode::Omit, ConnectionHeader::Implied, NUMBER_HEAD);
    }

    #[test]
    fn no_content_has_no_length() {
        let response = Response {
            status: Status::NotModified,
            kind: ResponseKind::Number(20),
            body: Body::Bytes(b""),
        };
        let expected = "HTTP/1.1 304 Not Modified\r\n\
            Cache-Control: public, max-age=31536000, immutable\r\n\
            Vary: Accept, Accept-Encoding\r\nAccess-Control-Allow-Origin: *\r\n\
        Access-Control-Expose-Headers: *\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\
            ETag: \"20\"\r\n\r\n";
        check(&response, BodyMode::Send, ConnectionHeader::KeepAlive, expected);
    }

    #[test]
    fn head_needs_no_content() {
        let response = Response { body: Body::Length(4), ..NUMBER };
        check(&response, BodyMode::Omit, ConnectionHeader::Implied, NUMBER_HEAD);
    }

    #[test]
    fn a_shared_body_is_not_copied() {
        let body = Arc::from(&b"6765"[..]);
        let response = Response { body: Body::Shared(&body), ..NUMBER };
        check(&response, BodyMode::Send, ConnectionHeader::Implied, NUMBER_HEAD);
    }

    #[test]
    fn a_busy_server_sends_retry_after() {
        let mut out = Vec::new();
        let field = ErrorField::RetryAfter(1);
        let response = Response::error(Status::ServiceUnavailable, b"busy\n", field);
        render(&mut out, &response, BodyMode::Send, ConnectionHeader::Implied, &PREAMBLE);
        let text = str::from_utf8(&out).unwrap();
        assert!(text.contains("\r\nRetry-After: 1\r\n") && text.contains("no-store"), "{text}");
    }

    #[test]
    fn errors_are_text_that_must_not_be_stored() {
        let field = ErrorField::Allow("GET");
        let response = Response::error(Status::MethodNotAllowed, b"no\n", field);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
            Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
            Cache-Control: no-store\r\nVary: Accept\r\n\
            Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            Connection: close\r\nAllow: GET\r\nContent-Length: 3\r\n\r\nno\n";
        check(&response, BodyMode::Send, ConnectionHeader::Close, expected);
    }

    #[test]
    fn the_longest_head_fits_the_reserved_bytes() {
        for status in Status::ALL {
            for kind in [
                ResponseKind::Number(u64::MAX),
                ResponseKind::NumberPart {
                    n: u64::MAX,
                    span: Span::new(u32::MAX as usize - 1, u32::MAX as usize),
                    length: u32::MAX as usize,
                },
                ResponseKind::NumberJson(u64::MAX),
                ResponseKind::SeeNumber(u64::MAX),
                ResponseKind::Preflight(
                    "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH",
                ),
                ResponseKind::NumberGzip(u64::MAX),
                ResponseKind::Error(ErrorField::CompleteLength(usize::MAX), CrossOrigin::Readable),
                ResponseKind::Text,
                ResponseKind::Error(ErrorField::RetryAfter(u32::MAX), CrossOrigin::Readable),
                ResponseKind::Media("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                ResponseKind::Allow("GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"),
            ] {
                let mut out = Vec::new();
                let response = Response { status, kind, body: Body::Bytes(b"") };
                render(&mut out, &response, BodyMode::Send, ConnectionHeader::KeepAlive, &PREAMBLE);
                assert!(out.len() <= HEAD_BYTES_MAX, "{}", out.len());
            }
        }
    }

    #[test]
    fn decimals_agree_with_the_standard_library() {
        for value in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            decimal::push(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
