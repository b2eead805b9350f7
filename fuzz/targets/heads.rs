//! A naive parser of request heads that splits at line ends, spaces and colons, as a careless intermediary may. What
//! the server accepts must mean the same to both, or requests could be smuggled between them.

#[path = "../../tests/oracle/negotiation.rs"]
#[expect(dead_code, reason = "another target evaluates ranges")]
mod oracle;

use fibsrv::http::request::{
    body::Framing,
    head::Request,
    headers::{Expectation, Persistence, Version},
    preferences::Preferences,
    target::Target,
};

use oracle::Preferred;

/// The parts of a head.
#[derive(Debug)]
pub(crate) struct Head<'h> {
    method: &'h str,
    target: &'h str,
    version: &'h str,
    fields: Vec<(&'h str, &'h [u8])>,
}

impl<'h> Head<'h> {
    /// Parses a head from its first byte to the empty line. Returns `None` if it is malformed.
    pub(crate) fn read(head: &'h [u8]) -> Option<Self> {
        let mut lines =
            lines(head.strip_suffix(b"\r\n\r\n")?)?.into_iter().skip_while(|line| line.is_empty());
        let line = std::str::from_utf8(lines.next()?).ok()?;
        let [method, target, version] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let fields = lines
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = std::str::from_utf8(&line[..colon]).ok()?;
                let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
                is_name.then(|| (name, line[colon + 1..].trim_ascii()))
            })
            .collect::<Option<_>>()?;
        Some(Self { method, target, version, fields })
    }

    /// Panics if `request` differs from this head.
    pub(crate) fn compare(&self, request: &Request, head: &[u8]) {
        assert_eq!(request.method.as_str(), self.method);
        let is_10 = self.version == "HTTP/1.0";
        assert!(is_10 || self.version.starts_with("HTTP/1.") && self.version.len() == 8);
        assert_eq!(request.version == Version::Http10, is_10);
        match request.target {
            Target::Path(path) => assert_eq!(path.of(head), self.path().as_bytes()),
            Target::Asterisk => assert_eq!((self.method, self.target), ("OPTIONS", "*")),
            Target::Authority => assert!(self.method == "CONNECT" && self.target.contains(':')),
        }
        assert!(self.values("host").count() <= 1 && (is_10 || self.values("host").count() == 1));
        assert_eq!(request.framing, self.framing());
        let options: Vec<&[u8]> =
            self.values("connection").flat_map(|value| value.split(|byte| *byte == b',')).collect();
        let has = |option: &[u8]| {
            options.iter().any(|found| found.trim_ascii().eq_ignore_ascii_case(option))
        };
        let persists = !has(b"close") && (!is_10 || has(b"keep-alive"));
        assert_eq!(request.persistence == Persistence::KeepAlive, persists);
        let is_listed = |value: &[u8]| value.iter().any(|byte| !b", \t".contains(byte));
        let expects = !is_10 && self.values("expect").any(is_listed);
        assert_eq!(request.expectation == Expectation::Continue, expects);
        let conditions = self.values("if-none-match").count() + self.values("if-match").count();
        assert_eq!(request.preferences.has(Preferences::CONDITION), conditions > 0);
        let ranges = self.values("range").count();
        assert_eq!(request.preferences.has(Preferences::RANGE), ranges > 0);
        let accept: Vec<&[u8]> = self.values("accept").collect();
        let has = |preference| request.preferences.has(preference);
        let preferred = match (has(Preferences::JSON), has(Preferences::PROBLEM)) {
            (true, true) => Preferred::Json,
            (false, true) => Preferred::Problem,
            (_, false) => Preferred::Text,
        };
        assert_eq!(preferred, oracle::accept(&accept));
        let codings: Vec<&[u8]> = self.values("accept-encoding").collect();
        assert_eq!(request.preferences.has(Preferences::GZIP), oracle::accepts_gzip(&codings));
    }

    fn path(&self) -> &'h str {
        let path = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => {
                rest.find(['/', '?']).map_or("", |at| &rest[at..])
            }
            _ => self.target,
        };
        path.split('?').next().unwrap_or_default()
    }

    /// Returns the framing. Panics if it is ambiguous, because the server must not accept that.
    fn framing(&self) -> Framing {
        let lengths: Vec<&[u8]> = self.values("content-length").collect();
        let codings: Vec<&[u8]> = self.values("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Framing::Empty,
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked") && self.version != "HTTP/1.0");
                Framing::Chunked
            }
            ([length], []) => {
                assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
                let digits = std::str::from_utf8(length).unwrap().trim_start_matches('0');
                match digits {
                    "" => Framing::Empty,
                    digits => Framing::Length(digits.parse().unwrap_or(u64::MAX)),
                }
            }
            _ => panic!("two lengths: {lengths:?} {codings:?}"),
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.0.eq_ignore_ascii_case(name))
            .map(|field| field.1)
    }
}

/// Splits a text into lines. Returns `None` if it has a NUL or a CR or LF that is not part of a line end.
fn lines(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
        lines.push(&rest[..end]);
        rest = rest[end..].strip_prefix(b"\r\n")?;
    }
    lines.push(rest);
    Some(lines)
}
