//! Request heads: from bytes to an owned [`Request`], with httparse as the tokenizer (RFC 9112 sections 2
//! to 5).
//!
//! A head is first looked for and then parsed, so that one which dribbles in byte by byte costs linear
//! time. Errors are tied to positions of the stream and never to how it was cut: of two, the one that
//! stands first wins, and the request line comes before everything else. So however a stream is split,
//! the answers are the same.

use std::mem::MaybeUninit;

use super::limits::{FIELDS_MAX, Limits};

use crate::http::{
    Method, Reject, Span,
    request::{
        body::Framing,
        header_cache::{CacheSlot, HeaderCache},
        headers::{Condition, Expectation, HeaderSummary, Persistence, Version},
        scan::HeadScanner,
        target::{self, Target},
    },
};

/// A request as far as the server cares. Owns nothing and borrows nothing: what it needs of the head's
/// text it names by offsets, so that the buffer is free to be used while the answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// What the request is about, as offsets into the head.
    pub target: Target,
    /// The protocol version of the peer.
    pub version: Version,
    /// Whether the connection outlives the answer.
    pub persistence: Persistence,
    /// How the body is delimited.
    pub framing: Framing,
    /// What the peer waits for before it sends the body.
    pub expectation: Expectation,
    /// Whether the answer may depend on a precondition.
    pub condition: Condition,
    /// Length of the head in bytes, the empty line included.
    pub head_bytes: usize,
    /// Length of the body in bytes as it came over the wire: zero until it has been skipped.
    pub body_bytes: u64,
}

/// Parses heads, within limits.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    cache: HeaderCache,
}

impl Parser {
    /// A parser that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self { limits, cache: HeaderCache::new() }
    }

    /// The limits it keeps to.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Parses the head at the front of `bytes`.
    ///
    /// `Ok(None)` means that it is not complete: call again with the same bytes and more behind them, and
    /// with the same `scan`, which must be at its start for a new head.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        scan: &mut HeadScanner,
    ) -> Result<Option<Request>, Reject> {
        if scan.is_at_start()
            && let Some(request) = self.parse_cached(bytes, scan.cached)
        {
            return Ok(Some(request));
        }
        // Nothing beyond the limit may sway the answer, or it would depend on how much came at once.
        let window = bytes.get(..self.limits.head_bytes).unwrap_or(bytes);
        let outcome = match scan.find_end(window) {
            Ok(None) if window.len() < bytes.len() => Err(scan.limit_exceeded()),
            Ok(Some(head)) => self.parse_full(head, scan).map(Some),
            Ok(None) => Ok(None),
            Err(reject) => Err(reject),
        };
        match outcome {
            Ok(Some(request)) => Ok(Some(request)),
            // From here on it is cold. Whatever else is wrong, a bad request line is the answer.
            Ok(None) => scan.check_request_line(window, &self.limits).map(|()| None),
            Err(reject) => {
                Err(scan.check_request_line(window, &self.limits).err().unwrap_or(reject))
            }
        }
    }

    /// The short way, for what nearly all requests on a kept connection are: GET in HTTP/1.1, and the
    /// fields of the request before. What is anything else, or wrong in any way, takes the long way, and
    /// gets its answer there.
    fn parse_cached(&self, bytes: &[u8], cached: CacheSlot) -> Option<Request> {
        let line_bytes = memchr::memchr(b'\n', bytes)? + 1;
        let (line, behind) = bytes.split_at_checked(line_bytes)?;
        let block = self.cache.find(cached, behind)?;
        let head = bytes.get(..line_bytes + block.len())?;
        if head.len() > self.limits.head_bytes {
            return None;
        }
        let target = line.strip_prefix(b"GET ")?.strip_suffix(b" HTTP/1.1\r\n")?;
        let target = Span::new(4, 4 + target.len());
        self.build_request((Method::Get, target, Version::Http11), head, block.summary()).ok()
    }

    /// The long way: makes a request of a complete head.
    fn parse_full(&mut self, head: &[u8], scan: &mut HeadScanner) -> Result<Request, Reject> {
        let line = scan.request_line.ok_or(Reject::BadRequestLine)?;
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let fields = fields.get_mut(..self.limits.fields).unwrap_or_default();
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            // httparse and the search above agree on where a head ends; should they ever not, refuse.
            Ok(_) => return Err(Reject::BadHeader),
            Err(httparse::Error::Version) => {
                return self.parse_full(&as_http11(head, line)?, scan);
            }
            Err(error) => return Err(error.into()),
        }
        let mut summary = HeaderSummary::default();
        for field in &*parsed.headers {
            summary.add(field.name, field.value)?;
        }
        let method = parsed.method.and_then(Method::from_token).ok_or(Reject::UnknownMethod)?;
        let target = line.suffix(method.as_str().len() + 1);
        let target = target.prefix(parsed.path.map_or(0, str::len));
        let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let request = self.build_request((method, target, version), head, &summary)?;
        let block = line.after(head).strip_prefix(b"\r\n").unwrap_or_default();
        scan.cached = self.cache.insert(block, &summary);
        Ok(request)
    }

    /// Makes a request of the parts of a request line and of what the fields come to.
    fn build_request(
        &self,
        (method, target, version): (Method, Span, Version),
        head: &[u8],
        summary: &HeaderSummary,
    ) -> Result<Request, Reject> {
        if target.len() > self.limits.target_bytes {
            return Err(Reject::TargetTooLong);
        }
        summary.check_host(version)?;
        Ok(Request {
            method,
            target: target::parse(method, head, target)?,
            version,
            persistence: summary.persistence(version),
            framing: summary.framing(version)?,
            expectation: summary.expectation(version),
            condition: summary.condition(),
            head_bytes: head.len(),
            body_bytes: 0,
        })
    }
}

/// A head whose version httparse does not take, as one of the highest minor version there is (RFC 9110
/// section 6.2). Offsets stay what they were.
#[cold]
fn as_http11(head: &[u8], request_line: Span) -> Result<Vec<u8>, Reject> {
    let mut patched = head.to_vec();
    match patched.get_mut(request_line.range()).and_then(<[u8]>::split_last_mut) {
        Some((minor, before)) if before.ends_with(b"HTTP/1.") && matches!(minor, b'2'..=b'9') => {
            *minor = b'1';
            Ok(patched)
        }
        _ => Err(Reject::BadRequestLine),
    }
}

impl From<httparse::Error> for Reject {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::BadHeader,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            // NewLine: a CR without LF, in the request line or at the empty line.
            httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token
            | httparse::Error::Version => Self::BadRequestLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // Once more, to a parser that has seen these fields and any others that were before.
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
    fn plain_requests() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok((Method::Get, "/")));
        check("HEAD /a?b HTTP/1.0\r\n\r\n", Ok((Method::Head, "/a")));
        check("\r\n\r\nGET /x HTTP/1.1\r\nhost:a\r\n\r\n", Ok((Method::Get, "/x")));
        check("GET http://h/x HTTP/1.1\r\nHost: a\r\n\r\n", Ok((Method::Get, "/x")));
        check("GET /x HTTP/1.2\r\nHost: a\r\n\r\n", Ok((Method::Get, "/x")));
        check("PATCH /x HTTP/1.9\r\nHost: a\r\n\r\n", Ok((Method::Patch, "/x")));
    }

    #[test]
    fn incomplete_heads_wait() {
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
    fn bad_request_lines() {
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
    fn bad_fields() {
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
    fn every_line_ends_in_crlf() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            check(head, Err(Reject::BareLineFeed));
        }
    }

    #[test]
    fn limits_hold_at_the_bound() {
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
    fn the_request_line_is_judged_before_the_fields() {
        check("BREW / HTTP/1.1\r\nA\r\n\r\n", Err(Reject::UnknownMethod));
        check("GET / HTTP/3.0\r\nHost: a\n", Err(Reject::UnsupportedVersion));
        assert_eq!(parse_both(b"BREW / HTTP/1.1\r\n"), Err(Reject::UnknownMethod));
        assert_eq!(parse_both(b"\x16\x03\x01"), Err(Reject::BadRequestLine));
    }
}
