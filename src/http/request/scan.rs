//! Finds the end of a head and checks the request line as soon as it is complete. Header fields are checked in
//! [`super::head`].

use crate::http::{
    Method, Reject, Span,
    request::{
        head_cache::CacheSlot,
        limits::Limits,
        request_line::{Prefix, RequestLine},
    },
};

/// How far the head at the front of a connection's input has been read.
///
/// Each byte is read once, however the head arrives. The exception is the request line, which is read once more
/// when it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadScanner {
    /// Every line end before this offset has been seen.
    searched: usize,
    /// Offset of the first line whose end has not been seen.
    line_start: usize,
    /// Bytes of empty lines that have been removed from the input. They count towards the limit of the head.
    removed: usize,
    request_line: Progress,
    /// Where the connection's previous head may be cached.
    pub(super) cached: CacheSlot,
}

/// How far the request line has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The line is incomplete.
    Incomplete(Prefix),
    /// The line is valid, and the header block begins at the offset.
    Complete(RequestLine, usize),
}

/// A complete head.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompleteHead<'b> {
    /// The whole head, the empty line included.
    pub(super) bytes: &'b [u8],
    /// The request line at its front.
    pub(super) request_line: RequestLine,
    /// The header fields and the empty line.
    pub(super) header_block: &'b [u8],
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self::new(CacheSlot::default())
    }
}

impl HeadScanner {
    const fn new(cached: CacheSlot) -> Self {
        let request_line = Progress::Incomplete(Prefix::Method(0));
        Self { searched: 0, line_start: 0, removed: 0, request_line, cached }
    }

    /// Whether no byte of the head has been read.
    pub(super) const fn is_at_start(&self) -> bool {
        self.searched + self.removed == 0
    }

    /// Bytes of empty lines that have been removed before the head.
    pub(super) const fn removed(&self) -> usize {
        self.removed
    }

    /// Removes the empty lines at the front of the input, if no request line follows them yet. Returns their length,
    /// by which the caller must shorten the input.
    ///
    /// A client may send a line end after a request (RFC 9112 section 2.2). It does not begin the next one.
    pub const fn remove_empty_lines(&mut self) -> usize {
        if !matches!(self.request_line, Progress::Incomplete(_)) {
            return 0;
        }
        let length = self.line_start;
        self.line_start = 0;
        self.searched -= length;
        self.removed += length;
        length
    }

    /// Starts over with the next head.
    pub const fn restart(&mut self) {
        *self = Self::new(self.cached);
    }

    /// Reads on in `window`, which is the head as far as it has arrived. Returns the head when it is complete.
    pub(super) fn find_end<'b>(
        &mut self,
        window: &'b [u8],
        limits: &Limits,
    ) -> Result<Option<CompleteHead<'b>>, Reject> {
        while let Some(line_feed) = self.find_line_feed(window) {
            self.searched = line_feed;
            let line = window.get(self.line_start..line_feed).unwrap_or_default();
            match (line, self.request_line) {
                ([b'\r'], Progress::Complete(request_line, start)) => {
                    let bytes = window.get(..=line_feed).unwrap_or_default();
                    let header_block = bytes.get(start..).unwrap_or_default();
                    return Ok(Some(CompleteHead { bytes, request_line, header_block }));
                }
                // Empty lines before the request line are ignored (RFC 9112 section 2.2).
                ([b'\r'], Progress::Incomplete(_)) | ([.., b'\r'], Progress::Complete(..)) => {}
                ([.., b'\r'], Progress::Incomplete(_)) => {
                    let line = Span::new(self.line_start, line_feed - 1);
                    let line = RequestLine::parse(window, line, limits)?;
                    self.request_line = Progress::Complete(line, line_feed + 1);
                }
                _ => {
                    self.check_incomplete_line(window)?;
                    return Err(Reject::BareLineFeed);
                }
            }
            self.searched = line_feed + 1;
            self.line_start = self.searched;
        }
        self.searched = window.len();
        self.check_incomplete_line(window)?;
        Ok(None)
    }

    /// Whether the method is HEAD, as far as the request line has been read. Bytes that arrived but have not been
    /// read do not count, because the response would then depend on how the stream was split.
    pub(crate) fn is_head_method(&self, bytes: &[u8]) -> bool {
        match self.request_line {
            Progress::Complete(line, _) => line.method == Method::Head,
            Progress::Incomplete(_) => bytes
                .get(self.line_start..self.searched)
                .is_some_and(|line| line.starts_with(b"HEAD ")),
        }
    }

    /// The reason to reject a head whose end is not within the limit.
    pub(super) const fn limit_exceeded(&self) -> Reject {
        match self.request_line {
            Progress::Complete(..) | Progress::Incomplete(Prefix::Method(0)) => {
                Reject::HeadTooLarge
            }
            Progress::Incomplete(Prefix::Method(_)) => Reject::UnknownMethod,
            Progress::Incomplete(_) => Reject::TargetTooLong,
        }
    }

    fn find_line_feed(&self, window: &[u8]) -> Option<usize> {
        let offset = memchr::memchr(b'\n', window.get(self.searched..)?)?;
        Some(self.searched + offset)
    }

    /// Checks the request line as far as it has arrived.
    fn check_incomplete_line(&mut self, window: &[u8]) -> Result<(), Reject> {
        if let Progress::Incomplete(prefix) = &mut self.request_line {
            *prefix = prefix.check(window.get(self.line_start..).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::head::Parser;

    const LIMITS: Limits =
        Limits { head_bytes: 8192, target_bytes: 4096, fields: 16, body_bytes: 0, pipelined: 8 };

    /// Sends a head byte by byte and overwrites every byte that has been read. If the outcome is right, no byte
    /// was read twice and the work is linear. Two exceptions: the byte before, because a line ends in two bytes,
    /// and the request line when it is complete, which is then read as a whole.
    fn check_bytes_are_read_once(head: &str) {
        let (mut parser, mut scan) = (Parser::new(LIMITS), HeadScanner::default());
        let (_last, first) = head.as_bytes().split_last().unwrap();
        let mut window = Vec::new();
        for (at, byte) in first.iter().enumerate() {
            window.push(*byte);
            let whole = first.get(..=at).unwrap();
            let is_incomplete = matches!(scan.request_line, Progress::Incomplete(_));
            let ends_request_line = *byte == b'\n' && is_incomplete;
            let bytes = if ends_request_line { whole } else { &window };
            assert_eq!(parser.parse(bytes, &mut scan), Ok(None), "{}", whole.escape_ascii());
            window.get_mut(..at).unwrap().fill(b'\n');
        }
        assert!(parser.parse(head.as_bytes(), &mut scan).is_ok_and(|request| request.is_some()));
    }

    #[test]
    fn a_head_that_arrives_byte_by_byte_is_read_in_linear_time() {
        let long = "x".repeat(2000);
        check_bytes_are_read_once("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        check_bytes_are_read_once("\r\n\r\nOPTIONS * HTTP/1.0\r\n\r\n");
        check_bytes_are_read_once(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"));
        check_bytes_are_read_once(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"));
    }

    #[test]
    fn removed_empty_lines_count_towards_the_limit() {
        let limits = Limits { head_bytes: 40, ..LIMITS };
        let head = "GET / HTTP/1.1\r\nHost: ab\r\n\r\n";
        for (lines, is_accepted) in [(5, true), (6, true), (7, false)] {
            let (mut parser, mut scan) = (Parser::new(limits), HeadScanner::default());
            for _ in 0..lines {
                assert_eq!(parser.parse(b"\r\n", &mut scan), Ok(None));
                assert_eq!(scan.remove_empty_lines(), 2);
                assert_eq!(scan.remove_empty_lines(), 0);
            }
            let outcome = parser.parse(head.as_bytes(), &mut scan);
            let expected = Err(Reject::HeadTooLarge);
            let is_request = outcome.as_ref().is_ok_and(Option::is_some);
            assert!(if is_accepted { is_request } else { outcome == expected }, "{lines}");
        }
    }

    #[test]
    fn empty_lines_can_be_removed_until_the_request_line_is_complete() {
        let (mut parser, mut scan) = (Parser::new(LIMITS), HeadScanner::default());
        assert_eq!(parser.parse(b"\r\nGET", &mut scan), Ok(None));
        assert_eq!(scan.remove_empty_lines(), 2);
        assert_eq!(parser.parse(b"GET / HTTP/1.1\r\n", &mut scan), Ok(None));
        assert_eq!(scan.remove_empty_lines(), 0);
        let request = parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut scan);
        assert_eq!(request.unwrap().unwrap().head_bytes, 27);
    }
}
