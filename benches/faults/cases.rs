//! Random requests, each with the expected status, digits, fields and state of the connection. The numbers
//! come from decimal addition, so no code is shared with the server.

use crate::harness::{
    parser::{ReplyRef, ReplyTo},
    rng::Rng,
};
use std::collections::HashMap;

/// A request and its expected response.
#[derive(Debug)]
pub(crate) struct Case {
    /// The kind of request, for the list of failures.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: ReplyTo,
    /// The correct statuses.
    statuses: &'static [u16],
    /// The n of the digits in the body, or for HEAD in the body of the same GET.
    digits: Option<usize>,
    pub(crate) after: After,
}

/// The state of the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It is kept alive.
    KeepAlive,
    /// It is closed.
    Closed,
    /// The server may close it with `Connection: close`.
    Either,
}

/// Generates requests and checks responses.
#[derive(Debug)]
pub(crate) struct CaseGenerator {
    pub(crate) random: Rng,
    /// The digits of F(0), F(1), ...
    numbers: Vec<Vec<u8>>,
    /// The entity tags seen so far, which must not change.
    tags: HashMap<usize, String>,
}

const BAD_NUMBERS: [&str; 16] = [
    "", "-1", "+1", "1.5", "1e3", "abc", "0x10", "1%20", "%D9%A1", "1,000", "12a", "a12", "1_000",
    "%2B1", "--", "NaN",
];
const UNKNOWN_PATHS: [&str; 8] = [
    "/api",
    "/api/",
    "/api/fibonacci",
    "/API/fibonacci/1",
    "/api/fibonacci/1/2",
    "/favicon.ico",
    "//api/fibonacci/1",
    "/api/fibonacc%2569/1",
];
const FIELDS: [&str; 8] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n",
    "accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n",
    "Cookie: session=0123456789abcdef; a=\"b\"\r\n",
    "X-Empty:\r\n",
    "X-Spaced: \t value \t \r\n",
    "Accept-Encoding: gzip, deflate, br\r\n",
    "CONNECTION: Keep-Alive\r\n",
    "X-High: \u{e9}\r\n",
];
/// Heads with ambiguous framing or invalid syntax: everything after the target of a request for F(1).
const INVALID_HEADS: [&str; 22] = [
    " HTTP/1.1\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    " HTTP/1.1\r\nHost: a b\r\n\r\n",
    " HTTP/1.1\r\nHost : a\r\n\r\n",
    " HTTP/1.1\r\n Host: a\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    " HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    " HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    " HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nhello",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
    " HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];
const SMUGGLED: &str = "GET /api/fibonacci/99 HTTP/1.1\r\nHost: smuggled\r\n\r\n";

impl CaseGenerator {
    /// A generator for numbers up to F(`largest`).
    pub(crate) fn new(seed: u64, largest: usize) -> Self {
        let mut numbers = vec![b"0".to_vec(), b"1".to_vec()];
        while let [.., smaller, larger] = numbers.as_slice()
            && numbers.len() <= largest
        {
            numbers.push(sum(smaller, larger));
        }
        Self { random: Rng(seed), numbers, tags: HashMap::new() }
    }

    /// Generates the next request.
    pub(crate) fn next(&mut self) -> Case {
        match self.random.below(100) {
            0..34 => self.number("number", "GET", "", ""),
            34..41 => self.number("HEAD", "HEAD", "", ""),
            41..49 => self.bad_number(),
            49..54 => {
                let path = self.random.pick(&UNKNOWN_PATHS);
                self.plain("unknown path", &format!("GET {path}"), &[404], After::Either)
            }
            54..58 => {
                let method = self.random.pick(&["POST", "PUT", "DELETE", "PATCH"]);
                let mut case = self.plain(
                    "method",
                    &format!("{method} /api/fibonacci/7"),
                    &[405],
                    After::Either,
                );
                self.add_body(&mut case);
                case
            }
            58..61 => {
                let method = self.random.pick(&["BREW", "get", "PROPFIND", "GETT"]);
                self.plain(
                    "unknown method",
                    &format!("{method} /api/fibonacci/7"),
                    &[501],
                    After::Either,
                )
            }
            61..64 => {
                let target = self.random.pick(&["*", "/api/fibonacci/7"]);
                self.plain("OPTIONS", &format!("OPTIONS {target}"), &[204], After::KeepAlive)
            }
            64..72 => self.conditional(),
            72..82 => {
                let mut case = self.number("body", "GET", "", "");
                self.add_body(&mut case);
                case
            }
            82..85 => self.expecting(),
            85..88 => self.number("close", "GET", "Connection: close\r\n", ""),
            88..91 => self.old_version(),
            91..94 => self.beyond_a_limit(),
            94..96 => self.garbage(),
            _ => self.invalid_head(),
        }
    }

    /// Returns what is wrong with a response, if anything.
    pub(crate) fn check(&mut self, case: &Case, reply: &ReplyRef<'_>) -> Option<String> {
        if !case.statuses.contains(&reply.status) {
            return Some(format!("{} instead of {:?}", reply.status, case.statuses));
        }
        if reply.field("date").is_none() {
            return Some("no Date".to_owned());
        }
        if matches!(case.name, "method" | "OPTIONS") && reply.field("allow").is_none() {
            return Some("no Allow".to_owned());
        }
        let closes_unexpectedly = case.after == After::KeepAlive && reply.closes();
        if closes_unexpectedly {
            return Some("unexpected Connection: close".to_owned());
        }
        let n = case.digits?;
        let Some(tag) = reply.field("etag") else { return Some("no ETag".to_owned()) };
        let known = self.tags.entry(n).or_insert_with(|| tag.to_owned());
        if known != tag {
            return Some(format!("ETag {tag} instead of {known}"));
        }
        let digits = self.numbers.get(n).map_or(&[][..], Vec::as_slice);
        let length = reply.field("content-length").and_then(|length| length.parse().ok());
        if reply.status == 200 && length != Some(digits.len()) {
            return Some(format!("Content-Length {length:?} instead of {}", digits.len()));
        }
        let is_wrong = reply.status == 200 && case.to == ReplyTo::Other && reply.body != digits;
        is_wrong.then(|| format!("wrong digits for {n}: {}", reply.body.escape_ascii()))
    }

    /// A request for a number, whose target is written in one of several equivalent ways.
    fn number(&mut self, name: &'static str, method: &str, fields: &str, body: &str) -> Case {
        let n = match self.random.below(4) {
            0 => self.random.pick(&[0, 1, 2, 20, 92, 93, 94, 186, 187]),
            1 => self.random.below(300),
            _ => self.random.below(self.numbers.len()),
        }
        .min(self.numbers.len() - 1);
        let mut path = format!("/api/fibonacci/{n}");
        match self.random.below(10) {
            0 => path = format!("/api/fibonacci/{}{n}", "0".repeat(self.random.below(30))),
            1 => path = path.replace('1', "%31"),
            2 => path = path.replace("fib", "%66i%62"),
            3 => path.push_str("?x=/api/fibonacci/3&%20"),
            4 => path.insert_str(0, "http://example.org:8080"),
            _ => {}
        }
        let mut case = self.plain(name, &format!("{method} {path}"), &[200], After::KeepAlive);
        case.bytes.truncate(case.bytes.len() - 2);
        case.bytes.extend_from_slice(format!("{fields}\r\n{body}").as_bytes());
        if method == "HEAD" {
            case.to = ReplyTo::Head;
        }
        case.digits = Some(n);
        if fields.contains("close") {
            case.after = After::Closed;
        }
        case
    }

    /// A complete head with this method and target, and some fields without effect.
    fn plain(
        &mut self,
        name: &'static str,
        start: &str,
        statuses: &'static [u16],
        after: After,
    ) -> Case {
        let mut head = format!("{start} HTTP/1.1\r\n");
        let host_index = self.random.below(4);
        for index in 0..4 {
            if index == host_index {
                head.push_str(self.random.pick(&[
                    "Host: localhost\r\n",
                    "hOST:[::1]:80\r\n",
                    "Host: a.b\r\n",
                ]));
            } else if self.random.percent(30) {
                head.push_str(self.random.pick(&FIELDS));
            }
        }
        head.push_str("\r\n");
        Case { name, bytes: head.into_bytes(), to: ReplyTo::Other, statuses, digits: None, after }
    }

    /// Adds a body with either framing, which may look like a request.
    fn add_body(&mut self, case: &mut Case) {
        let body = match self.random.below(3) {
            0 => SMUGGLED.to_owned(),
            1 => "x".repeat(self.random.below(3000)),
            _ => "\r\n\r\n0\r\n\r\n".to_owned(),
        };
        case.bytes.truncate(case.bytes.len() - 2);
        let framed = if self.random.percent(50) {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        } else {
            let (first, second) = body.split_at_checked(body.len() / 2).unwrap_or((&body, ""));
            let halves = [first, second].into_iter().filter(|half| !half.is_empty());
            let extension = self.random.pick(&["", ";a", ";a=b", ";a=\"b c\""]);
            let chunk = |half: &str| format!("{:0>3X}{extension}\r\n{half}\r\n", half.len());
            let chunks: String = halves.map(chunk).collect();
            let trailer = self.random.pick(&["", "X-Trailer: a\r\n", "Content-Length: 3\r\n"]);
            format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n{trailer}\r\n")
        };
        case.bytes.extend_from_slice(framed.as_bytes());
    }

    fn bad_number(&mut self) -> Case {
        if self.random.percent(20) {
            let nines = "9".repeat(20 + self.random.below(40));
            return self.plain(
                "huge n",
                &format!("GET /api/fibonacci/{nines}"),
                &[422],
                After::Either,
            );
        }
        let text = self.random.pick(&BAD_NUMBERS);
        self.plain("bad n", &format!("GET /api/fibonacci/{text}"), &[400], After::Either)
    }

    /// A condition with a known result: any tag, the correct tag among others, or a wrong one.
    fn conditional(&mut self) -> Case {
        let mut case = self.number("condition", "GET", "", "");
        let tag = case.digits.and_then(|n| self.tags.get(&n));
        let (value, statuses): (_, &[u16]) = match (self.random.below(4), tag) {
            (0, _) => ("*".to_owned(), &[304]),
            (1, Some(tag)) => (tag.clone(), &[304]),
            (2, Some(tag)) => (format!("\"a,b\", W/{tag}, \"c\""), &[304]),
            _ => ("\"other\", W/\"other\"".to_owned(), &[200]),
        };
        case.statuses = statuses;
        case.bytes.truncate(case.bytes.len() - 2);
        case.bytes.extend_from_slice(format!("If-None-Match: {value}\r\n\r\n").as_bytes());
        case
    }

    fn expecting(&mut self) -> Case {
        if self.random.percent(50) {
            return self.number(
                "100-continue",
                "GET",
                "Expect: 100-Continue\r\nContent-Length: 5\r\n",
                "hello",
            );
        }
        let mut case = self.number("expectation", "GET", "Expect: unknown\r\n", "");
        (case.statuses, case.digits, case.after) = (&[417], None, After::Either);
        case
    }

    /// HTTP/1.0: without Host, and closed by default.
    fn old_version(&mut self) -> Case {
        let n = self.random.below(self.numbers.len());
        let (fields, after) = match self.random.below(3) {
            0 => ("Connection: keep-alive\r\n", After::KeepAlive),
            1 => ("Host: a\r\n", After::Closed),
            _ => ("", After::Closed),
        };
        let bytes = format!("GET /api/fibonacci/{n} HTTP/1.0\r\n{fields}\r\n").into_bytes();
        Case {
            name: "HTTP/1.0",
            bytes,
            to: ReplyTo::Other,
            statuses: &[200],
            digits: Some(n),
            after,
        }
    }

    fn beyond_a_limit(&mut self) -> Case {
        let (name, head, statuses): (_, _, &'static [u16]) = match self.random.below(5) {
            0 => (
                "long target",
                format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)),
                &[414],
            ),
            1 => (
                "long field",
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(17_000)),
                &[431],
            ),
            2 => (
                "many fields",
                format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:b\r\n".repeat(200)),
                &[431],
            ),
            3 => (
                "long body",
                "GET /api/fibonacci/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
                    .to_owned(),
                &[413],
            ),
            _ => ("version", "GET /api/fibonacci/1 HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), &[505]),
        };
        closing(name, head.into_bytes(), statuses)
    }

    /// Bytes that are not a request.
    fn garbage(&mut self) -> Case {
        let length = 1 + self.random.below(200);
        let mut bytes: Vec<u8> =
            (0..length).map(|_| u8::try_from(self.random.below(256)).unwrap_or_default()).collect();
        bytes.insert(0, self.random.pick(b"\0\x16(<{\x80"));
        bytes.extend_from_slice(b"\r\n\r\n");
        closing("garbage", bytes, &[400])
    }

    fn invalid_head(&mut self) -> Case {
        let rest = self.random.pick(&INVALID_HEADS);
        closing("invalid head", format!("GET /api/fibonacci/1{rest}").into_bytes(), &[400])
    }
}

/// A request after which the server closes the connection.
fn closing(name: &'static str, bytes: Vec<u8>, statuses: &'static [u16]) -> Case {
    Case { name, bytes, to: ReplyTo::Other, statuses, digits: None, after: After::Closed }
}

/// The sum of two decimal numbers, the second at least as long as the first.
fn sum(smaller: &[u8], larger: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let padded = smaller.iter().rev().copied().chain(std::iter::repeat(b'0'));
    let mut digits: Vec<u8> = (larger.iter().rev().zip(padded))
        .map(|(one, other)| {
            let total = one - b'0' + other - b'0' + carry;
            carry = total / 10;
            b'0' + total % 10
        })
        .collect();
    if carry > 0 {
        digits.push(b'1');
    }
    digits.reverse();
    digits
}
