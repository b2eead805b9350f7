//! Percent-encoding in targets (RFC 3986 section 2.1).

use std::borrow::Cow;

/// Decodes the escapes of unreserved characters, which are equivalent to the characters (RFC 3986 section 6.2.2.2).
/// Other escapes are left as they are.
pub fn decode_unreserved(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match unescape(rest) {
            Some(byte) if is_unreserved(byte) => {
                decoded.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

/// Decodes the escape at the front of `text`.
fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_are_decoded() {
        for (path, expected) in [
            ("/a", "/a"),
            ("/%61%5F%7e%2d", "/a_~-"),
            ("/%2F%20%25%c3", "/%2F%20%25%c3"),
            ("/%2561", "/%2561"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%6x%61", "/%6xa"),
        ] {
            assert_eq!(&*decode_unreserved(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
