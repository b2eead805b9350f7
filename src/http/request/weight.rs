//! Weighted lists, as in `Accept`: elements, parameters and weights (RFC 9110 sections 5.6.6 and 12.4.2).

/// A weight (`q`) in thousandths, the finest that RFC 9110 section 12.4.2 allows.
pub type Weight = u16;

/// The weight of an element without one.
pub const WEIGHT_MAX: Weight = 1000;

/// Name and value of a parameter, without the quotes of a quoted value.
pub fn parameter(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text.get(..equals)?.trim_ascii(), text.get(equals + 1..)?.trim_ascii());
    let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    Some((name, unquoted.unwrap_or(value)))
}

/// Parses a weight: at most 1, with up to three decimals.
pub fn parse_weight(text: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match text {
        [whole] => (whole, [].as_slice()),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digits = std::iter::once(whole).chain(decimals).chain(std::iter::repeat(&b'0')).take(4);
    let mut weight = 0;
    for digit in digits {
        weight = weight * 10 + char::from(*digit).to_digit(10)?;
    }
    Weight::try_from(weight).ok().filter(|weight| *weight <= WEIGHT_MAX)
}

/// Splits `text` at separators outside of quoted strings.
pub fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        let is_separator = *byte == separator && !is_quoted;
        if *byte == b'"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = *byte == b'\\' && is_quoted && !is_escaped;
        is_separator
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_at_most_three_decimals() {
        for (text, weight) in
            [("0", 0), ("1", 1000), ("0.5", 500), ("0.001", 1), ("1.000", 1000), ("0.", 0)]
        {
            assert_eq!(parse_weight(text.as_bytes()), Some(weight), "{text}");
        }
        for text in ["", "2", "1.001", "0.1234", "-1", ".5", "0,5", "1e0", "00.5", "0.x", "\u{661}"]
        {
            assert_eq!(parse_weight(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_quoted_separator_does_not_split() {
        let split = |text: &'static str| split_unquoted(text.as_bytes(), b',').collect::<Vec<_>>();
        assert_eq!(split("a,b"), [b"a", b"b"]);
        assert_eq!(split("\"a,\\\",b\",c"), [&b"\"a,\\\",b\""[..], b"c"]);
        assert_eq!(split("\"a,b"), [b"\"a,b"]);
        assert_eq!(split(""), [b""]);
    }
}
