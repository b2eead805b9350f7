//! Request heads: from bytes to an owned [`Request`], with httparse as the tokenizer (RFC 9112 sections 2
//! to 5).
//!
//! A head is first looked for and then parsed, so that one which dribbles in byte by byte costs linear
//! time. Errors are tied to positions of the stream and never to how it was cut: of two, the one that
//! stands first wins, and the request line comes before everything else. So however a stream is split,
//! the answers are the same.

use std::mem::MaybeUninit;

use super::{
    Method, Reject, Span,
    body::{Framing, is_token},
    fields::{Condition, Digest, Expectation, Persistence, Version},
    target::{self, Target},
};

/// Most field lines that any configuration may allow.
pub const FIELDS_MAX: usize = 128;

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole head, from the first byte to the empty line; beyond it 431.
    pub head_bytes: usize,
    /// Bytes of the request target; beyond it 414.
    pub target_bytes: usize,
    /// Field lines, at most [`FIELDS_MAX`]; beyond it 431.
    pub fields: usize,
}

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

/// How far the search for the end of a head has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every line end before here has been seen.
    searched: usize,
    /// Where the line under way begins.
    line_start: usize,
    /// The request line without its line end, once that has been seen.
    request_line: Option<Span>,
}

/// Parses the head at the front of `bytes`.
///
/// `Ok(None)` means that it is not complete: call again with the same bytes and more behind them, and with
/// the same `scan`, which must be fresh for a new head.
pub fn parse(bytes: &[u8], scan: &mut Scan, limits: &Limits) -> Result<Option<Request>, Reject> {
    // Nothing beyond the limit may sway the answer, or it would depend on how much came at once.
    let window = bytes.get(..limits.head_bytes).unwrap_or(bytes);
    let outcome = match scan.find_end(window) {
        Ok(None) if window.len() < bytes.len() => Err(scan.what_is_too_long()),
        Ok(Some(head)) => scan.tokenize(head, limits).map(Some),
        Ok(None) => Ok(None),
        Err(reject) => Err(reject),
    };
    match outcome {
        Ok(Some(request)) => Ok(Some(request)),
        // From here on it is cold. Whatever else is wrong, a bad request line is the answer.
        Ok(None) => scan.check_request_line(window, limits).map(|()| None),
        Err(reject) => Err(scan.check_request_line(window, limits).err().unwrap_or(reject)),
    }
}

impl Scan {
    /// A search that has not begun.
    pub const fn new() -> Self {
        Self { searched: 0, line_start: 0, request_line: None }
    }

    /// Goes on looking for the empty line; returns the head once that is there.
    fn find_end<'b>(&mut self, window: &'b [u8]) -> Result<Option<&'b [u8]>, Reject> {
        while let Some(offset) =
            window.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest))
        {
            let line_feed = self.searched + offset;
            match (window.get(self.line_start..line_feed), self.request_line) {
                (Some([b'\r']), Some(_)) => return Ok(window.get(..=line_feed)),
                // Empty lines before the request line are skipped (RFC 9112 section 2.2).
                (Some([b'\r']), None) | (Some([.., b'\r']), Some(_)) => {}
                (Some([.., b'\r']), None) => {
                    self.request_line = Some(Span::new(self.line_start, line_feed - 1));
                }
                _ => return Err(Reject::BareLineFeed),
            }
            self.searched = line_feed + 1;
            self.line_start = self.searched;
        }
        self.searched = window.len();
        Ok(None)
    }

    /// Why a head whose end is not within the limit is refused.
    const fn what_is_too_long(&self) -> Reject {
        match self.request_line {
            Some(_) => Reject::HeadTooLarge,
            None => Reject::TargetTooLong,
        }
    }

    /// Makes a request of a complete head.
    fn tokenize(&self, head: &[u8], limits: &Limits) -> Result<Request, Reject> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let fields = fields.get_mut(..limits.fields).unwrap_or_default();
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            // httparse and the search above agree on where a head ends; should they ever not, refuse.
            Ok(_) => return Err(Reject::Field),
            Err(httparse::Error::Version) => return self.tokenize_as_http11(head, limits),
            Err(error) => return Err(error.into()),
        }
        let method = parsed.method.and_then(Method::from_token).ok_or(Reject::Method)?;
        let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let target_bytes = parsed.path.map_or(0, str::len);
        if target_bytes > limits.target_bytes {
            return Err(Reject::TargetTooLong);
        }
        let mut digest = Digest::default();
        for field in &*parsed.headers {
            digest.add(field.name, field.value)?;
        }
        digest.check_host(version)?;
        let line = self.request_line.ok_or(Reject::RequestLine)?;
        let target = line.suffix(method.as_str().len() + 1).prefix(target_bytes);
        Ok(Request {
            method,
            target: target::parse(method, head, target)?,
            version,
            persistence: digest.persistence(version),
            framing: digest.framing(version)?,
            expectation: digest.expectation(version),
            condition: digest.condition(),
            head_bytes: head.len(),
            body_bytes: 0,
        })
    }

    /// Makes a request of a head whose version httparse does not take, by reading it as the highest minor
    /// version there is (RFC 9110 section 6.2). Offsets stay what they were.
    #[cold]
    fn tokenize_as_http11(&self, head: &[u8], limits: &Limits) -> Result<Request, Reject> {
        let line = self.request_line.ok_or(Reject::RequestLine)?;
        let mut patched = head.to_vec();
        match patched.get_mut(line.range()).and_then(<[u8]>::split_last_mut) {
            Some((minor, before))
                if before.ends_with(b"HTTP/1.") && matches!(minor, b'2'..=b'9') =>
            {
                *minor = b'1';
            }
            _ => return Err(Reject::RequestLine),
        }
        self.tokenize(&patched, limits)
    }

    /// What can be said against the request line, or against as much of it as has come: a client that
    /// speaks TLS to a plain port, say, is told at its first byte.
    #[cold]
    fn check_request_line(&self, bytes: &[u8], limits: &Limits) -> Result<(), Reject> {
        let line = match self.request_line {
            Some(line) => line.of(bytes),
            None => bytes.get(self.line_start..).unwrap_or_default(),
        };
        let method_length = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
        match (line.get(method_length), self.request_line) {
            (Some(b' '), _) if method_length > 0 => {}
            // The start of an empty line, perhaps, or of a method.
            (Some(b'\r'), None) if line.len() == 1 => return Ok(()),
            (None, None) => return Ok(()),
            _ => return Err(Reject::RequestLine),
        }
        if self.request_line.is_none() {
            return Ok(());
        }
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reject::RequestLine);
        };
        match *version {
            _ if target.is_empty() => Err(Reject::RequestLine),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                if target.len() > limits.target_bytes {
                    Err(Reject::TargetTooLong)
                } else if major != b'1' {
                    Err(Reject::Version)
                } else if str::from_utf8(method).ok().and_then(Method::from_token).is_none() {
                    Err(Reject::Method)
                } else {
                    Ok(())
                }
            }
            _ => Err(Reject::RequestLine),
        }
    }
}

impl From<httparse::Error> for Reject {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::Field,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            // NewLine: a CR without LF, in the request line or at the empty line.
            httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token
            | httparse::Error::Version => Self::RequestLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 200, target_bytes: 40, fields: 4 };

    /// Parses `head` whole and byte by byte; both must agree.
    fn parse_both(head: &[u8]) -> Result<Option<Request>, Reject> {
        let whole = parse(head, &mut Scan::new(), &LIMITS);
        let mut scan = Scan::new();
        let byte_by_byte = (1..=head.len())
            .map(|length| parse(&head[..length], &mut scan, &LIMITS))
            .find(|outcome| outcome != &Ok(None))
            .unwrap_or(Ok(None));
        assert_eq!(whole, byte_by_byte, "{}", head.escape_ascii());
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
            check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(Reject::RequestLine));
        }
    }

    #[test]
    fn statuses_of_well_formed_request_lines() {
        let check = |line, reject| check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(reject));
        check("BREW / HTTP/1.1", Reject::Method);
        check("get / HTTP/1.1", Reject::Method);
        check("GET / HTTP/2.0", Reject::Version);
        check("GET / HTTP/0.9", Reject::Version);
        check("GET a HTTP/1.1", Reject::Target);
        check("GET /# HTTP/1.1", Reject::Target);
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
            check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), Err(Reject::Field));
        }
        check("GET / HTTP/1.1\r\n\r\n", Err(Reject::Host));
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
        check("BREW / HTTP/1.1\r\nA\r\n\r\n", Err(Reject::Method));
        check("GET / HTTP/3.0\r\nHost: a\n", Err(Reject::Version));
        assert_eq!(parse_both(b"BREW / HTTP/1.1\r\n"), Err(Reject::Method));
        assert_eq!(parse_both(b"\x16\x03\x01"), Err(Reject::RequestLine));
    }
}
