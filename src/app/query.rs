//! The query of `/api/fibonacci?n=20`, which a form without JavaScript sends.

use crate::{
    app::route::{Index, parse_index},
    http::request::{escapes::decode_unreserved, target::Target},
};

/// Returns the only `n` in the query of a target, which refers to the text of `head`. Other parameters are ignored.
pub(super) fn index(target: Target, head: &[u8]) -> Index {
    let Target::Path(path) = target else { return Index::Malformed };
    let query = path.after(head).strip_prefix(b"?").unwrap_or_default();
    let query = query.split(|byte| *byte == b' ').next().unwrap_or_default();
    let parameters = query.split(|byte| *byte == b'&');
    let mut values = parameters.filter_map(|parameter| parameter.strip_prefix(b"n="));
    match (values.next(), values.next()) {
        (Some(n), None) => parse_index(&decode_unreserved(n)),
        _ => Index::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Span;

    #[test]
    fn the_only_n_counts() {
        let check = |query: &str, expected| {
            let head = format!("GET /a{query} HTTP/1.1\r\n\r\n");
            let target = Target::Path(Span::new(4, 6));
            assert_eq!(index(target, head.as_bytes()), expected, "{query}");
        };
        for query in ["?n=20", "?n=0020", "?n=%32%30", "?a&n=20&b=c", "?nn=1&n=20&N=1"] {
            check(query, Index::Number(20));
        }
        check("?n=99999999999999999999", Index::Number(u64::MAX));
        for query in
            ["", "?", "?n", "?n=", "?n=x", "?n=+20", "?n=2%20", "?n=1&n=1", "?m=1", "?n=1?"]
        {
            check(query, Index::Malformed);
        }
        assert_eq!(index(Target::Asterisk, b"OPTIONS * HTTP/1.1\r\n\r\n"), Index::Malformed);
    }
}
