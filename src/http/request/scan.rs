//! Finding where a head ends, and what can be said against one that has not ended.
//!
//! Tells lines apart and judges request lines; what stands in the fields is for [`super::head`].

use crate::http::{
    Method, Reject, Span,
    request::{header_cache::CacheSlot, limits::Limits, lines::is_token},
};

/// Where a connection stands in reading heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Every line end before here has been seen.
    searched: usize,
    /// Where the line under way begins.
    line_start: usize,
    /// The request line without its line end, once that has been seen.
    pub(super) request_line: Option<Span>,
    /// How much of the request line has been judged.
    judged: Judged,
    /// Where the fields of the request before this one may be found.
    pub(super) cached: CacheSlot,
}

/// How much of a request line has been found good. Kept so that a line which comes byte by byte, or stands
/// before fields that do, is not read again with each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// So many bytes at its start, all of which may stand in a method.
    Method(usize),
    /// The method and the space behind it. All else has to wait for the end of the line.
    Start,
    /// All of it.
    Line,
}

impl Default for Judged {
    fn default() -> Self {
        Self::Method(0)
    }
}

impl HeadScanner {
    /// Whether nothing of a head has been looked at.
    pub(super) const fn is_at_start(&self) -> bool {
        self.searched == 0
    }

    /// Forgets the head that has been read, and goes on to the next.
    pub const fn restart(&mut self) {
        *self = Self {
            searched: 0,
            line_start: 0,
            request_line: None,
            judged: Judged::Method(0),
            cached: self.cached,
        };
    }

    /// Goes on looking for the empty line; returns the head once that is there.
    pub(super) fn find_end<'b>(&mut self, window: &'b [u8]) -> Result<Option<&'b [u8]>, Reject> {
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
                _ => {
                    self.searched = line_feed;
                    return Err(Reject::BareLineFeed);
                }
            }
            self.searched = line_feed + 1;
            self.line_start = self.searched;
        }
        self.searched = window.len();
        Ok(None)
    }

    /// Whether the request line, or as much of it as has been looked at, asks with HEAD. Only what was
    /// looked at counts, or it would depend on how much came at once.
    pub(crate) fn is_head_method(&self, bytes: &[u8]) -> bool {
        let line = match self.request_line {
            Some(line) => line.of(bytes),
            None => bytes.get(self.line_start..self.searched).unwrap_or_default(),
        };
        line.starts_with(b"HEAD ")
    }

    /// Why a head whose end is not within the limit is refused.
    pub(super) const fn limit_exceeded(&self) -> Reject {
        match self.request_line {
            Some(_) => Reject::HeadTooLarge,
            None => Reject::TargetTooLong,
        }
    }

    /// What can be said against the request line, or against as much of it as has come: a client that
    /// speaks TLS to a plain port, say, is told at its first byte.
    #[cold]
    pub(super) fn check_request_line(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), Reject> {
        match (self.request_line, self.judged) {
            (_, Judged::Line) | (None, Judged::Start) => Ok(()),
            (Some(line), Judged::Method(_) | Judged::Start) => {
                check_whole(line.of(bytes), limits)?;
                self.judged = Judged::Line;
                Ok(())
            }
            (None, Judged::Method(length)) => {
                let line = bytes.get(self.line_start..).unwrap_or_default();
                self.judged = check_start(line, length)?;
                Ok(())
            }
        }
    }
}

/// Judges what has come of a request line, the first `length` bytes of which may stand in a method.
fn check_start(line: &[u8], length: usize) -> Result<Judged, Reject> {
    let new = line.get(length..).unwrap_or_default();
    let length = length + new.iter().position(|byte| !is_token(*byte)).unwrap_or(new.len());
    match line.get(length) {
        None => Ok(Judged::Method(length)),
        Some(b' ') if length > 0 => Ok(Judged::Start),
        // The start of an empty line, perhaps.
        Some(b'\r') if line.len() == 1 => Ok(Judged::Method(0)),
        Some(_) => Err(Reject::BadRequestLine),
    }
}

/// Judges a request line that is all there.
fn check_whole(line: &[u8], limits: &Limits) -> Result<(), Reject> {
    if check_start(line, 0)? != Judged::Start {
        return Err(Reject::BadRequestLine);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reject::BadRequestLine);
    };
    match *version {
        _ if target.is_empty() => Err(Reject::BadRequestLine),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if target.len() > limits.target_bytes {
                Err(Reject::TargetTooLong)
            } else if major != b'1' {
                Err(Reject::UnsupportedVersion)
            } else if str::from_utf8(method).ok().and_then(Method::from_token).is_none() {
                Err(Reject::UnknownMethod)
            } else {
                Ok(())
            }
        }
        _ => Err(Reject::BadRequestLine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::head::Parser;

    const LIMITS: Limits =
        Limits { head_bytes: 8192, target_bytes: 4096, fields: 16, body_bytes: 0, pipelined: 8 };

    /// Has a head come byte by byte, and spoils what has been looked at: if nothing notices, nothing has
    /// looked again, and the work is linear. Excepted are the byte before, as a line ends in two, and the
    /// request line when it ends, which is then read once as a whole.
    fn check_bytes_are_looked_at_once(head: &str) {
        let (mut parser, mut scan) = (Parser::new(LIMITS), HeadScanner::default());
        let (_last, first) = head.as_bytes().split_last().unwrap();
        let mut window = Vec::new();
        for (at, byte) in first.iter().enumerate() {
            window.push(*byte);
            let whole = first.get(..=at).unwrap();
            let ends_request_line = *byte == b'\n' && scan.request_line.is_none();
            let bytes = if ends_request_line { whole } else { &window };
            assert_eq!(parser.parse(bytes, &mut scan), Ok(None), "{}", whole.escape_ascii());
            window.get_mut(..at).unwrap().fill(b'\n');
        }
        assert!(parser.parse(head.as_bytes(), &mut scan).is_ok_and(|request| request.is_some()));
    }

    #[test]
    fn a_head_that_dribbles_in_is_not_read_again_with_each_byte() {
        let long = "x".repeat(2000);
        check_bytes_are_looked_at_once("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        check_bytes_are_looked_at_once("\r\n\r\nOPTIONS * HTTP/1.0\r\n\r\n");
        check_bytes_are_looked_at_once(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"));
        check_bytes_are_looked_at_once(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"));
    }
}
