//! The access log: whatever a client sends, a response is one line, and the line has what was sent.

use std::{fs::File, io::Read as _, os::fd::AsRawFd as _};

use fibsrv::{
    http::{Status, request::limits::Limits},
    logging::access::{
        AccessLogOptions, LineFormat, LogEntry,
        lines::{LINE_BYTES_MAX, Lines},
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use crate::{
    CONTINUE, config, defects,
    offline::{Offline, session},
    pieces, requests, serve, take_responses,
};

/// Returns the line of a response to `request`.
fn line(format: LineFormat, request: &[u8]) -> String {
    let (mut lines, mut out) = (Lines::new(format), Vec::new());
    lines.add(&LogEntry {
        client: None,
        unix_ms: 1,
        request,
        status: Status::Ok,
        body_bytes: 1,
        response_bytes: 2,
    });
    lines.complete(3_000, &mut out);
    String::from_utf8(out).unwrap()
}

/// Bytes that may end a text or a line if they are not escaped.
fn special_bytes() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(&b"\r\n\"\\ :\t\0\x7f{}x"[..])]
}

/// Bytes that end neither a part of a request line nor a field line, have no white space around them, and are short
/// enough not to be truncated when they are escaped.
fn part(least: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = special_bytes().prop_filter("ends it", |byte| !matches!(byte, b'\r' | b'\n' | b' '));
    vec(byte, least..40).prop_map(|bytes| bytes.trim_ascii().to_vec())
}

/// Returns the four texts of a line in the combined format, none of which contains a quote.
fn texts(line: &str) -> Vec<&str> {
    let parts: Vec<&str> = line.split('"').collect();
    assert_eq!(parts.len(), 9, "{line}");
    [1, 3, 5, 7].map(|at| parts[at]).to_vec()
}

/// Decodes an escaped text.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// Decodes a JSON string. Returns `None` for null.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    let bytes =
        |text: &str| text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect();
    assert!(value.is_null() || value.is_string(), "{value}");
    value.as_str().map(bytes)
}

const NAMES: [&str; 14] = [
    "time",
    "remote_addr",
    "remote_port",
    "method",
    "target",
    "version",
    "status",
    "body_bytes_sent",
    "bytes_sent",
    "referer",
    "user_agent",
    "forwarded_for",
    "trace_id",
    "duration_us",
];

/// Parses a line of JSON with an independent parser.
fn object(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap();
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = NAMES;
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "{line}");
    value
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_one_line(
        request in prop_oneof![vec(special_bytes(), 0..300), vec(special_bytes(), 0..9000)],
        at in any::<Index>(),
    ) {
        // Alone, and within a request.
        let mut around = b"GET / HTTP/1.1\r\nReferer: b\r\nUser-Agent: c\r\nX-Forwarded-For: d\r\n\r\n".to_vec();
        let at = at.index(around.len());
        around.splice(at..at, request.iter().copied());
        for request in [&request, &around] {
            for format in [LineFormat::Combined, LineFormat::Json] {
                let line = line(format, request);
                let (end, before) = line.as_bytes().split_last().unwrap();
                prop_assert_eq!(*end, b'\n');
                prop_assert!(before.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", line);
                prop_assert!(line.len() <= LINE_BYTES_MAX);
            }
            let object = object(&line(LineFormat::Json, request));
            prop_assert_eq!((&object["status"], &object["duration_us"]), (&200.into(), &3.into()));
            let line = line(LineFormat::Combined, request);
            prop_assert!(line.starts_with("- - - [01/Jan/1970:00:00:00 +0000] \""), "{}", line);
            prop_assert!(line.ends_with("\" 0.001 3\n"), "{}", line);
            texts(&line);
        }
    }

    #[test]
    fn a_line_has_what_was_sent(
        (method, target, version) in (vec(33..127_u8, 1..6), part(1), vec(33..127_u8, 1..3)),
        fields in [option::of(part(0)), option::of(part(0)), option::of(part(0))],
        is_upper in any::<bool>(),
    ) {
        let mut request = [&method[..], &target, &version].join(&b' ');
        for (name, value) in ["referer", "User-Agent", "x-forwarded-FOR"].iter().zip(&fields) {
            if let Some(value) = value {
                let name = if is_upper { name.to_uppercase() } else { (*name).to_owned() };
                request.extend_from_slice(&[b"\r\n", name.as_bytes(), b": ", value, b" "].concat());
            }
        }
        request.extend_from_slice(b"\r\n\r\n");
        let object = object(&line(LineFormat::Json, &request));
        let found = ["method", "target", "version"].map(|name| bytes_of(&object[name]));
        prop_assert_eq!(found, [&method, &target, &version].map(|part| Some(part.clone())));
        let found = ["referer", "user_agent", "forwarded_for"].map(|name| bytes_of(&object[name]));
        prop_assert_eq!(&found, &fields);

        let line = line(LineFormat::Combined, &request);
        let found = texts(&line);
        prop_assert_eq!(unescaped(found[0]), [&method[..], &target, &version].join(&b' '));
        for (text, field) in found[1..].iter().zip(&fields) {
            prop_assert_eq!(&unescaped(text), field.as_deref().unwrap_or(b"-"));
        }
    }

    #[test]
    fn each_response_is_a_line_in_order(
        cases in vec(requests::cases(), 1..5),
        (defective, status) in defects::requests(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let before = cases.iter().flat_map(|case| case.bytes.clone());
        let stream: Vec<u8> = before.chain(defective).collect();
        let file = File::from(memfd_create("log", MemfdFlags::CLOEXEC).unwrap());
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let options = AccessLogOptions { format: LineFormat::Json, file: Some(path.into()) };
        let mut offline = Offline::new((100, 100), Limits::DEFAULT, Some(&options));
        serve(&mut offline, &mut session(), &pieces(&stream, &cuts));
        prop_assert_eq!(offline.log.unwrap().flush(0), 0, "nothing is dropped");

        let mut text = String::new();
        (&file).read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text.lines().map(object).collect();
        let answered = cases.iter().position(|case| case.expected.closes).map_or(cases.len(), |last| last + 1);
        let is_rejected = answered == cases.len() && !cases[answered - 1].expected.closes;
        let statuses = cases[..answered].iter().map(|case| case.expected.status);
        let statuses: Vec<u16> = statuses.chain(is_rejected.then_some(status)).collect();
        prop_assert!(lines.iter().map(|line| &line["status"]).eq(&statuses), "{:?} {}", statuses, text);
        for (line, case) in lines.iter().zip(&cases[..answered]) {
            let parts = ["method", "target", "version"].map(|name| bytes_of(&line[name]).unwrap());
            prop_assert!(case.bytes.trim_ascii_start().starts_with(&parts.join(&b' ')), "{}", line);
        }
        // The logged lengths are those of the output, except for interim responses.
        let logged: u64 = lines.iter().map(|line| line["bytes_sent"].as_u64().unwrap()).sum();
        let interims = offline.output.windows(CONTINUE.len()).filter(|window| *window == CONTINUE);
        let interim_bytes = interims.count() * CONTINUE.len();
        prop_assert_eq!(usize::try_from(logged).unwrap() + interim_bytes, offline.output.len());
        let mut rest = &offline.output[..];
        prop_assert_eq!(take_responses(&mut rest, &cases), !is_rejected);
    }
}
