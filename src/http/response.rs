//! Renders responses: from a status, a few fields and a body to bytes (RFC 9112 section 4, RFC 9110 section 6).
//!
//! Every response field is written here. This is the hot path: it copies into an existing buffer and does not use
//! `core::fmt`.

use std::sync::Arc;

use crate::http::decimal;
use crate::http::{Status, date};

/// A response, independent of the connection that sends it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: Status,
    /// Determines the fields other than `Date`, `Connection` and `Content-Length`.
    pub kind: ResponseKind,
    /// The content; empty if the status allows none.
    pub body: Body<'a>,
}

impl<'a> Response<'a> {
    /// Returns a response with a line of text.
    pub const fn text(status: Status, text: &'a [u8]) -> Self {
        Self { status, kind: ResponseKind::Text, body: Body::Bytes(text) }
    }
}

/// The content of a response.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Bytes to copy into the output.
    Bytes(&'a [u8]),
    /// Bytes that several responses share and that are too many to copy.
    Shared(&'a Arc<[u8]>),
    /// Content of this length that has not been computed, in a response to HEAD.
    Length(usize),
}

impl Body<'_> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
            Self::Length(length) => *length,
        }
    }

    /// Length in bytes of the content that a response sends in this mode.
    pub fn sent_len(&self, mode: BodyMode) -> usize {
        match (self, mode) {
            (Self::Length(_), _) | (_, BodyMode::Omit) => 0,
            (body, BodyMode::Send) => body.len(),
        }
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The kind of content, which determines media type, caching and a few more fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// F(n), which never changes: cacheable for a year, with n as its strong entity tag.
    Number(u64),
    /// A line of text that must not be stored.
    Text,
    /// Content of this media type that must not be stored.
    Media(&'static str),
    /// A line of text that must not be stored, and the `Retry-After` in seconds (RFC 9110 section 10.2.3).
    Retry(u32),
    /// A line of text or no content, and the methods for `Allow`.
    Allow(&'static str),
}

/// Whether the content is sent, or only the fields that describe it (RFC 9110 section 9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// The content is sent.
    Send,
    /// The content is omitted, in a response to HEAD.
    Omit,
}

/// The `Connection` field of a response (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionHeader {
    /// No field: HTTP/1.1 connections are persistent by default.
    Implied,
    /// `keep-alive`, which an HTTP/1.0 client needs.
    KeepAlive,
    /// `close`: the connection closes after this response.
    Close,
}

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const TEXT: &str = "text/plain; charset=utf-8";

/// Bytes to reserve for a head; the longest has about 350.
const HEAD_BYTES_MAX: usize = 512;

/// Appends `response` to `out`, except a shared body. Returns the number of bytes appended.
pub fn render(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    mode: BodyMode,
    connection: ConnectionHeader,
    date: &[u8; date::LENGTH],
) -> usize {
    let before = out.len();
    // Reserving once makes every append below a comparison and a copy.
    let copied = if let Body::Bytes(bytes) = response.body { bytes } else { b"" };
    out.reserve(HEAD_BYTES_MAX + copied.len());
    if let (Status::Ok, ResponseKind::Number(n)) = (response.status, response.kind) {
        // Nearly every response is one of these, and most of its head is constant.
        out.extend_from_slice(NUMBER_PREAMBLE.as_bytes());
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\nETag: \"");
        decimal::push(out, n);
        out.extend_from_slice(b"\"\r\n");
    } else {
        render_fields(out, response, date);
    }
    match connection {
        ConnectionHeader::Implied => {}
        ConnectionHeader::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        ConnectionHeader::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    // These two have neither content nor `Content-Length` (RFC 9110 sections 8.6, 15.3.5 and 15.4.5).
    if matches!(response.status, Status::NoContent | Status::NotModified) {
        out.extend_from_slice(b"\r\n");
        return out.len() - before;
    }
    out.extend_from_slice(b"Content-Length: ");
    decimal::push(out, response.body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    if mode == BodyMode::Send {
        debug_assert!(!matches!(response.body, Body::Length(_)), "there is no content to send");
        out.extend_from_slice(copied);
    }
    out.len() - before
}

/// The constant start of a number's head.
const NUMBER_PREAMBLE: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Cache-Control: public, max-age=31536000, immutable\r\n\
    Date: ";

/// Appends the status line and all fields except `Connection` and `Content-Length`, for any response.
fn render_fields(out: &mut Vec<u8>, response: &Response<'_>, date: &[u8; date::LENGTH]) {
    out.extend_from_slice(status_line(response.status).as_bytes());
    if !matches!(response.status, Status::NoContent | Status::NotModified) {
        let media = if let ResponseKind::Media(media) = response.kind { media } else { TEXT };
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(media.as_bytes());
        out.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff");
    }
    let caching = match response.kind {
        ResponseKind::Number(_) => "public, max-age=31536000, immutable",
        ResponseKind::Text
        | ResponseKind::Media(_)
        | ResponseKind::Retry(_)
        | ResponseKind::Allow(_) => "no-store",
    };
    out.extend_from_slice(b"\r\nCache-Control: ");
    out.extend_from_slice(caching.as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    match response.kind {
        ResponseKind::Text | ResponseKind::Media(_) => {}
        ResponseKind::Number(n) => {
            out.extend_from_slice(b"\r\nETag: \"");
            decimal::push(out, n);
            out.push(b'"');
        }
        ResponseKind::Retry(seconds) => {
            out.extend_from_slice(b"\r\nRetry-After: ");
            decimal::push(out, seconds.into());
        }
        ResponseKind::Allow(methods) => {
            out.extend_from_slice(b"\r\nAllow: ");
            out.extend_from_slice(methods.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Returns the status line without its line end. Reason phrases are those of the IANA registry.
const fn status_line(status: Status) -> &'static str {
    match status {
        Status::Ok => "HTTP/1.1 200 OK",
        Status::NoContent => "HTTP/1.1 204 No Content",
        Status::NotModified => "HTTP/1.1 304 Not Modified",
        Status::BadRequest => "HTTP/1.1 400 Bad Request",
        Status::NotFound => "HTTP/1.1 404 Not Found",
        Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed",
        Status::RequestTimeout => "HTTP/1.1 408 Request Timeout",
        Status::PreconditionFailed => "HTTP/1.1 412 Precondition Failed",
        Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large",
        Status::UriTooLong => "HTTP/1.1 414 URI Too Long",
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
    use super::*;

    const DATE: &[u8; date::LENGTH] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn check(
        response: &Response<'_>,
        mode: BodyMode,
        connection: ConnectionHeader,
        expected: &str,
    ) {
        let mut out = b"before".to_vec();
        let length = render(&mut out, response, mode, connection, DATE);
        assert_eq!(str::from_utf8(&out[6..]).unwrap(), expected);
        assert_eq!(length, expected.len());
    }

    const NUMBER: Response<'_> =
        Response { status: Status::Ok, kind: ResponseKind::Number(20), body: Body::Bytes(b"6765") };
    const NUMBER_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
        X-Content-Type-Options: nosniff\r\n\
        Cache-Control: public, max-age=31536000, immutable\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\nContent-Length: 4\r\n\r\n";

    #[test]
    fn a_number_is_cacheable_and_has_an_entity_tag() {
        check(&NUMBER, BodyMode::Send, ConnectionHeader::Implied, &format!("{NUMBER_HEAD}6765"));
    }

    #[test]
    fn a_number_has_the_fields_of_any_response() {
        let (mut any, mut number) = (Vec::new(), Vec::new());
        render_fields(&mut any, &NUMBER, DATE);
        render(&mut number, &NUMBER, BodyMode::Omit, ConnectionHeader::Implied, DATE);
        assert!(number.starts_with(&any));
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
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\n\
            Connection: keep-alive\r\n\r\n";
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
        render(&mut out, &response, BodyMode::Send, ConnectionHeader::Implied, DATE);
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
            Cache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nAllow: GET\r\n\
            Connection: close\r\nContent-Length: 3\r\n\r\nno\n";
        check(&response, BodyMode::Send, ConnectionHeader::Close, expected);
    }

    #[test]
    fn the_longest_head_fits_the_reserved_bytes() {
        for status in Status::ALL {
            for kind in [
                ResponseKind::Number(u64::MAX),
                ResponseKind::Text,
                ResponseKind::Retry(u32::MAX),
                ResponseKind::Media("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                ResponseKind::Allow("GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"),
            ] {
                let mut out = Vec::new();
                let response = Response { status, kind, body: Body::Bytes(b"") };
                render(&mut out, &response, BodyMode::Send, ConnectionHeader::KeepAlive, DATE);
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
