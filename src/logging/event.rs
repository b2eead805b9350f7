//! Formats a process event as JSON or logfmt.

use std::fmt;

use log::Record;

use crate::{http::date, logging::output::LINE_BYTES_MAX};

/// Ends a message that was truncated.
const ELLIPSIS: &str = "...";
/// Room after the message: the ellipsis, the closing quote, the closing brace and the line end.
const END_BYTES_MAX: usize = ELLIPSIS.len() + 3;

/// The process that logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) worker: Option<u32>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid={}", self.pid)?;
        match self.worker {
            Some(worker) => write!(f, " worker={worker}"),
            None => Ok(()),
        }
    }
}

/// Returns an event as one line of JSON. `worker` is null outside of workers.
pub(super) fn json(record: &Record<'_>, identity: Identity, unix_ms: u64) -> Vec<u8> {
    let worker = identity.worker.map_or_else(|| "null".to_owned(), |worker| worker.to_string());
    let mut line = format!(
        "{{\"time\":\"{}\",\"level\":\"{}\",\"target\":\"{}\",\"pid\":{},\"worker\":{worker},\"message\":\"",
        Time(unix_ms),
        record.level().as_str().to_lowercase(),
        record.target(),
        identity.pid,
    );
    push_message(&mut line, record);
    line.push_str("\"}\n");
    line.into_bytes()
}

/// Returns an event as one line of `key=value` pairs.
pub(super) fn logfmt(record: &Record<'_>, identity: Identity, unix_ms: u64) -> Vec<u8> {
    let mut line = format!(
        "time={} level={} target={} {identity} msg=\"",
        Time(unix_ms),
        record.level().as_str().to_lowercase(),
        record.target(),
    );
    push_message(&mut line, record);
    line.push_str("\"\n");
    line.into_bytes()
}

/// Appends the message, escaped as in a JSON string, and truncated so that the line ends within its maximum length.
fn push_message(line: &mut String, record: &Record<'_>) {
    for letter in record.args().to_string().chars() {
        let escaped = match letter {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            _ if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
            _ => letter.to_string(),
        };
        if line.len() + escaped.len() + END_BYTES_MAX > LINE_BYTES_MAX {
            return line.push_str(ELLIPSIS);
        }
        line.push_str(&escaped);
    }
}

/// A time in milliseconds since 1970, formatted as RFC 3339 in UTC.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = date::rfc3339(self.0 / 1000);
        write!(f, "{}.{:03}Z", String::from_utf8_lossy(&seconds), self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    const UNIX_MS: u64 = 784_111_777_042;
    const WORKER: Identity = Identity { pid: 7, worker: Some(2) };
    const SUPERVISOR: Identity = Identity { pid: 7, worker: None };

    type Format = fn(&Record<'_>, Identity, u64) -> Vec<u8>;

    /// Returns an event with this message, formatted by `format`.
    fn line(format: Format, identity: Identity, message: &str) -> String {
        let mut record = Record::builder();
        record.level(Level::Warn).target("fibsrv::server");
        let bytes = format(&record.args(format_args!("{message}")).build(), identity, UNIX_MS);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_has_all_members() {
        assert_eq!(
            line(json, WORKER, "cannot open \"a\\b\""),
            "{\"time\":\"1994-11-06T08:49:37.042Z\",\"level\":\"warn\",\"target\":\"fibsrv::server\",\"pid\":7,\
             \"worker\":2,\"message\":\"cannot open \\\"a\\\\b\\\"\"}\n"
        );
        assert!(line(json, SUPERVISOR, "x").contains("\"worker\":null"));
    }

    #[test]
    fn logfmt_has_all_keys() {
        assert_eq!(
            line(logfmt, WORKER, "two\nlines"),
            "time=1994-11-06T08:49:37.042Z level=warn target=fibsrv::server pid=7 worker=2 msg=\"two\\nlines\"\n"
        );
        assert!(line(logfmt, SUPERVISOR, "x").contains(" pid=7 msg=\"x\""));
    }

    /// Reverses the escaping; panics at what is not a JSON string.
    fn unescaped(text: &str) -> String {
        let mut letters = text.chars();
        let mut result = String::new();
        while let Some(letter) = letters.next() {
            assert!(letter != '"' && letter >= ' ', "{text}");
            result.push(match (letter == '\\').then(|| letters.next().unwrap()) {
                None => letter,
                Some('n') => '\n',
                Some('t') => '\t',
                Some('u') => {
                    let code: String = letters.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap()
                }
                Some(escaped) => escaped,
            });
        }
        result
    }

    #[test]
    fn any_message_is_one_valid_line_within_the_limit() {
        for message in
            ["\u{1}".repeat(5000), "\u{e9}\u{2028}\u{7f}\"".repeat(2000), "x".repeat(5000)]
        {
            let formats: [(Format, &str, &str); 2] =
                [(json, "\"message\":\"", "...\"}\n"), (logfmt, "msg=\"", "...\"\n")];
            for (format, before, after) in formats {
                let line = line(format, WORKER, &message);
                let (_, rest) = line.split_once(before).unwrap();
                let text = unescaped(rest.strip_suffix(after).unwrap());
                assert!(message.starts_with(&text), "{text}");
                assert!((4000..=LINE_BYTES_MAX).contains(&line.len()), "{}", line.len());
                assert!(line.lines().count() == 1 && line.ends_with('\n'));
            }
        }
    }
}
