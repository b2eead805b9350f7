//! The responses do not depend on how a stream is split.
//!
//! Valid and invalid streams are cut in two at every place, and sent byte by byte. Then mutated streams are cut at
//! random. A failure prints the seed; `FIBSRV_SPLIT_SEED` sets it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod offline;
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "kit/rng.rs"]
mod rng;

use fibsrv::http::request::limits::Limits;
use offline::{ConnectionState, Offline, session};
use rng::Rng;

/// The responses to a stream that arrives in these pieces and then ends, without interim responses: whether 100 is sent
/// depends on whether the body has begun to arrive.
fn replies<'p, I>(offline: &mut Offline, pieces: I) -> Vec<u8>
where
    I: IntoIterator<Item = &'p [u8]>,
{
    let mut session = session();
    offline.output.clear();
    for piece in pieces {
        if offline.turn(&mut session, piece) == ConnectionState::Closed {
            return final_responses(&offline.output);
        }
    }
    session.conn_mut().receive_eof();
    assert_eq!(offline.turn(&mut session, b""), ConnectionState::Closed, "end of stream closes it");
    final_responses(&offline.output)
}

fn final_responses(output: &[u8]) -> Vec<u8> {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    str::from_utf8(output).expect("UTF-8").replace(CONTINUE, "").into_bytes()
}

/// Returns a server with limits low enough for streams at them to be cut everywhere.
fn server() -> Offline {
    let limits = Limits { head_bytes: 8192, target_bytes: 4096, ..Limits::DEFAULT };
    Offline::new((100, 100), limits, None)
}

fn corpus() -> Vec<Vec<u8>> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let last = get("/api/fibonacci/10");
    let with = |line: &str, fields: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{last}")
    };
    let mut streams = vec![
        get("/api/fibonacci/20"),
        ["/api/fibonacci/0", "/api/fibonacci/x", "/nothing", "/healthz"].map(get).concat(),
        get("/api/fibonacci/90").repeat(40),
        format!("\r\n\r\n{last}\r\n{last}"),
        with("HEAD /api/fibonacci/20", "", ""),
        "HEAD / HTTP/1.1\r\n\r\n".to_owned(),
        "\r\nHEAD / HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
        "HEAD / HTTP/2.0\r\n\r\n".to_owned(),
        "HEAD /".to_owned(),
        with("HEAD /a", "Content-Length: 2000000\r\n", ""),
        with("HEAD /a", "Transfer-Encoding: chunked\r\n", "x"),
        with("GET /a", "Connection: close\r\n", ""),
        with("GET /a", "If-None-Match: \"20\", *\r\n", ""),
        with("POST /a", "Content-Length: 5\r\n", "GET /"),
        with("POST /a", "Content-Length: 0\r\n", ""),
        with("POST /a", "Content-Length: 5\r\nContent-Length: 5\r\n", "GET /"),
        with("POST /a", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        with("POST /a", "Content-Length: 2000000\r\n", ""),
        with("POST /a", "Transfer-Encoding: chunked\r\n", "3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n"),
        with("POST /a", "Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"),
        with("POST /a", "Transfer-Encoding: chunked\r\n", "3 ;x\r\nabc\r\n0 \r\n\r\n"),
        with("POST /a", "Transfer-Encoding: chunked\r\n", "fffffffff\r\n"),
        with("POST /a", "Transfer-Encoding: gzip\r\n", "x"),
        with("PUT /a", "Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
        with("PUT /a", "Expect: nothing\r\nContent-Length: 3\r\n", "abc"),
        with("BREW /a", "", ""),
        with("OPTIONS *", "", ""),
        with("CONNECT a:1", "", ""),
        with("GET http://b/api/fibonacci/3?q", "", ""),
        "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{last}"),
        format!("GET / HTTP/1.3\r\nHost: a\r\n\r\n{last}"),
        "GET / HTTP/2.0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\rGET".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHo".to_owned(),
        "\r".to_owned(),
        "\r\n".to_owned(),
        "\r\n\r\n\r".to_owned(),
        format!("{}\r\n", get("/api/fibonacci/20")),
        format!("{0}\r\n\r\n{0}\r\n\n", get("/api/fibonacci/20")),
        "\n".to_owned(),
        "\rX\r\n".to_owned(),
        String::new(),
        "\u{16}\u{3}\u{1}".to_owned(),
        "G\0T / HTTP/1.1\r\n\r\n".to_owned(),
    ];
    streams.extend(long_streams());
    streams.extend(coded_streams());
    streams.into_iter().map(String::into_bytes).collect()
}

/// Returns streams at the limits of a head and beyond them.
fn long_streams() -> Vec<String> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let long = |line: String, fields: String| format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    vec![
        long(format!("GET /{}", "x".repeat(4095)), String::new()),
        long(format!("GET /{}", "x".repeat(4096)), String::new()),
        long("GET /".to_owned(), "A: b\r\n".repeat(64)),
        long("GET /".to_owned(), format!("A: {}\r\n", "x".repeat(8150))),
        long("GET /".to_owned(), format!("A: {}\r\n", "x".repeat(8200))),
        "x".repeat(9000),
        format!("HEAD /{}", "x".repeat(9000)),
        // The limit falls inside the method, which decides whether the rejection has content.
        format!("{}HEAD / HTTP/1.1\r\n\r\n", "\r\n".repeat(4095)),
        format!("{}{}", get("/"), "\r\n".repeat(4097)),
    ]
}

/// Returns requests with a transfer coding and another request after their body.
fn coded_streams() -> impl Iterator<Item = String> {
    let long_trailer = format!("0\r\nA: {}\r\n\r\n", "t".repeat(16 * 1024));
    [
        ("chunked", "1;a=\"\r\n2\r\n0\r\n\r\n"),
        ("chunked", "1;a=\"\\\"; b\" ;c = d\r\nx\r\n0;e\r\n\r\n"),
        ("chunked", "1;a b\r\nx\r\n0\r\n\r\n"),
        ("chunked", "1;=b\r\nx\r\n0\r\n\r\n"),
        ("chunked", &long_trailer),
        ("gzip, chunked", "0\r\n\r\n"),
    ]
    .map(|(coding, body)| {
        let fields = format!("Host: a\r\nTransfer-Encoding: {coding}\r\n");
        format!("GET / HTTP/1.1\r\n{fields}\r\n{body}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    })
    .into_iter()
}

#[test]
fn every_cut_in_two_and_byte_by_byte() {
    let mut offline = server();
    for stream in corpus() {
        let whole = replies(&mut offline, [&stream[..]]);
        let single = replies(&mut offline, stream.chunks(1));
        assert_same(&stream, "byte by byte", &whole, &single);
        // Long streams are cut everywhere near their ends, and at every seventh place between.
        let places = (0..=stream.len())
            .filter(|at| *at < 300 || stream.len() - at < 300 || at.is_multiple_of(7));
        for at in places {
            let (before, after) = stream.split_at(at);
            let cut = replies(&mut offline, [before, after]);
            assert_same(&stream, &format!("cut at {at}"), &whole, &cut);
        }
    }
}

#[test]
fn mutated_streams_in_random_pieces() {
    let seed = std::env::var_os("FIBSRV_SPLIT_SEED")
        .map_or(1, |text| text.to_str().expect("UTF-8").parse().expect("a number"));
    let mut random = Rng(seed);
    let corpus = corpus();
    let mut offline = server();
    for round in 0..20_000 {
        let mut stream = corpus[random.below(corpus.len())].clone();
        for _ in 0..random.below(4) {
            mutate(&mut stream, &corpus, &mut random);
        }
        let whole = replies(&mut offline, [&stream[..]]);
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len().min(40)));
            pieces.push(piece);
            rest = after;
        }
        let cut = replies(&mut offline, pieces.iter().copied());
        let how = format!("seed {seed}, round {round}, {} pieces", pieces.len());
        assert_same(&stream, &how, &whole, &cut);
    }
}

fn mutate(stream: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Rng) {
    let at = random.below(stream.len() + 1);
    match random.below(5) {
        0 => stream.insert(at, random.pick(b"\r\n\0 :;,/\x80G0")),
        1 if at < stream.len() => {
            stream.remove(at);
        }
        2 if at < stream.len() => stream[at] ^= 1 << random.below(8),
        3 => stream.truncate(at),
        _ => stream.extend_from_slice(&corpus[random.below(corpus.len())]),
    }
}

fn assert_same(stream: &[u8], how: &str, expected: &[u8], found: &[u8]) {
    let text =
        |bytes: &[u8]| bytes.escape_ascii().to_string().chars().take(500).collect::<String>();
    assert!(
        expected == found,
        "{how}\nstream:   {}\nexpected: {}\nfound:    {}",
        text(stream),
        text(expected),
        text(found)
    );
}
