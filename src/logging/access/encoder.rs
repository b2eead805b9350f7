//! Texts that a client has chosen, as they may stand in a line: nothing in them can end the text or the line.

/// What a text ends with that was longer.
pub(super) const ELLIPSIS: &[u8] = b"...";

/// How a byte is written that may not stand for itself: this, then its two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escape(pub(super) &'static str);

/// Appends `text`, escaped. What would go beyond `most` bytes of output is left out, and [`ELLIPSIS`] stands for it.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, text: &[u8], most: usize, escape: Escape) {
    // Hot: nearly every text. All of it is looked at whatever is found, which takes wide instructions.
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

/// Whether a byte stands for itself: printable ASCII, but for what ends a text and what begins an escape.
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
    fn what_is_plain_stands_for_itself() {
        check(b"", 0, "");
        check(b"/a b?c=%20~!", 12, "/a b?c=%20~!");
    }

    #[test]
    fn all_else_is_escaped() {
        check(b"\"", 9, "\\x22");
        check(b"\\x22", 9, "\\x5cx22");
        check(b"\0\t\r\n\x1b\x7f", 99, "\\x00\\x09\\x0d\\x0a\\x1b\\x7f");
        check("\u{e9}\u{2028}".as_bytes(), 99, "\\xc3\\xa9\\xe2\\x80\\xa8");
    }

    #[test]
    fn a_text_is_cut_between_bytes_and_at_the_bound() {
        check(b"abcd", 4, "abcd");
        check(b"abcde", 4, "abcd...");
        check(b"ab\n", 6, "ab\\x0a");
        check(b"ab\nc", 6, "ab\\x0a...");
        check(b"abc\n", 6, "abc...");
        check(b"\n", 0, "...");
    }
}
