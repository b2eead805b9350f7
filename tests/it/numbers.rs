//! Numbers beyond the table: exact, computed once, bounded, and without delay for other requests.

use std::{
    fs,
    io::{Read as _, Write as _},
    time::Duration,
};

use fibsrv::fibonacci::doubling;
use socket2::SockRef;

use crate::kit::{Client, Server, eventually, request};

/// The digits of F(n) by the reference algorithm.
fn fibonacci(n: u64) -> String {
    String::from_utf8(doubling::digits(n)).unwrap()
}

fn target(n: u64) -> String {
    format!("/api/fibonacci/{n}")
}

/// Waits until this many numbers are queued or being computed.
fn await_queue(server: &Server, length: f64) {
    eventually("the queue has this length", || {
        server.counted()["fibsrv_compute_queue_length"] == length
    });
}

#[test]
fn every_n_up_to_the_maximum_is_exact() {
    let server = Server::start(&["--table-max-n", "100"]);
    let mut client = server.connect();
    for n in [100, 101, 1_999, 2_000, 20_000, 20_001, 123_456, 1_000_000] {
        let reply = client.get(&target(n));
        assert_eq!(reply.status, 200);
        assert!(reply.body == fibonacci(n), "F({n})");
        assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}\"")));
        assert_eq!(
            reply.field("Cache-Control"),
            Some("public, max-age=31536000, immutable"),
            "like any other number"
        );
    }
    for n in ["10000001", "18446744073709551616", &"9".repeat(4000)] {
        let reply = client.get(&format!("/api/fibonacci/{n}"));
        assert_eq!((reply.status, &*reply.body), (422, "n must be at most 10000000\n"));
    }
}

#[test]
fn a_range_has_the_digits_of_a_slice_before_and_after_the_number_is_cached() {
    let server = Server::start(&["--table-max-n", "100"]);
    let mut client = server.connect();
    let digits = fibonacci(1_000_000);
    let get = |client: &mut Client, range: &str| {
        let head = request("GET", &target(1_000_000));
        let head = head.replace("\r\n\r\n", &format!("\r\nRange: bytes={range}\r\n\r\n"));
        client.send(head.as_bytes());
        client.reply()
    };
    let length = digits.len();
    let beyond = get(&mut client, &format!("{length}-"));
    assert_eq!((beyond.status, server.counted()["fibsrv_cache_misses_total"]), (416, 0.0));
    for (range, expected) in [
        ("0-99", &digits[..100]),
        ("-100", &digits[length - 100..]),
        ("100000-100099", &digits[100_000..100_100]),
        ("10-", &digits[10..]),
    ] {
        let reply = get(&mut client, range);
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == expected, "{range}");
    }
}

#[test]
fn the_largest_number_needs_bounded_memory() {
    let server = Server::start(&[]);
    let reply = server.get(&target(10_000_000));
    assert_eq!((reply.status, reply.body.len()), (200, 2_089_877));
    assert!(reply.body.starts_with("11298343782253997603") && reply.body.ends_with("546875"));
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib <= 200 * 1024, "{peak_kib} KiB");
}

#[test]
fn pipelined_responses_are_in_order() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let numbers = [20, 300_000, 21, 20_000, 400_000, 22, 300_000];
    let requests: String = numbers.iter().map(|n| request("GET", &target(*n))).collect();
    client.send(requests.as_bytes());
    for n in numbers {
        assert!(client.reply().body == fibonacci(n), "F({n})");
    }
}

#[test]
fn a_number_requested_by_many_is_computed_once_and_cached() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", &target(3_000_000)).as_bytes());
    }
    let expected = fibonacci(3_000_000);
    for client in &mut clients {
        assert!(client.reply().body == expected);
    }
    assert!(server.get(&target(3_000_000)).body == expected);
    let counted = server.counted();
    for (key, expected) in [
        ("fibsrv_computations_total{executor=\"thread\"}", 1.0),
        ("fibsrv_computation_duration_seconds_count", 1.0),
        ("fibsrv_computation_fallbacks_total", 0.0),
        ("fibsrv_compute_queue_length", 0.0),
        ("fibsrv_requests_total{handler=\"fibonacci\",method=\"GET\",code=\"200\"}", 21.0),
    ] {
        assert_eq!(counted[key], expected, "{key}");
    }
    let lookups = counted["fibsrv_cache_hits_total"] + counted["fibsrv_cache_misses_total"];
    assert_eq!(lookups, 21.0);
    assert!(counted["fibsrv_cache_bytes"] >= 600_000.0);
}

#[test]
fn head_and_conditional_requests_need_no_computation() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(request("HEAD", &target(10_000_000)).as_bytes());
    assert_eq!(client.reply_to_head().field("Content-Length"), Some("2089877"));
    client.send(
        b"GET /api/fibonacci/9999999 HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"9999999\"\r\n\r\n",
    );
    assert_eq!(client.reply().status, 304);
    let counted = server.counted();
    assert_eq!(counted["fibsrv_computations_total{executor=\"thread\"}"], 0.0);
    assert_eq!(counted["fibsrv_compute_queue_length"], 0.0);
}

#[test]
fn a_full_queue_gets_503_and_other_requests_are_served() {
    let server = Server::start(&["--max-computations", "1"]);
    let mut first = server.connect();
    first.send(request("GET", &target(5_000_000)).as_bytes());
    await_queue(&server, 1.0);
    let mut second = server.connect();
    let reply = second.get(&target(4_999_999));
    assert_eq!((reply.status, reply.field("Retry-After")), (503, Some("1")));
    assert_eq!(reply.field("Cache-Control"), Some("no-store"));
    assert_eq!(second.get(&target(20)).body, "6765", "the connection is kept alive");
    assert_eq!(first.reply().body.len(), 1_044_938);
    assert_eq!(second.get(&target(4_999_999)).status, 200, "the queue has space again");
    assert_eq!(server.counted()["fibsrv_computations_rejected_total{reason=\"queue\"}"], 1.0);
}

#[test]
fn numbers_being_sent_have_a_bound_in_bytes() {
    // Room for one number of this size, and not for two.
    let server = Server::start(&["--cache-size", "700KB", "--max-n", "3000000"]);
    let mut not_reading = server.connect();
    not_reading.send(request("GET", &target(2_999_999)).as_bytes());
    not_reading.stream().peek(&mut [0]).unwrap();
    let mut other = server.connect();
    assert_eq!(other.get(&target(3_000_000)).status, 503, "the first is still being sent");
    assert_eq!(not_reading.reply().body.len(), 626_963);
    assert_eq!(other.get(&target(3_000_000)).status, 200);
    let counted = server.counted();
    assert_eq!(counted["fibsrv_computations_rejected_total{reason=\"memory\"}"], 1.0);
    assert!(counted["fibsrv_cache_bytes"] <= 700_000.0);
}

#[test]
fn the_computation_of_a_disconnected_client_is_cancelled() {
    const AHEAD: u8 = 8; // they keep the compute thread busy until the client has disconnected
    // The test reads one response after the other, in any order of completion.
    let server = Server::start(&["--write-timeout", "60s"]);
    let mut stay: Vec<Client> = (0..AHEAD).map(|_| server.connect()).collect();
    for (client, n) in stay.iter_mut().zip(4_000_000..) {
        client.send(request("GET", &target(n)).as_bytes());
    }
    await_queue(&server, f64::from(AHEAD));
    let mut leaving = server.connect();
    leaving.send(request("GET", &target(4_999_999)).as_bytes());
    SockRef::from(leaving.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(leaving);
    for client in &mut stay {
        assert_eq!(client.reply().status, 200);
    }
    await_queue(&server, 0.0);
    assert_eq!(
        server.counted()["fibsrv_computations_total{executor=\"thread\"}"],
        f64::from(AHEAD)
    );
}

#[test]
fn a_slow_reader_receives_a_large_number() {
    let server = Server::start(&[]);
    let client = server.connect();
    SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
    let mut stream = client.stream();
    let request = "GET /api/fibonacci/2000000 HTTP/1.0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let (mut received, mut piece) = (Vec::new(), [0; 1500]);
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => received.extend_from_slice(&piece[..count]),
        }
    }
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(received[head..] == *fibonacci(2_000_000).as_bytes());
}

#[test]
fn small_numbers_do_not_wait_for_the_largest() {
    // Seconds of work for the compute thread. The test ends when the first number, the smallest, is received.
    const LARGE: u64 = 24;
    let server = Server::start(&[]);
    let mut large: Vec<Client> = (0..LARGE).map(|_| server.connect()).collect();
    for (client, n) in large.iter_mut().zip(10_000_001 - LARGE..) {
        client.send(request("GET", &target(n)).as_bytes());
    }
    let queued = || server.counted()["fibsrv_compute_queue_length"];
    eventually("large numbers are queued", || queued() > 1.0);
    let mut small = server.connect();
    for n in 0..100 {
        assert_eq!(small.get(&target(n)).status, 200);
    }
    assert!(queued() > 0.0, "large numbers are left when all small ones are received");
    assert_eq!(large[0].reply().status, 200);
}
