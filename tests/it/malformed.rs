//! Malformed input, other protocols, and clients that ignore an error response.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{
    kit::{Client, Reply, Server, eventually, halt, request},
    monitor::{IDLE_TICKS_MAX, Monitor},
};

/// Less than the time for which the server reads and discards after an error response, and more.
const LINGER: [Duration; 2] = [Duration::from_millis(4_500), Duration::from_secs(30)];
const REJECTED: &str = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";

#[test]
fn a_client_that_keeps_sending_after_an_error_receives_the_response() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    for extra_bytes in [0, 1, 8 * 1024, 64 * 1024, 4 * 1024 * 1024] {
        let mut client = server.connect();
        client.send(REJECTED.as_bytes());
        client.send(&vec![b'x'; extra_bytes]);
        client.end();
        let replies = Reply::parse_all(&client.read_to_end());
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [400], "{extra_bytes} bytes after the rejected request");
        // Linux hides a reset from readers after the end of the stream. Other systems do not.
        eventually("the server has closed", || monitor.other_connections() == 0);
        let reset = client.stream().take_error().unwrap();
        assert!(reset.is_none(), "{reset:?} after {extra_bytes} bytes");
        monitor.regular_client_is_served();
    }
    monitor.everything_is_released();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures how long the server lingers")]
fn a_client_that_never_stops_sending_after_an_error_is_reset_after_the_linger_timeout() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    thread::scope(|scope| {
        // Few, so that each sends fast enough on a busy machine to be reset after the first period.
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect_narrow(server.address());
                client.send(REJECTED.as_bytes());
                let start = Instant::now();
                client.flood(&[b'x'; 1024]);
                let elapsed = start.elapsed();
                assert!(elapsed > LINGER[0] && elapsed < LINGER[1], "reset after {elapsed:?}");
            });
        }
        monitor.regular_client_is_served();
    });
    monitor.everything_is_released();
}

#[test]
fn clients_that_do_not_close_after_an_error_are_closed_without_cpu_time() {
    let server = Server::start(&[]);
    let open_files = server.open_files(); // it may read its own figures meanwhile
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(REJECTED.as_bytes());
        assert_eq!(client.reply().status, 400);
        assert!(client.is_closed(), "the end of the stream");
    }
    let before = server.cpu_ticks();
    eventually("the linger timeout", || server.open_files() <= open_files);
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks while lingering");
    assert_eq!(server.connections(), 1.0, "that of the scrape");
    drop(clients);
}

/// A TLS client hello of typical length.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend((0..32).map(|n: u8| n.wrapping_mul(37)));
    hello.resize(517, 0);
    hello
}

/// The preface of HTTP/2 with an empty SETTINGS frame and a `WINDOW_UPDATE`.
const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\0\x0f\0\x01";

#[test]
fn other_protocols_get_an_http_error() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    let noise: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (bytes, status) in [
        (client_hello().as_slice(), 400),
        (PREFACE, 505),
        (b"SSH-2.0-client\r\n", 400),
        (b"\x04\x01\x00\x50\x7f\0\0\x01\0", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (&[0xff; 100], 400),
        (&noise, 400),
    ] {
        // These clients wait for a response in their protocol and do not close before.
        let mut client = server.connect();
        client.send(bytes);
        let replies = Reply::parse_all(&client.read_to_end());
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [status], "{}", bytes.escape_ascii());
    }
    monitor.everything_is_released();
}

#[test]
fn immediate_closes_and_resets_leave_no_resources() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    for _ in 0..500 {
        drop(server.connect());
        server.connect().reset();
    }
    monitor.everything_is_released();
}

#[test]
fn clients_that_leave_before_their_responses_leave_no_resources() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    let requests = request("GET", "/api/fibonacci/1").repeat(10_000);
    for leave in [drop::<Client>, Client::reset] {
        let client = server.connect();
        // Not all may be sent, as the responses are not read.
        client.stream().set_nonblocking(true).unwrap();
        let sent = client.stream().write(requests.as_bytes()).unwrap();
        assert!(sent > 0);
        leave(client);
        monitor.regular_client_is_served();
    }
    monitor.everything_is_released();
}

/// A read ends at a byte that is marked as urgent. The byte is part of the stream (RFC 6093 section 5), and what
/// follows it is read without a further event. All of it is in the socket when the server reads.
#[test]
fn urgent_data_neither_stalls_reading_nor_leaves_the_stream() {
    let requests = [
        (request("GET", "/api/fibonacci/20"), 200),
        (request("PUT", "/healthz").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody"), 405),
    ];
    let server = Server::start(&[]);
    for (bytes, status) in requests {
        let cuts = [1, 10, bytes.len() / 2, bytes.len() - 2, bytes.len() - 1];
        let mut clients: Vec<_> =
            cuts.iter().chain(&cuts).map(|cut| (server.connect(), *cut)).collect();
        for (kept, _) in &mut clients[..cuts.len()] {
            assert_eq!(kept.get("/healthz").status, 200);
        }
        halt(server.id());
        for (client, cut) in &mut clients {
            let (first, rest) = bytes.as_bytes().split_at(*cut);
            let sent = SockRef::from(client.stream()).send_out_of_band(first).unwrap();
            assert_eq!(sent, first.len());
            client.send(rest);
        }
        server.signal("CONT");
        for (client, cut) in &mut clients {
            assert_eq!(client.reply().status, status, "urgent at {cut} of {bytes:?}");
            assert_eq!(client.get("/healthz").status, 200, "the connection is kept");
        }
    }
}
