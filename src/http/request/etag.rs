//! Entity tags in preconditions (RFC 9110 sections 8.8.3, 13.1.1 and 13.1.2).

/// How entity tags are compared (RFC 9110 section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// For `If-Match`: a weak tag matches nothing.
    Strong,
    /// For `If-None-Match`: `W/"20"` matches `"20"`.
    Weak,
}

/// Whether one of the field values matches the opaque tag `tag`, given without its quotes.
///
/// A malformed entity tag matches nothing, and the rest of its value is ignored: a full response is always correct,
/// a 304 to a malformed request is not.
pub fn matches<'h, V: Iterator<Item = &'h [u8]>>(
    mut values: V,
    tag: &[u8],
    comparison: Comparison,
) -> bool {
    values.any(|value| value == b"*" || list_matches(value, tag, comparison))
}

fn list_matches(mut list: &[u8], tag: &[u8], comparison: Comparison) -> bool {
    loop {
        list = trim_separators(list);
        let weak = list.strip_prefix(b"W/");
        let quoted = weak.unwrap_or(list);
        let Some(opaque_and_rest) = quoted.strip_prefix(b"\"") else { return false };
        let Some(end) = opaque_and_rest.iter().position(|byte| *byte == b'"') else { return false };
        let (opaque, rest) = opaque_and_rest.split_at_checked(end).unwrap_or_default();
        if opaque == tag && (weak.is_none() || comparison == Comparison::Weak) {
            return true;
        }
        list = rest.get(1..).unwrap_or_default();
    }
}

/// Skips separators and empty list elements (RFC 9110 section 5.6.1.2).
fn trim_separators(mut list: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b',', rest @ ..] = list {
        list = rest;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches_weakly(values: &[&str]) -> bool {
        matches(values.iter().map(|value| value.as_bytes()), b"20", Comparison::Weak)
    }

    #[test]
    fn a_weak_tag_never_matches_strongly() {
        for (value, expected) in
            [("\"20\"", true), ("W/\"20\"", false), ("W/\"20\", \"20\"", true), ("*", true)]
        {
            let values = std::iter::once(value.as_bytes());
            assert_eq!(matches(values, b"20", Comparison::Strong), expected, "{value}");
        }
    }

    #[test]
    fn a_tag_matches_in_any_list() {
        for values in [
            &["\"20\""][..],
            &["W/\"20\""],
            &["*"],
            &["\"19\", \"20\""],
            &["\"19\",,\t,W/\"20\""],
            &["\"a,b\" , \"20\""],
            &["\"19\"", "\"20\""],
        ] {
            assert!(matches_weakly(values), "{values:?}");
        }
    }

    #[test]
    fn other_and_malformed_tags_do_not_match() {
        for value in [
            "",
            "20",
            "\"2\"",
            "\"200\"",
            "\"20",
            "w/\"20\"",
            "**",
            "\"*\"",
            ",",
            "19, \"20\"",
            "W/",
        ] {
            assert!(!matches_weakly(&[value]), "{value:?}");
        }
        assert!(!matches_weakly(&[]));
    }
}
