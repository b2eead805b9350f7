//! Request heads: from bytes to an owned [`Request`] (RFC 9112 sections 2 to 5).
//!
//! The end of a head is found before its fields are parsed, so that a head which arrives byte by byte costs linear
//! time. The request line is read by [`super::request_line`]; httparse is the tokenizer of the header fields.
//!
//! An error belongs to a position in the stream, and the first one decides. So the responses are the same however
//! the stream is split.

use super::limits::{FIELDS_MAX, Limits};

pub use crate::http::request::parsed::Request;

use crate::http::{
    Reject,
    request::{
        head_cache::{CacheSlot, HeadCache},
        headers::HeaderSummary,
        request_line::RequestLine,
        scan::{CompleteHead, HeadScanner},
    },
};

/// Parses heads, within limits.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    cache: HeadCache,
}

impl Parser {
    /// Creates a parser with an empty cache.
    pub fn new(limits: Limits) -> Self {
        Self { limits, cache: HeadCache::new() }
    }

    /// The limits of this parser.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Parses the head at the front of `bytes`.
    ///
    /// Returns `Ok(None)` if the head is incomplete. Call it again with the same bytes followed by more, and with
    /// the same `scan`, which must be restarted for each head.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        scan: &mut HeadScanner,
    ) -> Result<Option<Request>, Reject> {
        if scan.is_at_start()
            && let Some(request) = self.cache.parse(scan.cached, bytes)
        {
            return Ok(Some(request));
        }
        // Bytes beyond the limit must not matter, or the response would depend on how the stream is split.
        let limit = self.limits.head_bytes.saturating_sub(scan.removed());
        let window = bytes.get(..limit).unwrap_or(bytes);
        match scan.find_end(window, &self.limits)? {
            Some(head) => self.parse_full(&head, &mut scan.cached).map(Some),
            None if window.len() < bytes.len() => Err(scan.limit_exceeded()),
            None => Ok(None),
        }
    }

    /// Parses a complete head and caches it.
    fn parse_full(
        &mut self,
        head: &CompleteHead<'_>,
        cached: &mut CacheSlot,
    ) -> Result<Request, Reject> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let fields = fields.get_mut(..self.limits.fields).unwrap_or_default();
        let fields = match httparse::parse_headers(head.header_block, fields)? {
            httparse::Status::Complete((length, fields)) if length == head.header_block.len() => {
                fields
            }
            // httparse and the scanner agree on where a head ends. If they ever do not, the head is rejected.
            httparse::Status::Complete(_) | httparse::Status::Partial => {
                return Err(Reject::BadHeader);
            }
        };
        let mut summary = HeaderSummary::default();
        for field in fields {
            summary.add(field.name, field.value)?;
        }
        let request = build_request(head.request_line, head.bytes.len(), &summary)?;
        if let Some(slot) =
            self.cache.insert((head.bytes, head.header_block), &request, &self.limits)
        {
            *cached = slot;
        }
        Ok(request)
    }
}

/// Combines a request line with the summary of the header fields after it.
fn build_request(
    line: RequestLine,
    head_bytes: usize,
    summary: &HeaderSummary,
) -> Result<Request, Reject> {
    let RequestLine { method, target, version } = line;
    summary.check_host(version)?;
    Ok(Request {
        method,
        target,
        version,
        persistence: summary.persistence(version),
        framing: summary.framing(version)?,
        expectation: summary.expectation(version),
        preferences: summary.preferences(),
        head_bytes,
        body_bytes: 0,
    })
}

impl From<httparse::Error> for Reject {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            // NewLine is a CR without LF at the start of a field line. A header block causes none of the last three.
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token
            | httparse::Error::Version => Self::BadHeader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Method, request::target::Target};

    const LIMITS: Limits =
        Limits { head_bytes: 200, target_bytes: 40, fields: 4, body_bytes: 0, pipelined: 8 };

    /// Parses `head` whole and byte by byte; both must agree.
    fn parse_both(head: &[u8]) -> Result<Option<Request>, Reject> {
        let whole = Parser::new(LIMITS).parse(head, &mut HeadScanner::default());
        let (mut parser, mut scan) = (Parser::new(LIMITS), HeadScanner::default());
        let byte_by_byte = (1..=head.len())
            .map(|length| parser.parse(&head[..length], &mut scan))
            .find(|outcome| outcome != &Ok(None))
            .unwrap_or(Ok(None));
        assert_eq!(whole, byte_by_byte, "{}", head.escape_ascii());
        // Again with a parser that has cached another head or this one.
        let (mut parser, mut scan) = (Parser::new(LIMITS), HeadScanner::default());
        for before in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], head] {
            let _outcome = parser.parse(before, &mut scan);
            scan.restart();
            assert_eq!(whole, parser.parse(head, &mut scan.clone()), "{}", head.escape_ascii());
        }
        whole
    }

    fn check(head: &str, expected: Result<(Method, &str), Reject>) {
        let found = parse_both(head.as_bytes()).map(|request| {
            let request = request.unwrap_or_else(|| panic!("incomplete: {head:?}"));
            assert_eq!(request.head_bytes, head.len());
            let Target::Path(path) = request.target else { panic!("no path: {head:?}") };
            (request.method, str::from_utf8(path.of(head.as_bytes())).unwrap())
        });
        assert_eq!(found, expected, "{head:?}");
    }

    #[test]
    fn valid_heads_have_a_method_and_a_path() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok((Method::Get, "/")));
        check("HEAD /a?b HTTP/1.0\r\n\r\n", Ok((Method::Head, "/a")));
        check("\r\n\r\nGET /x HTTP/1.1\r\nhost:a\r\n\r\n", Ok((Method::Get, "/x")));
        check("GET http://h/x HTTP/1.1\r\nHost: a\r\n\r\n", Ok((Method::Get, "/x")));
        check("GET /x HTTP/1.2\r\nHost: a\r\n\r\n", Ok((Method::Get, "/x")));
        check("PATCH /x HTTP/1.9\r\nHost: a\r\n\r\n", Ok((Method::Patch, "/x")));
    }

    #[test]
    fn incomplete_heads_need_more_bytes() {
        for head in [
            "",
            "G",
            "GET",
            "GET ",
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "\r",
            "\r\n",
        ] {
            assert_eq!(parse_both(head.as_bytes()), Ok(None), "{head:?}");
        }
    }

    #[test]
    fn malformed_request_lines_are_bad_request_lines() {
        for line in [
            "GET",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "G\u{e9}T / HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1",
            "GET / HTTP/1.10",
            "GET / HTTP/1.1\rX",
            "\u{16}\u{3}\u{1}",
            ": / HTTP/1.1",
            "GET / HTTP/x.1",
            "GET /\u{1} HTTP/1.1",
        ] {
            check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(Reject::BadRequestLine));
        }
    }

    #[test]
    fn statuses_of_well_formed_request_lines() {
        let check = |line, reject| check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(reject));
        check("BREW / HTTP/1.1", Reject::UnknownMethod);
        check("get / HTTP/1.1", Reject::UnknownMethod);
        check("GET / HTTP/2.0", Reject::UnsupportedVersion);
        check("GET / HTTP/0.9", Reject::UnsupportedVersion);
        check("GET a HTTP/1.1", Reject::BadTarget);
        check("GET /# HTTP/1.1", Reject::BadTarget);
    }

    #[test]
    fn malformed_fields_are_bad_headers() {
        for field in [
            "Host : a",
            " Host: a",
            "Host: a\r\n b",
            "Host: a\r\n\tb: c",
            "A\u{0}: b",
            "A: \u{0}",
            "A: b\rc",
            ": a",
            "A",
            "A(: b",
            "A: \u{1}",
            "A: \u{7f}",
        ] {
            check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), Err(Reject::BadHeader));
        }
        check("GET / HTTP/1.1\r\n\r\n", Err(Reject::BadHost));
    }

    #[test]
    fn a_line_that_ends_in_lf_alone_is_rejected() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            check(head, Err(Reject::BareLineFeed));
        }
    }

    #[test]
    fn limits_apply_at_the_bound() {
        let head = |padding: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(padding))
        };
        let fitting = LIMITS.head_bytes - head(0).len();
        check(&head(fitting), Ok((Method::Get, "/")));
        check(&head(fitting + 1), Err(Reject::HeadTooLarge));

        let target = |length: usize| format!("/{}", "x".repeat(length - 1));
        let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        check(&head(&target(40)), Ok((Method::Get, &target(40))));
        check(&head(&target(41)), Err(Reject::TargetTooLong));
        check(&head(&target(400)), Err(Reject::TargetTooLong));

        let head = |fields: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(fields - 1))
        };
        check(&head(4), Ok((Method::Get, "/")));
        check(&head(5), Err(Reject::TooManyFields));
    }

    #[test]
    fn the_request_line_is_checked_before_the_fields() {
        check("BREW / HTTP/1.1\r\nA\r\n\r\n", Err(Reject::UnknownMethod));
        check("GET / HTTP/3.0\r\nHost: a\n", Err(Reject::UnsupportedVersion));
        assert_eq!(parse_both(b"BREW / HTTP/1.1\r\n"), Err(Reject::UnknownMethod));
        // A method longer than a head (RFC 9112 section 3).
        check(&"A".repeat(LIMITS.head_bytes + 1), Err(Reject::UnknownMethod));
        assert_eq!(parse_both(b"\x16\x03\x01"), Err(Reject::BadRequestLine));
    }
}
