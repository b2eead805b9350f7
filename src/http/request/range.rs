//! Range requests: `Range` and `If-Range` (RFC 9110 sections 14.1, 14.2 and 13.1.5).
//!
//! One range of bytes is served. A server may ignore the field, and this one does so if it names several ranges or
//! another unit, is malformed, or is repeated: the whole representation is always a correct response.

use crate::http::{
    Span,
    request::lines::{list, parse_u64, values},
};

/// The part of a representation that a request selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedRange {
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Part(Span),
    /// None, because the representation is shorter: 416.
    Unsatisfiable,
}

/// Returns what a GET request with this head selects of a representation of this length in bytes. `is_current` returns
/// whether a validator is the representation's strong entity tag, in quotes; few requests have one.
pub fn select(head: &[u8], is_current: impl Fn(&[u8]) -> bool, length: usize) -> SelectedRange {
    let mut ranges = values(head, "range");
    match (ranges.next(), ranges.next()) {
        (Some(range), None) if if_range_holds(head, is_current) => {
            parse(range, length).unwrap_or(SelectedRange::Whole)
        }
        _ => SelectedRange::Whole,
    }
}

/// Whether `If-Range` is absent or has the current entity tag. Tags are compared strongly, so a weak one never matches.
/// A date never matches either, because no representation has a modification date.
fn if_range_holds(head: &[u8], is_current: impl Fn(&[u8]) -> bool) -> bool {
    let mut validators = values(head, "if-range");
    match (validators.next(), validators.next()) {
        (None, _) => true,
        (Some(validator), None) => is_current(validator),
        (Some(_), Some(_)) => false,
    }
}

/// Evaluates the only range of `value`. Returns `None` if the field is to be ignored.
fn parse(value: &[u8], length: usize) -> Option<SelectedRange> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    let (unit, set) = value.split_at_checked(equals)?;
    let mut ranges = list(set.get(1..)?);
    let (range, None) = (ranges.next()?, ranges.next()) else { return None };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (range.get(..dash)?, range.get(dash + 1..)?);
    let (start, end) = if first.is_empty() {
        (length.saturating_sub(position(last)?), length)
    } else {
        let first = position(first)?;
        let last = if last.is_empty() { usize::MAX } else { position(last)? };
        if last < first {
            return None;
        }
        (first, last.saturating_add(1).min(length))
    };
    Some(if start < end {
        SelectedRange::Part(Span::new(start, end))
    } else {
        SelectedRange::Unsatisfiable
    })
}

/// Parses one or more digits. A position beyond the largest that a number has in memory is beyond every representation.
fn position(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let position = parse_u64(digits).unwrap_or(u64::MAX);
    Some(usize::try_from(position).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: fn(usize, usize) -> SelectedRange =
        |start, end| SelectedRange::Part(Span::new(start, end));

    fn check(fields: &str, expected: SelectedRange) {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(select(head.as_bytes(), |tag| tag == b"\"20\"", 10), expected, "{fields}");
    }

    #[test]
    fn one_range_selects_a_part() {
        for (range, start, end) in [
            ("0-0", 0, 1),
            ("0-9", 0, 10),
            ("3-5", 3, 6),
            ("3-", 3, 10),
            ("9-", 9, 10),
            ("0-", 0, 10),
            ("8-10", 8, 10),
            ("8-99999999999999999999", 8, 10),
            ("-1", 9, 10),
            ("-10", 0, 10),
            ("-11", 0, 10),
            ("-99999999999999999999", 0, 10),
            ("003-0005", 3, 6),
            (" 3-5\t", 3, 6),
            (",3-5,,", 3, 6),
        ] {
            check(&format!("Range: bytes={range}"), PART(start, end));
        }
        check("range:BYTES=1-2", PART(1, 3));
    }

    #[test]
    fn a_range_beyond_the_end_is_unsatisfiable() {
        for range in ["10-", "10-20", "99999999999999999999-", "-0", "-000"] {
            check(&format!("Range: bytes={range}"), SelectedRange::Unsatisfiable);
        }
    }

    #[test]
    fn other_fields_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=--2",
            "bytes=0x1-2",
            "bytes=1 -2",
            "bytes=1-2x",
            "bytes=1-\u{662}",
            "bytes=0-1,3-4",
            "bytes=0-1,x",
            "bytes =0-1",
            "=0-1",
            "lines=0-1",
            "byte=0-1",
            "0-1",
        ] {
            check(&format!("Range: {value}"), SelectedRange::Whole);
        }
        check("Range: bytes=0-1\r\nRange: bytes=0-1", SelectedRange::Whole);
        check("A: bytes=0-1", SelectedRange::Whole);
    }

    #[test]
    fn if_range_is_compared_strongly() {
        check("Range: bytes=3-5\r\nIf-Range: \"20\"", PART(3, 6));
        check("If-Range: \"20\"", SelectedRange::Whole);
        for other in [
            "\"21\"",
            "W/\"20\"",
            "20",
            "*",
            "",
            "\"20\", \"20\"",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "\"20\"\r\nIf-Range: \"20\"",
        ] {
            check(&format!("Range: bytes=3-5\r\nIf-Range: {other}"), SelectedRange::Whole);
            check(&format!("Range: bytes=99-\r\nIf-Range: {other}"), SelectedRange::Whole);
        }
    }
}
