//! Entity tags in preconditions (RFC 9110 sections 8.8.3 and 13.1.2).

/// How entity tags are compared (RFC 9110 section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `If-Match` asks for it: a weak tag names nothing.
    Strong,
    /// `If-None-Match` asks for it: `W/"20"` names `"20"` too.
    Weak,
}

/// Whether one of the field values names the representation whose opaque tag is `tag`, without its quotes.
///
/// What is no entity tag matches nothing and ends the value it stands in: answering in full is always
/// right, answering 304 to nonsense never.
pub fn names<'h, V: Iterator<Item = &'h [u8]>>(
    mut values: V,
    tag: &[u8],
    comparison: Comparison,
) -> bool {
    values.any(|value| value == b"*" || list_names(value, tag, comparison))
}

fn list_names(mut list: &[u8], tag: &[u8], comparison: Comparison) -> bool {
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

/// Empty list elements are to be ignored (RFC 9110 section 5.6.1.2).
fn trim_separators(mut list: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b',', rest @ ..] = list {
        list = rest;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_named(values: &[&str]) -> bool {
        names(values.iter().map(|value| value.as_bytes()), b"20", Comparison::Weak)
    }

    #[test]
    fn a_weak_tag_is_no_strong_match() {
        for (value, expected) in
            [("\"20\"", true), ("W/\"20\"", false), ("W/\"20\", \"20\"", true), ("*", true)]
        {
            let values = std::iter::once(value.as_bytes());
            assert_eq!(names(values, b"20", Comparison::Strong), expected, "{value}");
        }
    }

    #[test]
    fn matching() {
        for values in [
            &["\"20\""][..],
            &["W/\"20\""],
            &["*"],
            &["\"19\", \"20\""],
            &["\"19\",,\t,W/\"20\""],
            &["\"a,b\" , \"20\""],
            &["\"19\"", "\"20\""],
        ] {
            assert!(is_named(values), "{values:?}");
        }
    }

    #[test]
    fn not_matching() {
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
            assert!(!is_named(&[value]), "{value:?}");
        }
        assert!(!is_named(&[]));
    }
}
