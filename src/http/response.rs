//! Responses: from a status, a few fields and a body to bytes (RFC 9112 section 4, RFC 9110 section 6).
//!
//! Every field is written here and nowhere else. Hot path: copies into a buffer that is already there, no
//! formatting machinery.

use super::{Status, date};

/// An answer, before it is known on what kind of connection it goes out.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: Status,
    /// What the fields say beyond `Date` and framing.
    pub fields: Fields,
    /// The content; empty where the status allows none.
    pub body: &'a [u8],
}

/// The fields that depend on what is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// F(n), which never changes: cacheable for ever, with n as its strong entity tag.
    Number(u64),
    /// A line of text, not to be stored.
    Text,
    /// Content of this media type, not to be stored.
    Media(&'static str),
    /// A line of text or nothing, with the methods that are allowed instead.
    Allow(&'static str),
}

/// Whether the content goes out, or only the fields that describe it (RFC 9110 section 9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// With the content.
    Send,
    /// The answer to HEAD.
    Omit,
}

/// What the response says about the connection (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Nothing: it persists, as is the rule in HTTP/1.1.
    Implied,
    /// It persists, which an HTTP/1.0 client must be told.
    KeepAlive,
    /// This answer is the last.
    Close,
}

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const TEXT: &str = "text/plain; charset=utf-8";

/// More than any head takes, in bytes; the longest is about 350.
const HEAD_BYTES_MAX: usize = 512;

/// Appends `response` to `out`; returns how many bytes that took.
pub fn render(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    content: Content,
    connection: Connection,
    date: &[u8; date::LENGTH],
) -> usize {
    let before = out.len();
    // Once for all that follows, so that each piece is a copy and a comparison.
    out.reserve(HEAD_BYTES_MAX + response.body.len());
    if let (Status::Ok, Fields::Number(n)) = (response.status, response.fields) {
        // Hot: nearly every answer is one of these, and most of its head is always the same.
        out.extend_from_slice(NUMBER_PREAMBLE.as_bytes());
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\nETag: \"");
        push_decimal(out, n);
        out.extend_from_slice(b"\"\r\n");
    } else {
        render_fields(out, response, date);
    }
    match connection {
        Connection::Implied => {}
        Connection::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    // These two have no content, and hence no length (RFC 9110 sections 8.6, 15.3.5 and 15.4.5).
    if matches!(response.status, Status::NoContent | Status::NotModified) {
        out.extend_from_slice(b"\r\n");
        return out.len() - before;
    }
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, response.body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    if content == Content::Send {
        out.extend_from_slice(response.body);
    }
    out.len() - before
}

/// What the head of a number's answer begins with.
const NUMBER_PREAMBLE: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Cache-Control: public, max-age=31536000, immutable\r\n\
    Date: ";

/// The status line and all fields but `Connection` and `Content-Length`, for any response.
fn render_fields(out: &mut Vec<u8>, response: &Response<'_>, date: &[u8; date::LENGTH]) {
    out.extend_from_slice(status_line(response.status).as_bytes());
    if !matches!(response.status, Status::NoContent | Status::NotModified) {
        let media = if let Fields::Media(media) = response.fields { media } else { TEXT };
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(media.as_bytes());
        out.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff");
    }
    let caching = match response.fields {
        Fields::Number(_) => "public, max-age=31536000, immutable",
        Fields::Text | Fields::Media(_) | Fields::Allow(_) => "no-store",
    };
    out.extend_from_slice(b"\r\nCache-Control: ");
    out.extend_from_slice(caching.as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    match response.fields {
        Fields::Text | Fields::Media(_) => {}
        Fields::Number(n) => {
            out.extend_from_slice(b"\r\nETag: \"");
            push_decimal(out, n);
            out.push(b'"');
        }
        Fields::Allow(methods) => {
            out.extend_from_slice(b"\r\nAllow: ");
            out.extend_from_slice(methods.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The status line without its line end. Reason phrases are those of the registry.
const fn status_line(status: Status) -> &'static str {
    match status {
        Status::Ok => "HTTP/1.1 200 OK",
        Status::NoContent => "HTTP/1.1 204 No Content",
        Status::NotModified => "HTTP/1.1 304 Not Modified",
        Status::BadRequest => "HTTP/1.1 400 Bad Request",
        Status::NotFound => "HTTP/1.1 404 Not Found",
        Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed",
        Status::RequestTimeout => "HTTP/1.1 408 Request Timeout",
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

/// Appends `value` in decimal.
fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20]; // u64::MAX has twenty
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; date::LENGTH] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn check(response: &Response<'_>, content: Content, connection: Connection, expected: &str) {
        let mut out = b"before".to_vec();
        let length = render(&mut out, response, content, connection, DATE);
        assert_eq!(str::from_utf8(&out[6..]).unwrap(), expected);
        assert_eq!(length, expected.len());
    }

    const NUMBER: Response<'_> =
        Response { status: Status::Ok, fields: Fields::Number(20), body: b"6765" };
    const NUMBER_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
        X-Content-Type-Options: nosniff\r\n\
        Cache-Control: public, max-age=31536000, immutable\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\nContent-Length: 4\r\n\r\n";

    #[test]
    fn a_number() {
        check(&NUMBER, Content::Send, Connection::Implied, &format!("{NUMBER_HEAD}6765"));
    }

    #[test]
    fn the_short_way_is_the_long_one() {
        let (mut long, mut short) = (Vec::new(), Vec::new());
        render_fields(&mut long, &NUMBER, DATE);
        render(&mut short, &NUMBER, Content::Omit, Connection::Implied, DATE);
        assert!(short.starts_with(&long));
    }

    #[test]
    fn head_has_the_same_fields_and_no_content() {
        check(&NUMBER, Content::Omit, Connection::Implied, NUMBER_HEAD);
    }

    #[test]
    fn no_content_has_no_length() {
        let response =
            Response { status: Status::NotModified, fields: Fields::Number(20), body: b"" };
        let expected = "HTTP/1.1 304 Not Modified\r\n\
            Cache-Control: public, max-age=31536000, immutable\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"20\"\r\n\
            Connection: keep-alive\r\n\r\n";
        check(&response, Content::Send, Connection::KeepAlive, expected);
    }

    #[test]
    fn errors_are_text_that_nobody_stores() {
        let response = Response {
            status: Status::MethodNotAllowed,
            fields: Fields::Allow("GET"),
            body: b"no\n",
        };
        let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
            Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
            Cache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nAllow: GET\r\n\
            Connection: close\r\nContent-Length: 3\r\n\r\nno\n";
        check(&response, Content::Send, Connection::Close, expected);
    }

    #[test]
    fn the_longest_head_fits_what_is_reserved() {
        for status in Status::ALL {
            for fields in [
                Fields::Number(u64::MAX),
                Fields::Text,
                Fields::Media("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                Fields::Allow("GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"),
            ] {
                let mut out = Vec::new();
                let response = Response { status, fields, body: b"" };
                render(&mut out, &response, Content::Send, Connection::KeepAlive, DATE);
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
            push_decimal(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
