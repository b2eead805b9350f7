//! Escaping of text that a client controls: it cannot end the quoted string or the line.

/// Ends a text that was truncated.
pub(super) const ELLIPSIS: &[u8] = b"...";

/// An escape sequence: this prefix, then two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escape(pub(super) &'static str);

/// Appends `text`, escaped. Output beyond `most` bytes is replaced by [`ELLIPSIS`].
#[inline]
pub(super) fn push(out: &mut Vec<u8>, text: &[u8], most: usize, escape: Escape) {
    // Hot path: nearly every text needs no escape. Without an early exit the loop is vectorized.
    let is_plain = text.iter().fold(true, |all, byte| all & is_plain(*byte));
    if is_plain && text.len() <= most {
        out.extend_from_slice(text);
    } else {
        push_escaped(out, text, most, escape);
    }
}

#[cold]
fn push_escaped(out: &mut Vec<u8>, text: &[u8], most: usize, Escape(prefix): Escape) {
    let end = out.len() + most;
    for byte in text {
        let length = if is_plain(*byte) { 1 } else { prefix.len() + 2 };
        if out.len() + length > end {
            return out.extend_from_slice(ELLIPSIS);
        }
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(prefix.as_bytes());
            out.extend([byte >> 4, byte & 0xf].map(hexadecimal));
        }
    }
}

/// Returns whether a byte needs no escape: printable ASCII except the quote and the backslash.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

const fn hexadecimal(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], most: usize, expected: &str) {
        let mut out = b"before ".to_vec();
        push(&mut out, text, most, Escape("\\x"));
        assert_eq!(str::from_utf8(&out).unwrap(), format!("before {expected}"));
    }

    #[test]
    fn plain_text_is_unchanged() {
        check(b"", 0, "");
        check(b"/a b?c=%20~!", 12, "/a b?c=%20~!");
    }

    #[test]
    fn other_bytes_are_escaped() {
        check(b"\"", 9, "\\x22");
        check(b"\\x22", 9, "\\x5cx22");
        check(b"\0\t\r\n\x1b\x7f", 99, "\\x00\\x09\\x0d\\x0a\\x1b\\x7f");
        check("\u{e9}\u{2028}".as_bytes(), 99, "\\xc3\\xa9\\xe2\\x80\\xa8");
    }

    #[test]
    fn text_is_truncated_at_the_bound_and_between_escapes() {
        check(b"abcd", 4, "abcd");
        check(b"abcde", 4, "abcd...");
        check(b"ab\n", 6, "ab\\x0a");
        check(b"ab\nc", 6, "ab\\x0a...");
        check(b"abc\n", 6, "abc...");
        check(b"\n", 0, "...");
    }
}
