//! Finds the parts of a request that are logged.

use crate::http::request::{lines, request_line::Parts};

/// The logged parts of a request, as received. A malformed request may have anything here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestFields<'a> {
    pub(super) method: Option<&'a [u8]>,
    pub(super) target: Option<&'a [u8]>,
    pub(super) version: Option<&'a [u8]>,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) forwarded_for: Option<&'a [u8]>,
    pub(super) traceparent: Option<&'a [u8]>,
}

impl<'a> RequestFields<'a> {
    pub(super) fn of(request: &'a [u8]) -> Self {
        let (line, after) = lines::request_line(request);
        let mut fields = Self::of_line(line);
        for line in lines::lines(after) {
            // Most header lines are skipped by their first byte.
            if !matches!(line, [b'R' | b'r' | b'T' | b't' | b'U' | b'u' | b'X' | b'x', ..]) {
                continue;
            }
            let Some((name, value)) = lines::parts(line) else { continue };
            let place = match name.len() {
                7 if name.eq_ignore_ascii_case(b"referer") => &mut fields.referer,
                // Several of these are invalid (Trace Context, section 3.2).
                11 if name.eq_ignore_ascii_case(b"traceparent") => {
                    let value = if fields.traceparent.is_none() { value } else { b"" };
                    fields.traceparent = Some(value);
                    continue;
                }
                10 if name.eq_ignore_ascii_case(b"user-agent") => &mut fields.user_agent,
                // Of several lines the last counts: the nearest proxy added it.
                15 if name.eq_ignore_ascii_case(b"x-forwarded-for") => &mut fields.forwarded_for,
                _ => continue,
            };
            *place = Some(value);
        }
        fields
    }

    /// Returns the parts of a request line. A line that does not have three is logged as a target.
    fn of_line(line: &'a [u8]) -> Self {
        match Parts::split(line) {
            Some(Parts { method, target, version }) => Self {
                method: Some(method),
                target: Some(target),
                version: Some(version),
                ..Self::default()
            },
            None => Self { target: (!line.is_empty()).then_some(line), ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_three_parts_or_is_a_target() {
        let check =
            |request: &str, method: Option<&str>, target: Option<&str>, version: Option<&str>| {
                let expected = RequestFields {
                    method: method.map(str::as_bytes),
                    target: target.map(str::as_bytes),
                    version: version.map(str::as_bytes),
                    ..RequestFields::default()
                };
                assert_eq!(RequestFields::of(request.as_bytes()), expected, "{request:?}");
            };
        check("GET / HTTP/1.1\r\n", Some("GET"), Some("/"), Some("HTTP/1.1"));
        check("\r\n\r\nGET / HTTP/1.1\r\n", Some("GET"), Some("/"), Some("HTTP/1.1"));
        check("GET /a b HTTP/1.1\r\n", Some("GET"), Some("/a b"), Some("HTTP/1.1"));
        check("GET  HTTP/1.1\r\n", Some("GET"), Some(""), Some("HTTP/1.1"));
        check("GET / ", Some("GET"), Some("/"), Some(""));
        check("GET /", None, Some("GET /"), None);
        check("\u{16}\u{3}\u{1}", None, Some("\u{16}\u{3}\u{1}"), None);
        check(" \n", None, Some(" "), None);
        check("", None, None, None);
    }
}
