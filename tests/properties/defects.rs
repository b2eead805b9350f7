//! Requests with one defect each, and the status that rejects it.

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    requests::{Field, others, render},
    rng::Rng,
};

/// A defect, and the status of the response.
#[derive(Clone, Copy, Debug)]
enum Defect {
    /// This is the request line.
    Line(u16, &'static str),
    /// The target has this length.
    TargetBytes(u16, usize),
    /// This line is among the fields.
    Raw(u16, &'static [u8]),
    /// These fields are added.
    Fields(u16, &'static [(&'static str, &'static str)]),
    /// `Host` is missing.
    NoHost(u16),
    /// This many fields.
    Many(u16, usize),
    /// A field with a value of this length.
    Long(u16, usize),
    /// This is the chunked body.
    Chunks(u16, &'static [u8]),
    /// One of the line ends is LF alone.
    BareLineFeed(u16),
    /// The stream ends within the request.
    Cut(u16),
}

const LINE: &str = "GET /api/fibonacci/1 HTTP/1.1";

const DEFECTS: &[Defect] = &[
    Defect::Line(400, "GET  /api/fibonacci/1 HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1  HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1 HTTP/1.1 "),
    Defect::Line(400, " GET /api/fibonacci/1 HTTP/1.1"),
    Defect::Line(400, "GET\t/api/fibonacci/1 HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1"),
    Defect::Line(400, "GET /api/fibonacci/1 http/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1 HTTP/1.10"),
    Defect::Line(400, "G(T /api/fibonacci/1 HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1\r HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/1#x HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/% HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/%zz HTTP/1.1"),
    Defect::Line(400, "GET /api/fibonacci/\u{e9} HTTP/1.1"),
    Defect::Line(400, "GET api/fibonacci/1 HTTP/1.1"),
    Defect::Line(400, "GET * HTTP/1.1"),
    Defect::Line(400, "GET ftp://a/1 HTTP/1.1"),
    Defect::Line(400, "GET http://u@a/1 HTTP/1.1"),
    Defect::Line(400, "CONNECT / HTTP/1.1"),
    Defect::Line(400, "CONNECT a HTTP/1.1"),
    Defect::Line(501, "get /api/fibonacci/1 HTTP/1.1"),
    Defect::Line(501, "BREW /api/fibonacci/1 HTTP/1.1"),
    Defect::Line(505, "GET /api/fibonacci/1 HTTP/2.0"),
    Defect::Line(505, "GET /api/fibonacci/1 HTTP/0.9"),
    Defect::TargetBytes(414, 8193),
    Defect::TargetBytes(414, 20_000),
    Defect::Raw(400, b"A : b"),
    Defect::Raw(400, b": b"),
    Defect::Raw(400, b"A"),
    Defect::Raw(400, b" A: b"),
    Defect::Raw(400, b"\tb"),
    Defect::Raw(400, b"A(B: c"),
    Defect::Raw(400, b"A\xe9: b"),
    Defect::Raw(400, b"A: b\0c"),
    Defect::Raw(400, b"A: b\rc"),
    Defect::Raw(400, b"A: b\x7f"),
    Defect::Raw(400, b"Content-Length: 3, 3"),
    Defect::Raw(400, b"Content-Length: +3"),
    Defect::Raw(400, b"Content-Length: 0x3"),
    Defect::Raw(400, b"Content-Length:"),
    Defect::Raw(413, b"Content-Length: 1048577"),
    Defect::Raw(413, b"Content-Length: 99999999999999999999999"),
    Defect::Raw(501, b"Transfer-Encoding: gzip, chunked"),
    Defect::Raw(400, b"Transfer-Encoding: chunked, gzip"),
    Defect::Raw(400, b"Transfer-Encoding: gzip"),
    Defect::Raw(400, b"Transfer-Encoding: identity"),
    Defect::Raw(400, b"Transfer-Encoding: chunked, chunked"),
    Defect::Raw(400, b"Transfer-Encoding:\x0bchunked"),
    Defect::Raw(417, b"Expect: 200-ok"),
    Defect::Raw(417, b"Expect: 100-continue, 200-ok"),
    Defect::Fields(400, &[("Host", "a")]),
    Defect::Fields(400, &[("Content-Length", "3"), ("Content-Length", "3")]),
    Defect::Fields(400, &[("Content-Length", "3"), ("Content-Length", "4")]),
    Defect::Fields(400, &[("Content-Length", "3"), ("Transfer-Encoding", "chunked")]),
    Defect::Fields(400, &[("Content-Length", "3"), ("Transfer-Encoding", "gzip, chunked")]),
    Defect::Fields(400, &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
    Defect::NoHost(400),
    Defect::Many(431, 65),
    Defect::Many(431, 200),
    Defect::Long(431, 16_384),
    Defect::Long(431, 20_000),
    Defect::Chunks(400, b"x\r\n"),
    Defect::Chunks(400, b"\r\n"),
    Defect::Chunks(400, b"3 \r\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3\r\nabcd\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3\r\nabc\n0\r\n\r\n"),
    Defect::Chunks(400, b"3;\0\r\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3;a=\"\r\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3;\r\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"3;a b\r\nabc\r\n0\r\n\r\n"),
    Defect::Chunks(400, b"0\r\nA\r\n\r\n"),
    Defect::Chunks(400, b"0\r\nA: b\n\r\n"),
    Defect::Chunks(400, b"0\r\n\r\r\n"),
    Defect::Chunks(400, b"00000000000000001ffffffffffffffff\r\n"),
    Defect::Chunks(413, b"100001\r\n"),
    Defect::Chunks(413, b"1\r\na\r\n100000\r\n"),
    Defect::BareLineFeed(400),
    Defect::BareLineFeed(400),
    Defect::Cut(400),
    Defect::Cut(400),
];

/// A valid body for a recipient that overlooks a defect of the fields, which would then send a response.
const BODY: &[u8] = b"0\r\n\r\n";

/// Returns a request with a defect and bytes that follow it, and the status that rejects it.
pub(crate) fn requests() -> impl Strategy<Value = (Vec<u8>, u16)> {
    let appearance = (vec(others(), 0..5), any::<u64>());
    (select(DEFECTS), appearance, any::<bool>()).prop_map(
        |(defect, (fields, chance), is_followed)| {
            let mut random = Rng(chance);
            let (mut bytes, status) = add_defect(defect, fields, &mut random);
            if is_followed && !matches!(defect, Defect::Cut(_)) {
                bytes.extend_from_slice(b"GET /api/fibonacci/7 HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            (bytes, status)
        },
    )
}

fn add_defect(defect: Defect, mut fields: Vec<Field>, random: &mut Rng) -> (Vec<u8>, u16) {
    let mut add = |name: &str, value: &str| fields.push((name.to_owned(), value.into()));
    if !matches!(defect, Defect::NoHost(_)) {
        add("Host", "a");
    }
    match defect {
        Defect::Line(status, line) => (render("", line, fields, random), status),
        Defect::TargetBytes(status, length) => {
            let line = format!("GET /{} HTTP/1.1", "x".repeat(length - 1));
            (render("", &line, fields, random), status)
        }
        Defect::Raw(status, line) => {
            let head = render("", LINE, fields, random);
            let ends: Vec<usize> = line_ends(&head).collect();
            let at = random.pick(&ends[..ends.len() - 1]) + 1;
            ([&head[..at], line, b"\r\n", &head[at..], BODY].concat(), status)
        }
        Defect::Fields(status, more) => {
            for (name, value) in more {
                add(name, value);
            }
            ([&render("", LINE, fields, random), BODY].concat(), status)
        }
        Defect::NoHost(status) => (render("", LINE, fields, random), status),
        Defect::Many(status, count) => {
            fields.resize(count, ("A".to_owned(), b"b".to_vec()));
            (render("", LINE, fields, random), status)
        }
        Defect::Long(status, length) => {
            add("A", &"b".repeat(length));
            (render("", LINE, fields, random), status)
        }
        Defect::Chunks(status, body) => {
            add("Transfer-Encoding", "chunked");
            ([&render("", LINE, fields, random), body].concat(), status)
        }
        Defect::BareLineFeed(status) => {
            let mut head = render("", LINE, fields, random);
            let ends: Vec<usize> = line_ends(&head).collect();
            head.remove(random.pick(&ends) - 1);
            (head, status)
        }
        Defect::Cut(status) => {
            add("Content-Length", "5");
            let mut bytes = render("\r\n", LINE, fields, random);
            bytes.extend_from_slice(b"abcde");
            bytes.truncate(1 + random.below(bytes.len() - 1));
            (bytes, status)
        }
    }
}

/// Returns the position of each line feed.
fn line_ends(head: &[u8]) -> impl Iterator<Item = usize> {
    head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at)
}
