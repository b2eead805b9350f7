//! Parses request targets: which of the four forms, and where the path is (RFC 9112 section 3.2).
//!
//! Only the grammar is checked here. The router decides which paths exist.

use crate::http::{Method, Reject, Span};

/// A request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Origin-form or absolute-form: the path, without the query, as offsets into the head.
    Path(Span),
    /// Asterisk-form, the server as a whole. Valid with OPTIONS only.
    Asterisk,
    /// Authority-form, the destination of a tunnel. Valid with CONNECT only.
    Authority,
}

/// Parses the target at `span` of `head`.
pub fn parse(method: Method, head: &[u8], span: Span) -> Result<Target, Reject> {
    let target = span.of(head);
    match (method, target.first()) {
        (Method::Connect, _) => authority(target).map(|()| Target::Authority),
        (_, Some(b'/')) => path(head, span),
        (Method::Options, Some(b'*')) if target.len() == 1 => Ok(Target::Asterisk),
        _ => absolute(head, span),
    }
}

/// Parses a path and an optional query, in the characters of RFC 3986 sections 3.3 and 3.4.
fn path(head: &[u8], span: Span) -> Result<Target, Reject> {
    let target = span.of(head);
    if consists_of(target, PATH) {
        return Ok(Target::Path(span)); // nearly every target has neither escapes nor a query
    }
    let length = run(target, PATH | ESCAPE);
    let (path, query) = target.split_at_checked(length).ok_or(Reject::BadTarget)?;
    let query_is_valid = match query.first() {
        None => true,
        Some(b'?') => run(query, QUERY | ESCAPE) == query.len() && escapes_are_complete(query),
        Some(_) => false,
    };
    if !query_is_valid || !escapes_are_complete(path) {
        return Err(Reject::BadTarget);
    }
    Ok(Target::Path(span.prefix(length)))
}

/// Parses `scheme "://" authority path-abempty [ "?" query ]`, for the two schemes of HTTP. The authority is
/// checked and then ignored like `Host`, because this server serves every host (RFC 9112 section 3.2.2).
fn absolute(head: &[u8], span: Span) -> Result<Target, Reject> {
    let target = span.of(head);
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| starts_with_ignore_case(target, scheme))
        .ok_or(Reject::BadTarget)?;
    let rest = target.get(scheme.len()..).unwrap_or_default();
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = rest.get(..length).unwrap_or_default();
    if authority.is_empty() || !is_host(authority) {
        return Err(Reject::BadTarget);
    }
    // An empty path means "/" (RFC 9110 section 4.2.3). No route has either, so it may stay empty.
    path(head, span.suffix(scheme.len() + length))
}

/// Checks `host ":" port`, where CONNECT requires the port (RFC 9110 section 9.3.6).
fn authority(target: &[u8]) -> Result<(), Reject> {
    let colon = target.iter().rposition(|byte| *byte == b':').ok_or(Reject::BadTarget)?;
    let port = target.get(colon + 1..).unwrap_or_default();
    let has_host = colon > 0;
    if has_host && is_host(target) && !port.is_empty() && port.iter().all(u8::is_ascii_digit) {
        Ok(())
    } else {
        Err(Reject::BadTarget)
    }
}

/// Whether `text` is `uri-host [ ":" port ]` (RFC 9110 section 7.2), which may be empty.
pub fn is_host(text: &[u8]) -> bool {
    let (host_is_valid, rest) = if text.first() == Some(&b'[') {
        let Some(end) = text.iter().position(|byte| *byte == b']') else { return false };
        let (address, rest) = text.split_at_checked(end + 1).unwrap_or((text, b""));
        (is_ip_literal(address.get(1..end).unwrap_or_default()), rest)
    } else {
        let length = run(text, NAME | ESCAPE);
        let (name, rest) = text.split_at_checked(length).unwrap_or((text, b""));
        (escapes_are_complete(name), rest)
    };
    let port_is_valid = match rest.split_first() {
        None => true,
        Some((b':', port)) => port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    host_is_valid && port_is_valid
}

/// Whether `address` is an IPv6 address or an `IPvFuture` (RFC 3986 section 3.2.2).
fn is_ip_literal(address: &[u8]) -> bool {
    let Ok(address) = str::from_utf8(address) else { return false };
    if let Some(future) = address.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, rest)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !rest.is_empty()
                && rest.split(':').all(|part| run(part.as_bytes(), NAME) == part.len())
        });
    }
    address.parse::<core::net::Ipv6Addr>().is_ok()
}

/// Returns the number of bytes at the start of `text` that may be part of a path as they are.
#[inline]
pub(super) fn plain_run(text: &[u8]) -> usize {
    run(text, PATH)
}

/// Returns the number of bytes at the start of `text` that are in `class`.
fn run(text: &[u8], class: u8) -> usize {
    text.iter().take_while(|byte| classes_of(**byte) & class != 0).count()
}

/// Whether all bytes of `text` are in `class`. The loop has no early exit, which makes it cheaper per byte.
fn consists_of(text: &[u8], class: u8) -> bool {
    text.iter().fold(class, |common, byte| common & classes_of(*byte)) != 0
}

fn classes_of(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The characters of a registered name, a path and a query (RFC 3986 sections 3.2.2, 3.3 and 3.4).
const NAME: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
/// The character that begins an escape in each of them.
const ESCAPE: u8 = 8;

/// The classes of each byte, as a table because every byte of every target is looked up.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    mark(&mut classes, b"0123456789-._~", NAME | PATH | QUERY);
    mark(&mut classes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", NAME | PATH | QUERY);
    mark(&mut classes, b"abcdefghijklmnopqrstuvwxyz", NAME | PATH | QUERY);
    mark(&mut classes, b"!$&'()*+,;=", NAME | PATH | QUERY);
    mark(&mut classes, b"/:@", PATH | QUERY);
    mark(&mut classes, b"?", QUERY);
    mark(&mut classes, b"%", ESCAPE);
    classes
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn mark(classes: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut at = 0;
    while at < bytes.len() {
        classes[bytes[at] as usize] = class;
        at += 1;
    }
}

/// Whether each `%` is followed by two hexadecimal digits.
fn escapes_are_complete(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        text.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, target: &str, expected: Option<&str>) {
        let span = Span::new(0, target.len());
        let text = match parse(method, target.as_bytes(), span) {
            Ok(Target::Path(path)) => Some(str::from_utf8(path.of(target.as_bytes())).unwrap()),
            Ok(Target::Asterisk) => Some("(asterisk)"),
            Ok(Target::Authority) => Some("(authority)"),
            Err(Reject::BadTarget) => None,
            Err(other) => panic!("{target}: {other:?}"),
        };
        assert_eq!(text, expected, "{method:?} {target}");
    }

    #[test]
    fn origin_form_is_a_path_and_a_query() {
        check(Method::Get, "/", Some("/"));
        check(Method::Get, "/api/fibonacci/20", Some("/api/fibonacci/20"));
        check(Method::Get, "/a?b=/c?d", Some("/a"));
        check(Method::Get, "/a?", Some("/a"));
        check(Method::Get, "/%7Ea/%c3%a9:@!$&'()*+,;=", Some("/%7Ea/%c3%a9:@!$&'()*+,;="));
        for bad in [
            "/a#b", "/a%", "/a%4", "/a%zz", "/a\"b", "/<", "/a\\b", "/{", "/\u{e9}", "/a?%1",
            "/a?#",
        ] {
            check(Method::Get, bad, None);
        }
    }

    #[test]
    fn absolute_form_is_an_http_uri() {
        check(Method::Get, "http://example.org/a?b", Some("/a"));
        check(Method::Get, "HTTPS://[::1]:3000/a", Some("/a"));
        check(Method::Get, "http://example.org", Some(""));
        check(Method::Get, "http://example.org?q", Some(""));
        for bad in
            ["http:///a", "http://", "ftp://example.org/", "http:/a", "http://a b/", "http://u@h/"]
        {
            check(Method::Get, bad, None);
        }
    }

    #[test]
    fn asterisk_and_authority_form_are_valid_with_their_methods_only() {
        check(Method::Options, "*", Some("(asterisk)"));
        check(Method::Get, "*", None);
        check(Method::Options, "**", None);
        check(Method::Connect, "example.org:443", Some("(authority)"));
        check(Method::Connect, "[2001:db8::1]:443", Some("(authority)"));
        for bad in ["example.org", "example.org:", ":443", "/a", "*", "example.org:44a"] {
            check(Method::Connect, bad, None);
        }
        check(Method::Get, "example.org:443", None);
        check(Method::Get, "api/fibonacci/20", None);
    }

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for good in [
            "",
            "localhost",
            "a.b-c_d~",
            "127.0.0.1:3000",
            "host:",
            "[::1]",
            "[::1]:80",
            "[v1.a:b]",
            "%41",
            "a,b",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "a@b", "a:b", "a:1:2", "[::1", "[zz]", "[::1]x", "[v.a]", "%4", "a?b",
            "\u{e9}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
