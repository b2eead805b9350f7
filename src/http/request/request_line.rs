//! The request line (RFC 9112 section 3), which nothing else reads.
//!
//! Heads are parsed with [`RequestLine::parse`], which is strict. The access log takes the [`Parts`] of any line,
//! also of one that has been rejected.

use crate::http::{
    Method, Reject, Span,
    request::{
        headers::Version,
        limits::Limits,
        lines::is_token,
        target::{self, Target},
    },
};

/// A valid request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    /// The target, as offsets into the head.
    pub target: Target,
    /// The minor version of HTTP/1.
    pub version: Version,
}

impl RequestLine {
    /// Parses the complete line at `line` of `head`, which excludes the line end.
    pub fn parse(head: &[u8], line: Span, limits: &Limits) -> Result<Self, Reject> {
        Self::parse_valid(head, line, limits).ok_or_else(|| defect(line.of(head), limits))
    }

    /// Parses a valid line. This is the hot path: it compares whole words and reads only the target byte by byte.
    fn parse_valid(head: &[u8], line: Span, limits: &Limits) -> Option<Self> {
        let (minor_version, rest) = line.of(head).split_last()?;
        let method_and_target = rest.strip_suffix(b" HTTP/1.")?;
        let version = match minor_version {
            b'0' => Version::Http10,
            // A higher minor version is read as 1.1 (RFC 9110 section 2.5).
            b'1'..=b'9' => Version::Http11,
            _ => return None,
        };
        let (method, target) = split_method(method_and_target)?;
        if target.len() > limits.target_bytes {
            return None;
        }
        let target = line.suffix(method_and_target.len() - target.len()).prefix(target.len());
        Some(Self { method, target: target::parse(method, head, target).ok()?, version })
    }
}

/// Splits a known method and the space after it from `text`. Methods are case-sensitive (RFC 9110 section 9.1).
fn split_method(text: &[u8]) -> Option<(Method, &[u8])> {
    // Nearly every request uses one of the first two.
    match text {
        [b'G', b'E', b'T', b' ', rest @ ..] => Some((Method::Get, rest)),
        [b'H', b'E', b'A', b'D', b' ', rest @ ..] => Some((Method::Head, rest)),
        _ => Method::ALL.into_iter().find_map(|method| {
            let rest = text.strip_prefix(method.as_str().as_bytes())?.strip_prefix(b" ")?;
            Some((method, rest))
        }),
    }
}

/// Returns the reason to reject `line`, which is not valid.
#[cold]
fn defect(line: &[u8], limits: &Limits) -> Reject {
    match Parts::split(line) {
        Some(parts) if parts.are_well_formed() => {
            if parts.target.len() > limits.target_bytes {
                Reject::TargetTooLong
            } else if !parts.version.starts_with(b"HTTP/1.") {
                Reject::UnsupportedVersion
            } else if Method::from_token(parts.method).is_none() {
                Reject::UnknownMethod
            } else {
                Reject::BadTarget
            }
        }
        _ => Reject::BadRequestLine,
    }
}

/// The three parts of a request line. Only [`RequestLine::parse`] checks what they consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The bytes before the first space.
    pub method: &'a [u8],
    /// The bytes between the first and the last space.
    pub target: &'a [u8],
    /// The bytes after the last space.
    pub version: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Splits `line` at its first and its last space; `None` if it has fewer than two.
    pub fn split(line: &'a [u8]) -> Option<Self> {
        let (method, rest) = line.split_at_checked(memchr::memchr(b' ', line)?)?;
        let rest = rest.get(1..)?;
        let (target, version) = rest.split_at_checked(memchr::memrchr(b' ', rest)?)?;
        Some(Self { method, target, version: version.get(1..)? })
    }

    /// Whether the line is `method SP request-target SP HTTP-version`, whatever the parts mean.
    fn are_well_formed(&self) -> bool {
        let is_visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0x80..);
        !self.method.is_empty()
            && self.method.iter().all(|byte| is_token(*byte))
            && !self.target.is_empty()
            && self.target.iter().all(is_visible)
            && matches!(
                self.version,
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']
            )
    }
}

/// How much of an incomplete request line has been checked, so that a line which arrives byte by byte is not
/// checked again from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// This many bytes, all of which may belong to a method.
    Method(usize),
    /// The method and the space after it. Everything else is checked when the line is complete.
    Target,
}

impl Prefix {
    /// Checks the bytes of an incomplete `line` that have not been checked. A client that speaks TLS to a
    /// plain port is thus rejected at its first byte.
    pub(super) fn check(self, line: &[u8]) -> Result<Self, Reject> {
        let Self::Method(checked) = self else { return Ok(self) };
        let unchecked = line.get(checked..).unwrap_or_default();
        let token_bytes = unchecked.iter().take_while(|byte| is_token(**byte)).count();
        let length = checked + token_bytes;
        match unchecked.get(token_bytes) {
            None => Ok(Self::Method(length)),
            Some(b' ') if length > 0 => Ok(Self::Target),
            // The line may turn out to be empty.
            Some(b'\r') if line.len() == 1 => Ok(Self::Method(0)),
            Some(_) => Err(Reject::BadRequestLine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { head_bytes: 0, target_bytes: 20, fields: 0, body_bytes: 0, pipelined: 0 };

    fn check(line: &str, expected: Result<(Method, Version), Reject>) {
        // Offsets are those of the head, where empty lines may precede the request line.
        let head = format!("\r\n{line}\r\n\r\n");
        let span = Span::new(2, 2 + line.len());
        let found = RequestLine::parse(head.as_bytes(), span, &LIMITS);
        assert_eq!(found.map(|line| (line.method, line.version)), expected, "{line:?}");
    }

    #[test]
    fn the_path_is_found_in_the_head() {
        let head = b"\r\nGET /a?b HTTP/1.1\r\n\r\n";
        let line = RequestLine::parse(head, Span::new(2, 19), &LIMITS).unwrap();
        let Target::Path(path) = line.target else { panic!("{line:?}") };
        assert_eq!(path.of(head), b"/a");
    }

    #[test]
    fn a_minor_version_above_1_is_read_as_1() {
        for minor in 1..=9 {
            check(&format!("GET / HTTP/1.{minor}"), Ok((Method::Get, Version::Http11)));
        }
        check("OPTIONS * HTTP/1.0", Ok((Method::Options, Version::Http10)));
    }

    #[test]
    fn of_several_defects_the_gravest_decides() {
        let long = format!("/{}", "x".repeat(LIMITS.target_bytes));
        check(&format!("GET {long} {long} HTTP/1.1"), Err(Reject::BadRequestLine));
        check(&format!("BREW {long} HTTP/2.0"), Err(Reject::TargetTooLong));
        check("BREW x HTTP/2.0", Err(Reject::UnsupportedVersion));
        check("BREW x HTTP/1.1", Err(Reject::UnknownMethod));
        check("GET x HTTP/1.1", Err(Reject::BadTarget));
    }

    #[test]
    fn control_characters_make_the_line_malformed_and_others_the_target() {
        for target in ["/\u{1}", "/\t", "/\r", "/\0", "/\u{7f}"] {
            check(&format!("GET {target} HTTP/1.1"), Err(Reject::BadRequestLine));
        }
        for target in ["/\u{e9}", "/\"", "/<>"] {
            check(&format!("GET {target} HTTP/1.1"), Err(Reject::BadTarget));
        }
    }

    #[test]
    fn any_line_with_two_spaces_has_parts() {
        let split = |line: &'static str| {
            Parts::split(line.as_bytes()).map(|parts| {
                [parts.method, parts.target, parts.version]
                    .map(|part| str::from_utf8(part).unwrap())
            })
        };
        assert_eq!(split("GET / HTTP/1.1"), Some(["GET", "/", "HTTP/1.1"]));
        assert_eq!(split("GET /a b HTTP/1.1"), Some(["GET", "/a b", "HTTP/1.1"]));
        assert_eq!(split("GET  x"), Some(["GET", "", "x"]));
        assert_eq!(split("  "), Some(["", "", ""]));
        for line in ["", "GET", "GET /", " "] {
            assert_eq!(split(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_incomplete_line_is_checked_up_to_its_method() {
        let check = |line: &str, expected| {
            let byte_by_byte = (1..=line.len()).try_fold(Prefix::Method(0), |prefix, length| {
                prefix.check(&line.as_bytes()[..length])
            });
            assert_eq!(byte_by_byte, expected, "{line:?}");
            assert_eq!(Prefix::Method(0).check(line.as_bytes()), expected, "{line:?}");
        };
        check("", Ok(Prefix::Method(0)));
        check("\r", Ok(Prefix::Method(0)));
        check("BREW", Ok(Prefix::Method(4)));
        check("BREW ", Ok(Prefix::Target));
        check("BREW \0", Ok(Prefix::Target));
        for bad in [" ", "\u{16}", "GET\t", "GET\r", "\rG", "G\u{e9}T"] {
            check(bad, Err(Reject::BadRequestLine));
        }
    }
}
