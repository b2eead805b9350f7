//! `/metrics` over a socket, read by an independent parser.

use std::{collections::BTreeMap, io::Write as _};

use nom_openmetrics::parser;

use crate::kit::{ANSWERED, Server, request};

/// Samples by name and labels.
fn samples(server: &Server, accept: &str) -> BTreeMap<String, f64> {
    let mut client = server.connect();
    let head = format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n");
    client.send(head.as_bytes());
    let reply = client.reply();
    assert_eq!((reply.status, reply.field("Cache-Control")), (200, Some("no-store")));
    let is_open_metrics = accept.starts_with("application/openmetrics-text");
    let media = reply.field("Content-Type").unwrap();
    let (expected, parsed) = if is_open_metrics {
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            parser::openmetrics(&reply.body),
        )
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", parser::prometheus(&reply.body))
    };
    assert_eq!(media, expected);
    let (rest, families) = parsed.unwrap();
    assert_eq!(rest, "");
    let mut samples = BTreeMap::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        let labels = sample.labels();
        let labels: Vec<_> =
            labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
        samples.insert(format!("{}{{{}}}", sample.name(), labels.join(",")), sample.number());
    }
    samples
}

#[test]
fn each_request_is_counted_once_and_at_once() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(request("GET", "/api/fibonacci/20").repeat(3).as_bytes());
    for _ in 0..3 {
        client.reply();
    }
    client.get("/api/fibonacci/x");
    client.get("/nothing");
    server.exchange(b"BREW / HTTP/1.1\r\n\r\n");
    let samples = samples(&server, "*/*");
    for (key, expected) in [
        ("fibsrv_requests_total{handler=fibonacci,method=GET,code=200}", 3.0),
        ("fibsrv_requests_total{handler=fibonacci,method=GET,code=400}", 1.0),
        ("fibsrv_requests_total{handler=none,method=GET,code=404}", 1.0),
        ("fibsrv_requests_total{handler=none,method=none,code=501}", 1.0),
        ("fibsrv_requests_total{handler=metrics,method=GET,code=200}", 1.0),
        ("fibsrv_request_duration_seconds_count{handler=fibonacci}", 4.0),
        ("fibsrv_request_duration_seconds_bucket{handler=fibonacci,le=+Inf}", 4.0),
        ("fibsrv_request_duration_seconds_count{handler=none}", 2.0),
        ("fibsrv_request_size_bytes_count{}", 5.0),
        ("fibsrv_response_size_bytes_count{}", 6.0),
        ("fibsrv_connections_accepted_total{}", 3.0),
        ("fibsrv_workers{}", 1.0),
        ("fibsrv_metrics_shared{}", 1.0),
    ] {
        assert_eq!(samples.get(key), Some(&expected), "{key}");
    }
    for key in [
        "fibsrv_request_duration_seconds_sum{handler=fibonacci}",
        "process_resident_memory_bytes{}",
    ] {
        assert!(samples.get(key).is_some_and(|value| *value > 0.0), "{key}");
    }
}

/// The nonzero samples of a family, by reason.
fn reasons(server: &Server, name: &str) -> Vec<(String, f64)> {
    let start = format!("{name}{{reason=");
    let found = samples(server, "*/*").into_iter().filter(|(_, count)| *count > 0.0);
    found
        .filter_map(|(key, count)| {
            Some((key.strip_prefix(&start)?.trim_end_matches('}').to_owned(), count))
        })
        .collect()
}

#[test]
fn rejected_requests_are_counted_by_reason() {
    let server = Server::start(&["--head-timeout", "100ms", "--body-timeout", "100ms"]);
    let put = |fields: &str| format!("PUT / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let bad = [
        ("bad_chunk", put("Transfer-Encoding: chunked") + "x"),
        ("body_too_large", put("Content-Length: 99999999")),
        ("unknown_expectation", put("Expect: tea")),
        ("bad_header", put("A : b")),
        ("head_too_large", put(&"A: b\r\n".repeat(3000))),
        ("bad_host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("bad_content_length", put("Content-Length: x")),
        ("unknown_method", "BREW / HTTP/1.1\r\n\r\n".to_owned()),
        ("target_too_long", format!("GET /{}", "x".repeat(20_000))),
        ("too_many_fields", put(&"A: b\r\n".repeat(65))),
        ("unsupported_version", "GET / HTTP/2.0\r\n\r\n".to_owned()),
        ("head_timeout", "GET".to_owned()),
        ("body_timeout", put("Content-Length: 2")),
    ];
    let mut expected: Vec<(String, f64)> = Vec::new();
    for (reason, input) in bad {
        let mut client = server.connect();
        client.send(input.as_bytes());
        assert!(client.reply().status >= 400);
        expected.push((reason.to_owned(), 1.0));
    }
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(reasons(&server, "fibsrv_requests_rejected_total"), expected);
}

#[test]
fn closed_connections_are_counted_by_reason() {
    let flags = ["--head-timeout", "100ms", "--idle-timeout", "100ms", "--write-timeout", "100ms"];
    let server = Server::start(&flags);
    let mut idle = server.connect();
    idle.get("/healthz");
    assert!(server.connect().is_closed(), "silent");
    assert!(idle.is_closed(), "idle");
    drop(idle);
    let slow = server.connect();
    let requests = request("GET", "/api/fibonacci/10000").repeat(50);
    // Until the server resets the connection of a client that sends and does not read.
    let end = loop {
        if let Err(error) = slow.stream().write_all(requests.as_bytes()) {
            break error.kind();
        }
    };
    assert_eq!(end, std::io::ErrorKind::ConnectionReset);
    let found = reasons(&server, "fibsrv_connections_closed_total");
    let expected = ["head_timeout", "idle_timeout", "write_timeout"];
    assert_eq!(found, expected.map(|reason| (reason.to_owned(), 1.0)));
    drop(slow);
}

#[test]
fn pauses_at_the_connection_limit_and_evictions_are_counted() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut first = server.connect();
    first.get("/healthz");
    assert_eq!(reasons(&server, "fibsrv_accept_pauses_total"), [("full".to_owned(), 1.0)]);
    assert!(first.is_closed(), "it was idle for a second");
    let evicted = reasons(&server, "fibsrv_connections_closed_total");
    assert_eq!(evicted, [("evicted".to_owned(), 1.0)]);
}

#[test]
fn connections_that_yield_are_counted() {
    let server = Server::start(&["--max-pipelined", "4"]);
    let mut client = server.connect();
    client.send(request("GET", "/healthz").repeat(9).as_bytes());
    for _ in 0..9 {
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(samples(&server, "*/*")["fibsrv_connection_yields_total{}"], 2.0);
}

#[test]
fn open_connections_are_a_gauge() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/healthz");
    }
    assert_eq!(samples(&server, "*/*")["fibsrv_connections{}"], 4.0, "three and the scrape's own");
}

#[test]
fn all_series_exist_from_the_first_scrape_in_both_formats() {
    let server = Server::start(&[]);
    let text = samples(&server, "text/plain");
    let open_metrics = samples(&server, "application/openmetrics-text; version=1.0.0");
    assert!(text.keys().eq(open_metrics.keys()));
    server.get("/api/fibonacci/20");
    assert!(samples(&server, "*/*").keys().eq(text.keys()));
    assert!(text.len() > 150, "{}", text.len());
}

#[test]
fn without_shared_memory_a_process_counts_on_its_own_and_logs_it() {
    let server = Server::start_with_limit("-f 1", &[]); // no file is longer than half a kilobyte
    assert!(
        server.preface().contains("cannot share metrics between workers"),
        "{}",
        server.preface()
    );
    for _ in 0..3 {
        assert_eq!(server.get("/api/fibonacci/20").body, "6765");
    }
    let counted = server.counted();
    assert_eq!((counted[ANSWERED], counted["fibsrv_metrics_shared"]), (3.0, 0.0));
}
