//! The JSON of this server: numbers, and problem details of errors (RFC 9457).

use crate::http::{Status, decimal};

/// What follows the digits of a number.
pub const NUMBER_END: &[u8] = b"\"}";

const N: &[u8] = b"{\"n\":";
const VALUE: &[u8] = b",\"value\":\"";

/// Length in bytes of F(n) with this many digits.
pub const fn number_length(n: u64, digits: usize) -> usize {
    N.len() + decimal::length(n) + VALUE.len() + digits + NUMBER_END.len()
}

/// Appends what precedes the digits of F(n). They are a string, because parsers lose digits of numbers above 2^53.
pub fn push_number_start(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(N);
    decimal::push(out, n);
    out.extend_from_slice(VALUE);
}

/// Appends problem details with this text. The type is `about:blank`: the status says what the problem is.
pub fn push_problem(out: &mut Vec<u8>, status: Status, text: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":\"");
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    out.extend_from_slice(status.code().as_bytes());
    out.extend_from_slice(b",\"detail\":\"");
    for byte in text.trim_ascii_end() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_length() {
        for (n, digits) in [(0, "0"), (20, "6765"), (u64::MAX, "1")] {
            let mut out = Vec::new();
            push_number_start(&mut out, n);
            out.extend_from_slice(digits.as_bytes());
            out.extend_from_slice(NUMBER_END);
            let expected = format!("{{\"n\":{n},\"value\":\"{digits}\"}}");
            assert_eq!(str::from_utf8(&out).unwrap(), expected);
            assert_eq!(number_length(n, digits.len()), expected.len());
        }
    }

    #[test]
    fn problem_details_have_the_line_of_text_as_detail() {
        for (text, detail) in [("not found\n", "not found"), ("a \"b\" \\ c", r#"a \"b\" \\ c"#)] {
            let mut out = Vec::new();
            push_problem(&mut out, Status::NotFound, text.as_bytes());
            let expected = format!(
                "{{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"{detail}\"}}\n"
            );
            assert_eq!(str::from_utf8(&out).unwrap(), expected);
        }
    }
}
