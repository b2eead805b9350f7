//! HTTP/1.1 on bytes: request heads in, responses out.
//!
//! This file has the terms of RFC 9110 that the rest of the crate shares. Heads are parsed in [`request::head`], bodies
//! are discarded in [`request::body`], and responses are rendered in [`render`]. Nothing here does I/O or reads a
//! clock.

pub mod conn;
pub mod date;
pub mod decimal;
mod fields;
pub mod json;
pub mod preamble;
pub mod render;
pub mod request;
pub mod response;
mod status;

pub use request::reject::Reject;
pub use status::Status;

/// A range of bytes in a buffer that has another owner. Unlike a borrow it leaves the buffer usable. Buffers are
/// smaller than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes from `start` to `end`, excluding `end`.
    #[expect(clippy::cast_possible_truncation, reason = "heads are bounded far below 4 GiB")]
    pub const fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, end: end as u32 }
    }

    /// The span's bytes in `buffer`; empty if the span exceeds the buffer.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.range()).unwrap_or_default()
    }

    /// The span as a range of indices.
    pub const fn range(self) -> core::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The first `length` bytes of this span.
    #[must_use]
    pub const fn prefix(self, length: usize) -> Self {
        Self::new(self.start as usize, self.start as usize + length)
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span is empty.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes after this span in `buffer`.
    pub fn after(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.end as usize..).unwrap_or_default()
    }

    /// This span without its first `length` bytes.
    #[must_use]
    pub const fn suffix(self, length: usize) -> Self {
        Self::new(self.start as usize + length, self.end as usize)
    }
}

/// The request methods this server knows (RFC 9110 section 9, PATCH from RFC 5789). Any other method is rejected
/// with 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the methods' own names")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl Method {
    /// Every method, in the order of the discriminants.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
    ];

    /// The method's token on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }

    /// Returns the known method with this token. Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn from_token(token: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str().as_bytes() == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_are_case_sensitive() {
        for method in Method::ALL {
            assert_eq!(Method::from_token(method.as_str().as_bytes()), Some(method));
        }
        assert_eq!(Method::from_token(b"get"), None);
        assert_eq!(Method::from_token(b"BREW"), None);
    }

    #[test]
    fn lists_follow_the_discriminants() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
    }
}
