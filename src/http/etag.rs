//! Entity tags in preconditions (RFC 9110 sections 8.8.3 and 13.1.2).

/// Whether one of the `If-None-Match` field values names the representation whose opaque tag is `tag`,
/// without its quotes. The comparison is the weak one, as the field asks: `W/"20"` names `"20"` too.
///
/// What is no entity tag matches nothing and ends the value it stands in: answering in full is always
/// right, answering 304 to nonsense never.
pub fn names<'h, V: Iterator<Item = &'h [u8]>>(mut values: V, tag: &[u8]) -> bool {
    values.any(|value| value == b"*" || list_names(value, tag))
}

fn list_names(mut list: &[u8], tag: &[u8]) -> bool {
    loop {
        list = trim_separators(list);
        let quoted = list.strip_prefix(b"W/").unwrap_or(list);
        let Some(opaque_and_rest) = quoted.strip_prefix(b"\"") else { return false };
        let Some(end) = opaque_and_rest.iter().position(|byte| *byte == b'"') else { return false };
        let (opaque, rest) = opaque_and_rest.split_at_checked(end).unwrap_or_default();
        if opaque == tag {
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
        names(values.iter().map(|value| value.as_bytes()), b"20")
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
