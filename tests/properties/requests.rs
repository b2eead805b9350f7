//! Well-formed requests of every kind, each with the response that a model of a few lines expects.

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{parser::ReplyTo, rng::Rng};

/// A request on the wire, and its response.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

/// The response that a request must get.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) asked: ReplyTo,
    /// Maximum number of interim responses before it.
    pub(crate) interims: usize,
    pub(crate) closes: bool,
}

/// The resource of a request.
#[derive(Clone, Copy, Debug)]
enum Resource {
    Number { n: u64, zeros: usize },
    Malformed(&'static str),
    Health(&'static str, &'static str),
    Unknown(&'static str),
}

/// The body and its framing.
#[derive(Clone, Debug)]
enum Body {
    None,
    Length { content: Vec<u8>, zeros: usize },
    Chunked(Vec<u8>),
}

/// A list of entity tags, and the opaque tags in it.
type Tags = (String, Vec<String>);

/// A field line without its line end: name, and value with the white space around it.
pub(crate) type Field = (String, Vec<u8>);

/// The last n of the table.
pub(crate) const LAST: u64 = 100;

/// Well-formed requests.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let appearance = (vec(others(), 0..6), any::<u64>(), any::<u64>(), 0..3_usize);
    (lines(), meanings(), appearance).prop_map(
        |(line, (connection, tags, expects, body), (others, escapes, seed, empty_lines))| {
            let (method, resource, authority, query, minor) = line;
            let body =
                if minor == 0 && matches!(body, Body::Chunked(_)) { Body::None } else { body };
            let target = target(method, resource, (authority, query), escapes);
            let mut fields = others;
            let mut add = |name: &str, value: &[u8]| fields.push((name.to_owned(), value.to_vec()));
            if minor > 0 || escapes % 2 == 0 {
                add("Host", [&b"a"[..], b"", b"a:3000", b"[::1]:80"][(escapes % 4) as usize]);
            }
            if !connection.is_empty() {
                add("Connection", connection.as_bytes());
            }
            if let Some((list, _)) = &tags {
                add("If-None-Match", list.as_bytes());
            }
            if expects {
                add("Expect", b"100-Continue");
            }
            let (content, has_body) = body_on_wire(body, &mut add);
            let has = |option: &str| {
                connection.split(',').any(|found| found.trim().eq_ignore_ascii_case(option))
            };
            let (status, text) = match (method, target.as_str()) {
                ("CONNECT", _) => NOT_ALLOWED,
                (_, "*") => (204, String::new()),
                _ => response(method, resource, tags.as_ref().map(|tags| &tags.1[..])),
            };
            let is_awaited = expects && minor > 0 && has_body;
            // Its body is not read, so that the connection has to close.
            let is_refused = is_awaited && is_rejected(method, target.as_str(), resource);
            let line = format!("{method} {target} HTTP/1.{minor}");
            let expected = Expected {
                status,
                body: text.into_bytes(),
                asked: if method == "HEAD" { ReplyTo::Head } else { ReplyTo::Other },
                interims: usize::from(is_awaited && !is_refused),
                closes: is_refused || has("close") || minor == 0 && !has("keep-alive"),
            };
            let head = render(&"\r\n".repeat(empty_lines), &line, fields, &mut Rng(seed));
            Case { bytes: [head, content].concat(), expected }
        },
    )
}

const NOT_ALLOWED: (u16, String) = (405, String::new());

/// Method, resource, authority if the target is in absolute form, query, and minor version.
fn lines() -> impl Strategy<Value = (&'static str, Resource, &'static str, &'static str, u32)> {
    (
        select(
            &[
                "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
                "PATCH",
            ][..],
        ),
        resources(),
        select(&["", "", "http://a", "HTTPS://[::1]:80", "http://a.b:"][..]),
        select(&["", "", "?", "?a=b/c?%20", "?20"][..]),
        select(&[1, 1, 1, 1, 0, 2, 9][..]),
    )
}

/// The value of `Connection`, a list of entity tags, whether the client expects 100, and the body.
fn meanings() -> impl Strategy<Value = (&'static str, Option<Tags>, bool, Body)> {
    (
        select(
            &[
                "",
                "",
                "close",
                "Close",
                "keep-alive",
                "Keep-Alive, foo",
                "foo ,CLOSE",
                ",,",
                "closed",
            ][..],
        ),
        option::of(tag_lists()),
        any::<bool>(),
        bodies(),
    )
}

fn target(method: &str, of: Resource, (authority, query): (&str, &str), escapes: u64) -> String {
    match method {
        "CONNECT" => "a:1".to_owned(),
        "OPTIONS" if escapes.is_multiple_of(4) => "*".to_owned(),
        _ => match path(of) {
            path if path.is_empty() && authority.is_empty() => format!("/{query}"),
            path => format!("{authority}{}{query}", escape(&path, escapes)),
        },
    }
}

/// The model: status and content of the response to a request with this method and these entity tags.
fn response(method: &str, resource: Resource, tags: Option<&[String]>) -> (u16, String) {
    let is_read = matches!(method, "GET" | "HEAD");
    match resource {
        Resource::Unknown(_) => (404, "not found\n".to_owned()),
        _ if method == "OPTIONS" => (204, String::new()),
        _ if !is_read => NOT_ALLOWED,
        Resource::Health(_, text) => (200, text.to_owned()),
        Resource::Malformed(_) => (400, String::new()),
        Resource::Number { n, .. } if n > LAST => (422, format!("n must be at most {LAST}\n")),
        Resource::Number { n, .. } => {
            let matches = tags.is_some_and(|tags| tags.contains(&n.to_string()));
            if matches { (304, String::new()) } else { (200, fibonacci(n)) }
        }
    }
}

/// Whether the method or the path of a request is rejected, whatever its body is.
fn is_rejected(method: &str, target: &str, resource: Resource) -> bool {
    let is_served = matches!(method, "GET" | "HEAD" | "OPTIONS");
    let has_resource = match resource {
        Resource::Unknown(_) => false,
        Resource::Malformed(_) => method == "OPTIONS",
        Resource::Number { .. } | Resource::Health(..) => true,
    };
    !is_served || target != "*" && !has_resource
}

fn fibonacci(n: u64) -> String {
    let (mut this, mut next) = (0_u128, 1_u128);
    for _ in 0..n {
        (this, next) = (next, this + next);
    }
    this.to_string()
}

fn resources() -> impl Strategy<Value = Resource> {
    prop_oneof![
        4 => (0..LAST + 20, 0..3_usize).prop_map(|(n, zeros)| Resource::Number { n, zeros }),
        1 => select(&[u64::MAX, LAST, LAST + 1][..])
            .prop_map(|n| Resource::Number { n, zeros: 30 }),
        1 => select(&["", "x", "-1", "+1", "1.0", "0x10", "1e3", "1,0"][..])
            .prop_map(Resource::Malformed),
        1 => select(&[("/healthz", "ok"), ("/readyz", "ready")][..])
            .prop_map(|(path, text)| Resource::Health(path, text)),
        1 => select(&["//", "/index.html", "/api", "/api/fibonacci/1/"][..])
            .prop_map(Resource::Unknown),
        1 => select(&["//healthz", "/Healthz", "/healthz/", "/metrics/x"][..])
            .prop_map(Resource::Unknown),
    ]
}

fn path(resource: Resource) -> String {
    match resource {
        Resource::Number { n, zeros } => format!("/api/fibonacci/{}{n}", "0".repeat(zeros)),
        Resource::Malformed(text) => format!("/api/fibonacci/{text}"),
        Resource::Health(path, _) | Resource::Unknown(path) => path.to_owned(),
    }
}

/// Escapes the unreserved characters that `bits` selects, which does not change the meaning.
pub(crate) fn escape(path: &str, bits: u64) -> String {
    let is_unreserved = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
    let escape = |(at, letter): (usize, char)| match bits >> (at % 64) & 1 {
        1 if is_unreserved(letter) && bits.is_multiple_of(3) => {
            format!("%{:02X}", u32::from(letter))
        }
        _ => letter.to_string(),
    };
    path.chars().enumerate().map(escape).collect()
}

/// Lists of entity tags.
pub(crate) fn tag_lists() -> impl Strategy<Value = Tags> {
    let tag = prop_oneof![
        (0..LAST).prop_map(|n| n.to_string()),
        select(&["", "a,b", "*", "W/", " 20"][..]).prop_map(str::to_owned),
    ];
    let element = (tag, any::<bool>(), select(&[",", ", ", " ,\t", ",,", ", , "][..]));
    vec(element, 0..8).prop_map(|elements| {
        let mut list = String::new();
        for (tag, is_weak, separator) in &elements {
            list.push_str(if *is_weak { "W/\"" } else { "\"" });
            list.push_str(tag);
            list.push('"');
            list.push_str(separator);
        }
        (list, elements.into_iter().map(|element| element.0).collect())
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        3 => Just(Body::None),
        1 => (contents(), 0..3_usize).prop_map(|(content, zeros)| Body::Length { content, zeros }),
        1 => chunked().prop_map(|body| Body::Chunked(body.1)),
    ]
}

/// Contents, some of which look like requests or framing.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..60),
        select(&["GET /api/fibonacci/1 HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n", "\r\n"][..])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// A content, and a chunked body with it.
pub(crate) fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let size_end =
        select(&["", "", ";a", ";a=b;c=\"d\"", ";\t a = \"; \\\"\u{e9}\"", " ;a;b = c"][..]);
    let chunk = (contents(), 0..3_usize, any::<bool>(), size_end);
    let trailers = select(&["", "", "A: b\r\n", "A:\r\nB!#: \tc\u{e9}\r\n"][..]);
    (vec(chunk, 0..4), 1..4_usize, trailers).prop_map(|(chunks, zeros, trailers)| {
        let (mut all, mut body) = (Vec::new(), Vec::new());
        for (content, zeros, is_upper, size_end) in chunks {
            if content.is_empty() {
                continue; // it would be the last chunk
            }
            let size = format!("{}{:x}", "0".repeat(zeros), content.len());
            let size = if is_upper { size.to_uppercase() } else { size };
            body.extend_from_slice(format!("{size}{size_end}\r\n").as_bytes());
            body.extend_from_slice(&content);
            body.extend_from_slice(b"\r\n");
            all.extend_from_slice(&content);
        }
        body.extend_from_slice(format!("{}\r\n{trailers}\r\n", "0".repeat(zeros)).as_bytes());
        (all, body)
    })
}

/// Returns the bytes of a body and whether there is one, and adds its field.
fn body_on_wire(body: Body, add: &mut impl FnMut(&str, &[u8])) -> (Vec<u8>, bool) {
    match body {
        Body::None => (Vec::new(), false),
        Body::Length { content, zeros } => {
            let length = format!("{}{}", "0".repeat(zeros), content.len());
            add("Content-Length", length.as_bytes());
            let is_there = !content.is_empty();
            (content, is_there)
        }
        Body::Chunked(bytes) => {
            add("Transfer-Encoding", b"Chunked");
            (bytes, true)
        }
    }
}

/// Fields that the server ignores.
pub(crate) fn others() -> impl Strategy<Value = Field> {
    let value = vec(prop_oneof![32..127_u8, Just(b'\t'), 128..=255_u8], 0..20);
    ("X[-A-Za-z0-9!#$%&'*+.^_`|~]{0,9}", value)
}

/// Renders a head with its fields in random order, names in random case, and random white space around values.
pub(crate) fn render(before: &str, line: &str, fields: Vec<Field>, random: &mut Rng) -> Vec<u8> {
    let mut fields: Vec<_> =
        fields.into_iter().map(|field| (random.below(1 << 20), field)).collect();
    fields.sort();
    let mut head = format!("{before}{line}\r\n").into_bytes();
    for (_, (name, value)) in fields {
        head.extend(name.bytes().map(|byte| match random.below(4) {
            0 => byte.to_ascii_uppercase(),
            1 => byte.to_ascii_lowercase(),
            _ => byte,
        }));
        head.push(b':');
        let blanks: &[&[u8]] = &[b" ", b" ", b"", b"\t", b"  \t "];
        head.extend_from_slice(random.pick(blanks));
        head.extend_from_slice(&value);
        head.extend_from_slice(random.pick(blanks));
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
