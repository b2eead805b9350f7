//! Formats a request and its response as one line of the access log.
//!
//! Whatever bytes a client sends, the result is one line of at most [`LINE_BYTES_MAX`] bytes of printable ASCII. This
//! is the hot path: it copies into buffers that exist already and uses no `core::fmt`.

use crate::http::{Status, date, decimal};
use crate::logging::access::{
    address::ClientAddress,
    encoder::{self, ELLIPSIS, Escape},
    request_fields::RequestFields,
    trace_context,
};

/// Format of the lines. docs/access-log.md has an example of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// The combined log format of Apache and nginx, followed by more fields.
    Combined,
    /// A JSON object (RFC 8259).
    Json,
}

/// What is logged of a response.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// The client; none if it is unknown.
    pub client: Option<&'a ClientAddress>,
    /// Time of the response in milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
    /// The request head, or the part of it that was received. Bytes after its empty line are ignored.
    pub request: &'a [u8],
    /// Status of the response.
    pub status: Status,
    /// Length of the content sent in bytes.
    pub body_bytes: usize,
    /// Length of the response in bytes, head and content.
    pub response_bytes: usize,
}

/// Maximum length of a line, including its end.
pub const LINE_BYTES_MAX: usize = 4096;

/// Maximum length of each text, escaped. Valid methods and versions are far shorter.
const METHOD_BYTES_MAX: usize = 32;
const TARGET_BYTES_MAX: usize = 2048;
const VERSION_BYTES_MAX: usize = 16;
const REFERER_BYTES_MAX: usize = 512;
const USER_AGENT_BYTES_MAX: usize = 512;
const FORWARDED_FOR_BYTES_MAX: usize = 256;
/// Length of a valid trace id.
const TRACE_ID_BYTES: usize = 32;

/// Upper bound of everything else in a line: names, numbers and the address.
const REST_BYTES_MAX: usize = 500;

const _: () = assert!(
    METHOD_BYTES_MAX
        + TARGET_BYTES_MAX
        + VERSION_BYTES_MAX
        + REFERER_BYTES_MAX
        + USER_AGENT_BYTES_MAX
        + FORWARDED_FOR_BYTES_MAX
        + 6 * ELLIPSIS.len()
        + REST_BYTES_MAX
        <= LINE_BYTES_MAX
);

/// Lines of a batch of responses. They are complete once the duration of the batch is known.
#[derive(Debug)]
pub struct Lines {
    format: LineFormat,
    /// Time of the last line in seconds since 1970, and the text that all lines of that second share: the date with
    /// its delimiters, and the seconds as a number.
    unix_s: u64,
    date: Vec<u8>,
    second: Vec<u8>,
    /// Lines up to their last value, the duration.
    open: Vec<u8>,
    /// End of each of them.
    ends: Vec<usize>,
}

impl Lines {
    /// Returns an empty batch.
    pub fn new(format: LineFormat) -> Self {
        let (date, second, open, ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut lines = Self { format, unix_s: 0, date, second, open, ends };
        lines.begin_second(0);
        lines
    }

    /// Begins the line of a response.
    pub fn add(&mut self, entry: &LogEntry<'_>) {
        let unix_s = entry.unix_ms / 1000;
        if unix_s != self.unix_s {
            self.begin_second(unix_s);
        }
        self.open.reserve(LINE_BYTES_MAX);
        match self.format {
            LineFormat::Combined => self.add_combined(entry),
            LineFormat::Json => self.add_json(entry),
        }
        self.ends.push(self.open.len());
    }

    /// Completes the lines added since the last call with this duration and appends them to `out`.
    pub fn complete(&mut self, duration_ns: u64, out: &mut Vec<u8>) {
        let end = match self.format {
            LineFormat::Combined => &b"\n"[..],
            LineFormat::Json => b"}\n",
        };
        let mut start = 0;
        for line_end in self.ends.drain(..) {
            out.extend_from_slice(self.open.get(start..line_end).unwrap_or_default());
            decimal::push(out, duration_ns / 1000);
            out.extend_from_slice(end);
            start = line_end;
        }
        self.open.clear();
    }

    #[cold]
    fn begin_second(&mut self, unix_s: u64) {
        self.unix_s = unix_s;
        self.date.clear();
        self.second.clear();
        match self.format {
            LineFormat::Combined => {
                self.date.extend_from_slice(b" - - [");
                self.date.extend_from_slice(&date::common_log(unix_s));
                self.date.extend_from_slice(b" +0000] \"");
                self.second.extend_from_slice(b"\" ");
                decimal::push(&mut self.second, unix_s);
                self.second.push(b'.');
            }
            LineFormat::Json => {
                self.date.extend_from_slice(b"{\"time\":\"");
                self.date.extend_from_slice(&date::rfc3339(unix_s));
                self.date.push(b'.');
            }
        }
    }

    /// Appends address, two unused fields, time, request line, status, length, referer and user agent, as Apache and
    /// nginx do; then `X-Forwarded-For` and the time in seconds with milliseconds. The duration follows.
    fn add_combined(&mut self, entry: &LogEntry<'_>) {
        const ESCAPE: Escape = Escape("\\x");
        let out = &mut self.open;
        let fields = RequestFields::of(entry.request);
        let text = |out: &mut Vec<u8>, text: Option<&[u8]>, most| match text {
            Some(text) => encoder::push(out, text, most, ESCAPE),
            None => out.push(b'-'),
        };
        out.extend_from_slice(entry.client.map_or(b"-", |client| client.ip.as_bytes()));
        out.extend_from_slice(&self.date);
        if fields.method.is_some() {
            text(out, fields.method, METHOD_BYTES_MAX);
            out.push(b' ');
        }
        text(out, fields.target, TARGET_BYTES_MAX);
        if fields.version.is_some() {
            out.push(b' ');
            text(out, fields.version, VERSION_BYTES_MAX);
        }
        out.extend_from_slice(b"\" ");
        out.extend_from_slice(entry.status.code().as_bytes());
        out.push(b' ');
        decimal::push(out, entry.body_bytes as u64);
        out.extend_from_slice(b" \"");
        text(out, fields.referer, REFERER_BYTES_MAX);
        out.extend_from_slice(b"\" \"");
        text(out, fields.user_agent, USER_AGENT_BYTES_MAX);
        out.extend_from_slice(b"\" \"");
        text(out, fields.forwarded_for, FORWARDED_FOR_BYTES_MAX);
        out.extend_from_slice(&self.second);
        push_milliseconds(out, entry.unix_ms);
        out.push(b' ');
    }

    /// Appends the members of the object. An unknown value is null. A byte above 0x7f becomes the character with the
    /// same code point.
    fn add_json(&mut self, entry: &LogEntry<'_>) {
        const ESCAPE: Escape = Escape("\\u00");
        let out = &mut self.open;
        let fields = RequestFields::of(entry.request);
        let text = |out: &mut Vec<u8>, name: &[u8], text: Option<&[u8]>, most| {
            out.extend_from_slice(name);
            match text {
                Some(text) => {
                    out.push(b'"');
                    encoder::push(out, text, most, ESCAPE);
                    out.push(b'"');
                }
                None => out.extend_from_slice(b"null"),
            }
        };
        out.extend_from_slice(&self.date);
        push_milliseconds(out, entry.unix_ms);
        match entry.client {
            Some(client) => {
                out.extend_from_slice(b"Z\",\"remote_addr\":\"");
                out.extend_from_slice(client.ip.as_bytes());
                out.extend_from_slice(b"\",\"remote_port\":");
                decimal::push(out, client.port.into());
            }
            None => out.extend_from_slice(b"Z\",\"remote_addr\":null,\"remote_port\":null"),
        }
        text(out, b",\"method\":", fields.method, METHOD_BYTES_MAX);
        text(out, b",\"target\":", fields.target, TARGET_BYTES_MAX);
        text(out, b",\"version\":", fields.version, VERSION_BYTES_MAX);
        out.extend_from_slice(b",\"status\":");
        out.extend_from_slice(entry.status.code().as_bytes());
        out.extend_from_slice(b",\"body_bytes_sent\":");
        decimal::push(out, entry.body_bytes as u64);
        out.extend_from_slice(b",\"bytes_sent\":");
        decimal::push(out, entry.response_bytes as u64);
        text(out, b",\"referer\":", fields.referer, REFERER_BYTES_MAX);
        text(out, b",\"user_agent\":", fields.user_agent, USER_AGENT_BYTES_MAX);
        text(out, b",\"forwarded_for\":", fields.forwarded_for, FORWARDED_FOR_BYTES_MAX);
        let trace_id = fields.traceparent.and_then(trace_context::trace_id);
        text(out, b",\"trace_id\":", trace_id, TRACE_ID_BYTES);
        out.extend_from_slice(b",\"duration_us\":");
    }
}

fn push_milliseconds(out: &mut Vec<u8>, unix_ms: u64) {
    let mut digits = [0; 3];
    decimal::fill(&mut digits, unix_ms);
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LineFormat, request: &str) -> String {
        let mut lines = Lines::new(format);
        let client = ClientAddress::of("[::ffff:192.0.2.1]:4711".parse().unwrap());
        let entry = LogEntry {
            client: Some(&client),
            unix_ms: 784_111_777_042,
            request: request.as_bytes(),
            status: Status::Ok,
            body_bytes: 294,
            response_bytes: 512,
        };
        lines.add(&entry);
        let mut out = Vec::new();
        lines.complete(57_999, &mut out);
        String::from_utf8(out).unwrap()
    }

    const REQUEST: &str = "GET /api/fibonacci/20?q=%22 HTTP/1.1\r\nHost: a\r\nuser-agent: curl/8\r\n\
        Referer:\thttp://b/\"\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: ::1, 10.0.0.1\r\n\r\n\
        Referer: not this\r\n";

    #[test]
    fn combined() {
        assert_eq!(
            line(LineFormat::Combined, REQUEST),
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /api/fibonacci/20?q=%22 HTTP/1.1\" 200 294 \
             \"http://b/\\x22\" \"curl/8\" \"::1, 10.0.0.1\" 784111777.042 57\n"
        );
    }

    #[test]
    fn json() {
        assert_eq!(
            line(LineFormat::Json, REQUEST),
            "{\"time\":\"1994-11-06T08:49:37.042Z\",\"remote_addr\":\"192.0.2.1\",\"remote_port\":4711,\
             \"method\":\"GET\",\"target\":\"/api/fibonacci/20?q=%22\",\"version\":\"HTTP/1.1\",\
             \"status\":200,\"body_bytes_sent\":294,\"bytes_sent\":512,\"referer\":\"http://b/\\u0022\",\"user_agent\":\"curl/8\",\
             \"forwarded_for\":\"::1, 10.0.0.1\",\"trace_id\":null,\"duration_us\":57}\n"
        );
    }

    #[test]
    fn a_valid_trace_context_has_a_trace_id() {
        const FIELD: &str =
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let check = |fields: &str, expected: &str| {
            let line = line(LineFormat::Json, &format!("GET / HTTP/1.1\r\n{fields}\r\n"));
            assert!(line.contains(&format!(",\"trace_id\":{expected},")), "{fields}: {line}");
        };
        check(FIELD, "\"4bf92f3577b34da6a3ce929d0e0e4736\"");
        check(&FIELD.replace("00-", "ff-"), "null");
        check(&FIELD.repeat(2), "null");
        check("TE: trailers\r\n", "null");
    }

    #[test]
    fn unknown_values_are_a_dash_or_null() {
        let mut out = Vec::new();
        for format in [LineFormat::Combined, LineFormat::Json] {
            let mut lines = Lines::new(format);
            let status = Status::RequestTimeout;
            lines.add(&LogEntry {
                client: None,
                unix_ms: 0,
                request: b"\r\n",
                status,
                body_bytes: 0,
                response_bytes: 0,
            });
            lines.complete(0, &mut out);
        }
        assert_eq!(
            str::from_utf8(&out).unwrap(),
            "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 408 0 \"-\" \"-\" \"-\" 0.000 0\n\
             {\"time\":\"1970-01-01T00:00:00.000Z\",\"remote_addr\":null,\"remote_port\":null,\"method\":null,\
             \"target\":null,\"version\":null,\"status\":408,\"body_bytes_sent\":0,\"bytes_sent\":0,\"referer\":null,\
             \"user_agent\":null,\"forwarded_for\":null,\"trace_id\":null,\"duration_us\":0}\n"
        );
    }

    #[test]
    fn lines_of_a_batch_share_the_duration_and_keep_their_times() {
        let mut lines = Lines::new(LineFormat::Combined);
        for unix_ms in [1_000, 1_999, 2_000] {
            let status = Status::Ok;
            lines.add(&LogEntry {
                client: None,
                unix_ms,
                request: b"",
                status,
                body_bytes: 7,
                response_bytes: 9,
            });
        }
        let mut out = b"before\n".to_vec();
        lines.complete(5_000, &mut out);
        lines.complete(6_000, &mut out);
        let text = String::from_utf8(out).unwrap();
        let ends = text.lines().map(|line| line.rsplit('"').next().unwrap());
        assert!(ends.eq(["before", " 1.000 5", " 1.999 5", " 2.000 5"]), "{text}");
        assert!(text.contains(":00:00:01 ") && text.contains(":00:00:02 "), "{text}");
    }

    #[test]
    fn the_longest_line_is_within_the_limit() {
        let long = "\u{0}".repeat(5000);
        let request = format!(
            "{long} {long} {long}\r\nReferer: {long}\r\nUser-Agent: {long}\r\nX-Forwarded-For: {long}\r\n\
             Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
        );
        let client =
            ClientAddress::of("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap());
        for format in [LineFormat::Combined, LineFormat::Json] {
            let (mut lines, mut out) = (Lines::new(format), Vec::new());
            lines.add(&LogEntry {
                client: Some(&client),
                unix_ms: u64::MAX,
                request: request.as_bytes(),
                status: Status::Ok,
                body_bytes: usize::MAX,
                response_bytes: usize::MAX,
            });
            lines.complete(u64::MAX, &mut out);
            assert!((3000..=LINE_BYTES_MAX).contains(&out.len()), "{format:?}: {}", out.len());
        }
    }
}
