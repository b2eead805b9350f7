//! The stream that a client sends, and the responses that it must get.

use crate::{empty_lines, parser::ReplyTo, rng::Rng};

/// A stream of requests, each with an n of its own.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) stream: Vec<u8>,
    pub(crate) requests: Vec<Planned>,
    /// Status of the response to the bytes after the last request, if there are any.
    pub(crate) rejection: Option<u16>,
}

/// A request in the stream.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) n: u64,
    pub(crate) asked: ReplyTo,
    pub(crate) body: BodyHandling,
    pub(crate) head_end: usize,
    pub(crate) end: usize,
    /// Whether the response closes the connection.
    pub(crate) closes: bool,
    /// Bytes of the content of the response.
    pub(crate) content_bytes: usize,
}

/// How the body of a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyHandling {
    /// It is read, if there is one.
    Read,
    /// It is read, and the client may wait for 100.
    ReadAfterContinue,
    /// It is not read, although the client waits for 100.
    Refused,
}

impl Plan {
    /// Returns a plan of up to 300 requests, whose responses have up to `content_bytes_max` bytes of content.
    pub(crate) fn random(random: &mut Rng, content_bytes_max: usize) -> Self {
        let mut plan = Self::default();
        let requests = random.pick(&[3, 12, 90, 90, 300]);
        for _ in 0..random.below(requests) {
            plan.add_request(random, content_bytes_max);
            if plan.requests.last().is_some_and(|request| request.closes) {
                let junk = if random.below(40) == 0 { 400_000 } else { random.below(200) };
                plan.stream.resize(plan.stream.len() + junk, b'j');
                return plan;
            }
        }
        match random.below(4) {
            0 => {
                let (status, bytes) = random.pick(DEFECTS);
                plan.rejection = Some(status);
                plan.stream.extend_from_slice(bytes);
                plan.stream.resize(plan.stream.len() + random.below(20_000), b'j');
            }
            1 => plan.cut(random),
            _ => {}
        }
        plan
    }

    /// Truncates the stream at a random place.
    fn cut(&mut self, random: &mut Rng) {
        let length = random.below(self.stream.len() + 1);
        self.stream.truncate(length);
        self.requests.retain(|request| request.end <= length);
        let last_end = self.requests.last().map_or(0, |request| request.end);
        let is_clean = last_end + empty_lines(&self.stream[last_end..]) == length;
        self.rejection = (!is_clean).then_some(400);
    }

    fn add_request(&mut self, random: &mut Rng, content_bytes_max: usize) {
        let n = self.requests.len() as u64 + 1_000;
        let closes = random.below(60) == 0;
        let (method, asked) = random.pick(&[
            ("GET", ReplyTo::Other),
            ("GET", ReplyTo::Other),
            ("HEAD", ReplyTo::Head),
            ("POST", ReplyTo::Other),
        ]);
        let (framing, body) = match random.below(8) {
            0 => {
                let length = random.pick(&[1, 20, 9_000]);
                (format!("Content-Length: {length}\r\n"), vec![b'b'; length])
            }
            1 => ("Transfer-Encoding: chunked\r\n".to_owned(), chunks(random)),
            _ => (String::new(), Vec::new()),
        };
        let expects = random.below(4) == 0;
        let handling = if !expects || body.is_empty() {
            BodyHandling::Read
        } else if random.below(20) == 0 {
            BodyHandling::Refused
        } else {
            BodyHandling::ReadAfterContinue
        };
        let fields = [
            (random.below(3) == 0).then(|| "Accept: text/plain\r\n".to_owned()),
            (random.below(50) == 0).then(|| format!("Long: {}\r\n", "x".repeat(7_900))),
            expects.then(|| "Expect: 100-continue\r\n".to_owned()),
            closes.then(|| "Connection: close\r\n".to_owned()),
        ];
        let fields: String = fields.into_iter().flatten().collect();
        let empty_lines = if random.below(10) == 0 { "\r\n\r\n" } else { "" };
        let head =
            format!("{empty_lines}{method} /{n} HTTP/1.1\r\nHost: a\r\n{framing}{fields}\r\n");
        self.stream.extend_from_slice(head.as_bytes());
        let head_end = self.stream.len();
        self.stream.extend_from_slice(&body);
        self.requests.push(Planned {
            n,
            asked,
            body: handling,
            head_end,
            end: self.stream.len(),
            closes: closes || handling == BodyHandling::Refused,
            content_bytes: random.pick(&[4, 4, 300, content_bytes_max]),
        });
    }
}

/// A chunked body whose content looks like requests.
fn chunks(random: &mut Rng) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.below(6) {
        let content = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1 + random.below(9));
        let extension = random.pick(&["", ";a=\"b\""]);
        body.extend_from_slice(format!("{:x}{extension}\r\n", content.len()).as_bytes());
        body.extend_from_slice(&content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(random.pick(&[&b"0\r\n\r\n"[..], b"0\r\nT: v\r\n\r\n"]));
    body
}

/// Bytes that are not a request, and the status of the response to them.
const DEFECTS: &[(u16, &[u8])] = &[
    (400, b"\0"),
    (400, b"GET / HTTP/1.1\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd"),
    (413, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"),
    (501, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
];
