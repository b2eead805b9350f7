//! Renders responses: from a status, a few fields and a body to bytes (RFC 9112 section 4, RFC 9110 section 6).
//!
//! Every response field is written here or in [`super::preamble`]. This is the hot path: it copies into an existing
//! buffer and does not use `core::fmt`.

use crate::http::{
    Span, Status, decimal,
    preamble::Preamble,
    response::{Body, BodyMode, ConnectionHeader, Response, ResponseKind},
};

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const TEXT: &str = "text/plain; charset=utf-8";

/// Bytes to reserve for a head; the longest has about 350, except that of the page.
const HEAD_BYTES_MAX: usize = 512;

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
    push_fields(out, response, connection, preamble.date());
    // These two have neither content nor `Content-Length` (RFC 9110 sections 8.6, 15.3.5 and 15.4.5).
    if matches!(response.status, Status::NoContent | Status::NotModified) {
        out.extend_from_slice(b"\r\n");
        return;
    }
    push_length(out, response.body.len());
    if mode == BodyMode::Send {
        debug_assert!(!matches!(response.body, Body::Length(_)), "there is no content to send");
        if let Body::Bytes(bytes) = response.body {
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends the last fields of a response with F(n), and the empty line: what follows [`Preamble`] and `Connection`.
pub fn push_number_fields(out: &mut Vec<u8>, n: u64, length: usize) {
    push_tag(out, n);
    push_length(out, length);
}

/// Appends the status line and all fields except `Content-Length`, for any response.
fn push_fields(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    connection: ConnectionHeader,
    date: &[u8],
) {
    out.extend_from_slice(status_line(response.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if !matches!(response.status, Status::NoContent | Status::NotModified) {
        let media = match response.kind {
            ResponseKind::Media(media) => media,
            ResponseKind::File(fields) => fields.media_type,
            ResponseKind::Number(_)
            | ResponseKind::NumberPart { .. }
            | ResponseKind::BeyondEnd { .. }
            | ResponseKind::Text
            | ResponseKind::Retry(_)
            | ResponseKind::Allow(_) => TEXT,
        };
        push_field(out, "Content-Type", media.as_bytes());
        push_field(out, "X-Content-Type-Options", b"nosniff");
        if let ResponseKind::Number(_)
        | ResponseKind::NumberPart { .. }
        | ResponseKind::BeyondEnd { .. } = response.kind
        {
            push_field(out, "Accept-Ranges", b"bytes");
        }
    }
    let caching = match response.kind {
        ResponseKind::Number(_) | ResponseKind::NumberPart { .. } => {
            "public, max-age=31536000, immutable"
        }
        ResponseKind::File(fields) => fields.cache_control,
        ResponseKind::Text
        | ResponseKind::BeyondEnd { .. }
        | ResponseKind::Media(_)
        | ResponseKind::Retry(_)
        | ResponseKind::Allow(_) => "no-store",
    };
    push_field(out, "Cache-Control", caching.as_bytes());
    push_field(out, "Date", date);
    push_connection(out, connection);
    match response.kind {
        ResponseKind::Text | ResponseKind::Media(_) => {}
        ResponseKind::Number(n) => push_tag(out, n),
        ResponseKind::NumberPart { n, span, length } => {
            push_tag(out, n);
            push_content_range(out, Some(span), length);
        }
        ResponseKind::BeyondEnd { length } => push_content_range(out, None, length),
        ResponseKind::File(fields) => {
            push_field(out, "ETag", fields.etag.as_bytes());
            if response.status == Status::Ok {
                out.extend_from_slice(fields.others.as_bytes());
            }
        }
        ResponseKind::Retry(seconds) => {
            out.extend_from_slice(b"Retry-After: ");
            decimal::push(out, seconds.into());
            out.extend_from_slice(b"\r\n");
        }
        ResponseKind::Allow(methods) => push_field(out, "Allow", methods.as_bytes()),
    }
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_connection(out: &mut Vec<u8>, connection: ConnectionHeader) {
    match connection {
        ConnectionHeader::Implied => {}
        ConnectionHeader::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        ConnectionHeader::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

fn push_tag(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"ETag: \"");
    decimal::push(out, n);
    out.extend_from_slice(b"\"\r\n");
}

/// Appends the positions of the bytes that are sent, of `length`, or `*` if there are none (RFC 9110 section 14.4).
fn push_content_range(out: &mut Vec<u8>, span: Option<Span>, length: usize) {
    out.extend_from_slice(b"Content-Range: bytes ");
    if let Some(span) = span {
        decimal::push(out, span.range().start as u64);
        out.push(b'-');
        decimal::push(out, span.range().end.saturating_sub(1) as u64);
    } else {
        out.push(b'*');
    }
    out.push(b'/');
    decimal::push(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Content-Length` and the empty line.
fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(b"Content-Length: ");
    decimal::push(out, length as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Returns the status line without its line end. Reason phrases are those of the IANA registry.
const fn status_line(status: Status) -> &'static str {
    match status {
        Status::Ok => "HTTP/1.1 200 OK",
        Status::NoContent => "HTTP/1.1 204 No Content",
        Status::PartialContent => "HTTP/1.1 206 Partial Content",
        Status::NotModified => "HTTP/1.1 304 Not Modified",
        Status::BadRequest => "HTTP/1.1 400 Bad Request",
        Status::NotFound => "HTTP/1.1 404 Not Found",
        Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed",
        Status::RequestTimeout => "HTTP/1.1 408 Request Timeout",
        Status::PreconditionFailed => "HTTP/1.1 412 Precondition Failed",
        Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large",
        Status::UriTooLong => "HTTP/1.1 414 URI Too Long",
        Status::RangeNotSatisfiable => "HTTP/1.1 416 Range Not Satisfiable",
        Status::ExpectationFailed => "HTTP/1.1 417 Expectation Failed",
        Status::UnprocessableContent => "HTTP/1.1 422 Unprocessable Content",
        Status::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large",
        Status::NotImplemented => "HTTP/1.1 501 Not Implemented",
        Status::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable",
        Status::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

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
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\nContent-Length: 4\r\n\r\n";

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
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\
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
        let response = Response {
            status: Status::ServiceUnavailable,
            kind: ResponseKind::Retry(1),
            body: Body::Bytes(b"busy\n"),
        };
        render(&mut out, &response, BodyMode::Send, ConnectionHeader::Implied, &PREAMBLE);
        let text = str::from_utf8(&out).unwrap();
        assert!(text.contains("\r\nRetry-After: 1\r\n") && text.contains("no-store"), "{text}");
    }

    #[test]
    fn errors_are_text_that_must_not_be_stored() {
        let response = Response {
            status: Status::MethodNotAllowed,
            kind: ResponseKind::Allow("GET"),
            body: Body::Bytes(b"no\n"),
        };
        let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
            Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
            Cache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
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
                ResponseKind::BeyondEnd { length: usize::MAX },
                ResponseKind::Text,
                ResponseKind::Retry(u32::MAX),
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
    fn every_status_line_has_the_status_code() {
        for status in Status::ALL {
            assert_eq!(status_line(status).split(' ').nth(1), Some(status.code()));
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
