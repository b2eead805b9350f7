//! The start of a number's head: the fields that all such responses of a second share, rendered once per second.

use crate::http::date;

/// Nearly every response is a number, and this part of its head changes only with the date.
const BEFORE_DATE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Accept-Ranges: bytes\r\n\
    Cache-Control: public, max-age=31536000, immutable\r\n\
    Vary: Accept, Accept-Encoding\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: *\r\n\
    Date: ";

/// Length in bytes, with the line end after the date.
pub const LENGTH: usize = BEFORE_DATE.len() + date::LENGTH + 2;

/// The head of a 200 response with a number, up to and including the line of `Date`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble([u8; LENGTH]);

impl Preamble {
    /// Renders it with this date.
    pub const fn new(date: &[u8; date::LENGTH]) -> Self {
        let mut bytes = [0; LENGTH];
        let (head, rest) = bytes.split_at_mut(BEFORE_DATE.len());
        head.copy_from_slice(BEFORE_DATE);
        let (value, line_end) = rest.split_at_mut(date::LENGTH);
        value.copy_from_slice(date);
        line_end.copy_from_slice(b"\r\n");
        Self(bytes)
    }

    /// All bytes.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// The value of `Date`.
    pub const fn date(&self) -> &[u8] {
        self.0.split_at(BEFORE_DATE.len()).1.split_at(date::LENGTH).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_the_last_field() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let preamble = Preamble::new(date);
        assert_eq!(preamble.date(), date);
        assert!(preamble.as_bytes().ends_with(b"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
    }
}
