//! Lines, lists and tokens: the syntax that request lines and header fields share (RFC 9110 section 5).

/// Returns the request line at the front of `text` without its line end, and the bytes after it. The line may be
/// incomplete. Empty lines before it are skipped.
pub fn request_line(text: &[u8]) -> (&[u8], &[u8]) {
    let empty_lines = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = text.get(empty_lines..).unwrap_or_default();
    let length = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    let (line, rest) = text.split_at_checked(length).unwrap_or((text, b""));
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Returns the non-empty elements of a comma-separated list without quoted strings, as in `Connection` (RFC 9110
/// section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Returns the field lines of a header block without their line ends, up to an empty or an incomplete line.
pub fn lines(header_block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header_block;
    std::iter::from_fn(move || {
        let line;
        (line, rest) = rest.split_at_checked(memchr::memchr(b'\n', rest)? + 1)?;
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    })
}

/// Splits a field line into name and value, if it has a colon.
pub fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((name, value.get(1..)?.trim_ascii()))
}

/// Returns the values of all fields named `name` in a valid head, in order.
pub fn values<'h>(head: &'h [u8], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let is_named = |found: &[u8]| found.eq_ignore_ascii_case(name.as_bytes());
    let (_request_line, header_block) = request_line(head);
    lines(header_block)
        .filter_map(parts)
        .filter_map(move |(found, value)| is_named(found).then_some(value))
}

/// Parses `digits`, which must all be ASCII digits. Returns `None` if the number exceeds 64 bits. Leading zeros are
/// ignored.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// Whether `byte` is a `tchar` (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether `byte` may be part of a field value or a quoted string (RFC 9110 section 5.5): no control character but the
/// tab.
pub(super) const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_line_is_split_from_the_header_block() {
        for (text, line, block) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1", "Host: a\r\n\r\n"),
            ("\r\n\r\nGET /\n\r\n", "GET /", "\r\n"),
            ("GET /a b\r\r\n", "GET /a b\r", ""),
            ("GET /\r", "GET /", ""),
            ("G", "G", ""),
            ("\r\n", "", ""),
            ("", "", ""),
        ] {
            let (line, block) = (line.as_bytes(), block.as_bytes());
            assert_eq!(request_line(text.as_bytes()), (line, block), "{text:?}");
        }
    }

    #[test]
    fn values_are_those_of_every_field_of_the_name() {
        let head =
            b"GET /accept: HTTP/1.1\r\nAccept: a\r\nX: y\r\naccept:b , c\r\nAcceptX: d\r\n\r\n";
        assert_eq!(values(head, "accept").collect::<Vec<_>>(), [&b"a"[..], b"b , c"]);
    }

    #[test]
    fn field_lines_end_at_an_empty_line() {
        let check = |text: &str, expected: &[Option<(&str, &str)>]| {
            let text_of = |bytes| str::from_utf8(bytes).unwrap();
            let parts = |line| parts(line).map(|(name, value)| (text_of(name), text_of(value)));
            assert_eq!(lines(text.as_bytes()).map(parts).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("A:\tb \r\nC:d\r\n\r\nAfter: x\r\n", &[Some(("A", "b")), Some(("C", "d"))]);
        check("no colon\r\n: c\n:\r\n", &[None, Some(("", "c")), Some(("", ""))]);
        check("A: b\r\n\nC: d\r\n", &[Some(("A", "b"))]);
        check("A: b\r\nC: cut of", &[Some(("A", "b"))]);
        check("", &[]);
    }

    #[test]
    fn decimals_are_limited_to_64_bits() {
        assert_eq!(parse_u64(b"000"), Some(0));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(&[b'0'; 5000]), Some(0));
    }
}
