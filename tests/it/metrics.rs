//! What `/metrics` tells, read by a parser that is not ours.

use std::collections::BTreeMap;

use nom_openmetrics::parser;

use crate::support::{Server, request};

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
