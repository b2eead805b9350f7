//! Lines, lists and tokens: the pieces that request lines and header fields are made of (RFC 9110 section 5).

/// The request line at the front of `text`, without its line end, or what has come of it; and what stands
/// behind it. Empty lines before it are left out.
pub fn request_line(text: &[u8]) -> (&[u8], &[u8]) {
    let empty_lines = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = text.get(empty_lines..).unwrap_or_default();
    let length = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    let (line, behind) = text.split_at_checked(length).unwrap_or((text, b""));
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    (line.strip_suffix(b"\r").unwrap_or(line), behind)
}

/// The non-empty elements of a comma-separated list without quoted strings, such as `Connection` has
/// (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The field lines that stand behind a request line, without their line ends, up to an empty line or to one
/// that has no end.
pub fn lines(behind_request_line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = behind_request_line;
    std::iter::from_fn(move || {
        let line;
        (line, rest) = rest.split_at_checked(memchr::memchr(b'\n', rest)? + 1)?;
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    })
}

/// The name and the value of a field line, if it has a colon.
pub fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((name, value.get(1..)?.trim_ascii()))
}

/// The values of every field named `name` in a head that has been parsed before, in their order.
pub fn values<'h>(head: &'h [u8], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let is_named = |found: &[u8]| found.eq_ignore_ascii_case(name.as_bytes());
    let (_request_line, behind) = request_line(head);
    lines(behind)
        .filter_map(parts)
        .filter_map(move |(found, value)| is_named(found).then_some(value))
}

/// The number that `digits`, all of them ASCII digits, stand for, or `None` if it exceeds 64 bits.
/// Leading zeros count for nothing, however many.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_and_what_is_behind_them() {
        for (text, line, behind) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1", "Host: a\r\n\r\n"),
            ("\r\n\r\nGET /\n\r\n", "GET /", "\r\n"),
            ("GET /a b\r\r\n", "GET /a b\r", ""),
            ("GET /\r", "GET /", ""),
            ("G", "G", ""),
            ("\r\n", "", ""),
            ("", "", ""),
        ] {
            let (line, behind) = (line.as_bytes(), behind.as_bytes());
            assert_eq!(request_line(text.as_bytes()), (line, behind), "{text:?}");
        }
    }

    #[test]
    fn values_of_a_field() {
        let head =
            b"GET /accept: HTTP/1.1\r\nAccept: a\r\nX: y\r\naccept:b , c\r\nAcceptX: d\r\n\r\n";
        assert_eq!(values(head, "accept").collect::<Vec<_>>(), [&b"a"[..], b"b , c"]);
    }

    #[test]
    fn field_lines() {
        let check = |text: &str, expected: &[Option<(&str, &str)>]| {
            let text_of = |bytes| str::from_utf8(bytes).unwrap();
            let parts = |line| parts(line).map(|(name, value)| (text_of(name), text_of(value)));
            assert_eq!(lines(text.as_bytes()).map(parts).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("A:\tb \r\nC:d\r\n\r\nBehind: x\r\n", &[Some(("A", "b")), Some(("C", "d"))]);
        check("no colon\r\n: c\n:\r\n", &[None, Some(("", "c")), Some(("", ""))]);
        check("A: b\r\n\nC: d\r\n", &[Some(("A", "b"))]);
        check("A: b\r\nC: cut of", &[Some(("A", "b"))]);
        check("", &[]);
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"000"), Some(0));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal(&[b'0'; 5000]), Some(0));
    }
}
