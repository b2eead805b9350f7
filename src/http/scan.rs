//! Finding where a head ends, and what can be said against one that has not ended.
//!
//! Tells lines apart and judges request lines; what stands in the fields is for [`super::head`].

use super::{Method, Reject, Span, blocks::Hint, body::is_token, head::Limits};

/// Where a connection stands in reading heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every line end before here has been seen.
    searched: usize,
    /// Where the line under way begins.
    line_start: usize,
    /// The request line without its line end, once that has been seen.
    pub(super) request_line: Option<Span>,
    /// Where the fields of the request before this one may be found.
    pub(super) familiar: Hint,
}

impl Scan {
    /// Whether nothing of a head has been looked at.
    pub(super) const fn is_at_start(&self) -> bool {
        self.searched == 0
    }

    /// Forgets the head that has been read, and goes on to the next.
    pub const fn restart(&mut self) {
        *self = Self { searched: 0, line_start: 0, request_line: None, familiar: self.familiar };
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
    pub(crate) fn asks_with_head(&self, bytes: &[u8]) -> bool {
        let line = match self.request_line {
            Some(line) => line.of(bytes),
            None => bytes.get(self.line_start..self.searched).unwrap_or_default(),
        };
        line.starts_with(b"HEAD ")
    }

    /// Why a head whose end is not within the limit is refused.
    pub(super) const fn what_is_too_long(&self) -> Reject {
        match self.request_line {
            Some(_) => Reject::HeadTooLarge,
            None => Reject::TargetTooLong,
        }
    }

    /// What can be said against the request line, or against as much of it as has come: a client that
    /// speaks TLS to a plain port, say, is told at its first byte.
    #[cold]
    pub(super) fn check_request_line(&self, bytes: &[u8], limits: &Limits) -> Result<(), Reject> {
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
