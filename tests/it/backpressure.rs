//! Clients that request more than they read, and clients that pipeline more than their share.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    thread,
};

use crate::{
    kit::{ANSWERED, Client, Server, counted, eventually, halt, request},
    monitor::Monitor,
};

/// Requests of one connection that are processed before other connections: the default of `--max-pipelined`.
const PIPELINED: u32 = 32;

const CLIENTS: usize = 50;

/// Maximum bytes that a client that reads nothing can send: they fill the kernel's buffers in both directions
/// before the server stops reading. That is about 180 KiB, and unlimited without a bound.
const SENT_MAX: usize = 1024 * 1024;

/// Memory of the server for a client that reads nothing: a head, a read and a batch of responses.
const CLIENT_BYTES_MAX: u64 = 64 * 1024;

/// Clients pipeline `target` without reading until each is reset.
fn check_flood(target: &str) {
    let server = Server::start(&["--write-timeout", "500ms"]);
    let monitor = Monitor::start(&server);
    let requests = request("GET", target).repeat(100);
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| Client::connect_narrow(server.address())).collect();
    let mut peak = 0;
    thread::scope(|scope| {
        let floods: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.flood(requests.as_bytes())))
            .collect();
        while !floods.iter().all(thread::ScopedJoinHandle::is_finished) {
            monitor.regular_client_is_served();
            peak = peak.max(monitor.resident_growth());
        }
        for flood in floods {
            let sent = flood.join().unwrap();
            assert!(
                sent <= SENT_MAX,
                "the server read {sent} bytes of a client that reads nothing"
            );
        }
    });
    let most = CLIENTS as u64 * CLIENT_BYTES_MAX + 1024 * 1024;
    assert!(peak <= most, "{peak} bytes for {CLIENTS} clients, more than {most}");
    // The clients are still open: what they have not read must not stay in the server's kernel buffers.
    monitor.everything_is_released();
    drop(clients);
}

#[test]
fn pipelined_small_responses_without_a_reader_are_bounded_and_reset() {
    check_flood("/api/fibonacci/1");
}

#[test]
fn pipelined_large_responses_without_a_reader_are_bounded_and_reset() {
    check_flood("/api/fibonacci/10000");
}

#[test]
fn pipelined_error_responses_without_a_reader_are_bounded_and_reset() {
    check_flood("/nothing");
}

/// Here the server has read all requests. A close would not make the kernel send a reset, so it would keep the
/// responses for minutes.
#[test]
fn responses_without_a_reader_do_not_stay_in_the_kernel() {
    let server = Server::start(&["--write-timeout", "500ms"]);
    let monitor = Monitor::start(&server);
    let requests = request("GET", "/api/fibonacci/10000").repeat(100);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address());
            client.send(requests.as_bytes());
            client
        })
        .collect();
    monitor.regular_client_is_served();
    monitor.everything_is_released();
    drop(clients);
}

/// Each client accepts some of a large response first, so its send buffer may grow; then it reads no more. What the
/// kernel holds for it is what it has not acknowledged: little more than `TCP_NOTSENT_LOWAT`.
#[test]
fn a_large_send_buffer_holds_little_for_a_client_that_stops_reading() {
    const HELD_MAX: u64 = 128 * 1024;
    let server = Server::start(&[]);
    let path = "/api/fibonacci/10000000";
    let length = server.get(path).body.len();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", path).as_bytes());
        let mut received = 0;
        while received < length / 4 {
            received += client.sip(16 * 1024).unwrap();
        }
    }
    assert_eq!(server.get("/api/fibonacci/20").body, "6765", "others are served");
    // What the last receive window allows is still on its way.
    eventually("the kernel holds little", || {
        server.unacknowledged_bytes() <= CLIENTS as u64 * HELD_MAX
    });
    for client in &mut clients {
        assert_eq!(client.reply().body.len(), length);
    }
}

/// The server is stopped while all clients send, so that it finds a thousand requests of each pipelining client
/// before the single requests of the others. A scrape shows how many responses were sent before it.
#[test]
fn a_single_request_waits_for_a_bounded_part_of_deep_pipelines() {
    const DEPTH: usize = 1000;
    const ROUNDS_MAX: u32 = 4;
    let server = Server::start(&[]);
    let mut pipelining: Vec<_> = (0..5).map(|_| server.connect()).collect();
    let mut single = server.connect();
    for client in pipelining.iter_mut().chain([&mut single]) {
        assert_eq!(client.get("/healthz").status, 200);
    }
    halt(server.id());
    for client in &mut pipelining {
        client.send(request("GET", "/api/fibonacci/1").repeat(DEPTH).as_bytes());
    }
    single.send(request("GET", "/metrics").as_bytes());
    let mut new_client = server.connect();
    new_client.send(request("GET", "/metrics").as_bytes());
    server.signal("CONT");
    let most = f64::from(u32::try_from(pipelining.len()).unwrap() * PIPELINED * ROUNDS_MAX);
    for client in [&mut single, &mut new_client] {
        let earlier = counted(&client.reply().body)[ANSWERED];
        assert!(earlier <= most, "{earlier} other responses were first, more than {most}");
    }
    for client in &mut pipelining {
        for _ in 0..DEPTH {
            assert_eq!(client.reply().body, "1");
        }
    }
}

/// A client sends requests as fast as they are served, and reads the responses. It gets one turn in each iteration,
/// however long this goes on. Pipelined scrapes show that: each fills a batch, so they are served in successive
/// iterations, and the kernel takes several before their client reads.
#[test]
fn a_client_that_always_has_requests_waiting_gets_one_turn_in_each_iteration() {
    const BEFORE: f64 = 200_000.0;
    const SCRAPES: usize = 4;
    const ROUNDS: usize = 50;
    let server = Server::start(&[]);
    let flood = server.connect();
    let (mut sending, mut receiving) = (flood.stream(), flood.stream());
    let mut single = server.connect();
    let mut between: Vec<f64> = thread::scope(|scope| {
        scope.spawn(move || {
            let requests = request("GET", "/api/fibonacci/1").repeat(1000);
            while sending.write_all(requests.as_bytes()).is_ok() {}
        });
        scope.spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while receiving.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        while counted(&single.get("/metrics").body)[ANSWERED] < BEFORE {}
        let rounds = (0..ROUNDS).map(|_| {
            single.send(request("GET", "/metrics").repeat(SCRAPES).as_bytes());
            (0..SCRAPES).map(|_| counted(&single.reply().body)[ANSWERED]).collect::<Vec<f64>>()
        });
        let rounds: Vec<_> = rounds.collect();
        flood.stream().shutdown(Shutdown::Both).unwrap();
        rounds.iter().flat_map(|counts| counts.windows(2).map(|pair| pair[1] - pair[0])).collect()
    });
    between.sort_by(f64::total_cmp);
    let median = between[between.len() / 2];
    assert!(median <= f64::from(2 * PIPELINED), "{between:?}");
}
