//! What happens when connections, descriptors or time run out.

use crate::{
    kit::{Server, request},
    monitor::IDLE_TICKS_MAX,
};

#[test]
fn an_idle_connection_is_evicted_for_a_new_one() {
    let server = Server::start(&["--max-connections", "2"]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.connect();
            assert_eq!(client.get("/healthz").status, 200);
            client
        })
        .collect();
    assert!(clients[0].is_closed(), "the longest idle connection");
    for client in &mut clients[1..] {
        assert_eq!(client.get("/healthz").status, 200);
    }
}

/// The head timeout is longer than the test waits for a response.
#[test]
fn health_probes_succeed_while_all_slots_are_held_by_incomplete_heads() {
    let server = Server::start(&["--max-connections", "3", "--head-timeout", "60s"]);
    let mut holding: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut holding[1..] {
        client.send(b"GET /healthz HTTP/1.1\r\nHo");
    }
    for _ in 0..2 {
        assert_eq!(server.get("/healthz").status, 200);
    }
    assert!(holding[0].is_closed(), "the oldest, which has sent nothing");
    let rest = b"st: a\r\n\r\n";
    holding[2].send(rest);
    assert_eq!(holding[2].reply().status, 200, "one slot was enough");
}

#[test]
fn a_busy_connection_is_not_evicted() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut busy = server.connect();
    busy.send(
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    busy.send(b"x");
    assert_eq!(busy.reply().status, 200, "the request in flight is finished first");
    assert_eq!(waiting.reply().status, 200);
    assert!(busy.is_closed());
}

#[test]
fn clients_beyond_the_descriptor_limit_are_served_without_errors() {
    // A substitute for a log file, which always exists.
    let logged = ["--access-log", "json", "--access-log-file", "/dev/null"];
    for flags in [&[][..], &logged] {
        let mut server = Server::start_with_limit("-n 40", flags);
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(request("GET", "/healthz").as_bytes());
        }
        // The first 40, more than there are descriptors, stay open until they are evicted; the others close.
        let mut idle = Vec::new();
        for mut client in clients {
            assert_eq!(client.reply().status, 200);
            if idle.len() < 40 {
                idle.push(client);
            }
        }
        server.signal("USR1");
        let metrics = server.get("/metrics").body;
        assert!(metrics.contains("process_max_fds 40\n"), "a scrape has enough descriptors");
        drop(idle); // an idle connection may send another request until the drain grace is over
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0));
        let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
        assert!(warnings <= 1 && !log.contains(" ERROR "), "{log}");
    }
}

#[test]
fn with_defer_accept_a_silent_connection_stays_in_the_kernel() {
    let server = Server::start(&["--defer-accept", "2s", "--head-timeout", "100ms"]);
    let mut silent = server.connect();
    let accepted = || server.counted()["fibsrv_connections_accepted_total"];
    let before = accepted();
    assert_eq!(server.connect().get("/api/fibonacci/20").body, "6765");
    assert_eq!(accepted(), before + 2.0, "without the silent connection");
    assert!(silent.is_closed(), "its timeout starts later");
    assert_eq!(accepted(), before + 4.0);
    let mut active = server.connect();
    assert_eq!(active.get("/api/fibonacci/20").body, "6765");
}

#[test]
fn slow_heads_and_bodies_get_408() {
    let flags = ["--head-timeout", "100ms", "--body-timeout", "100ms", "--idle-timeout", "100ms"];
    let server = Server::start(&flags);
    let head = "GET /healthz HTTP/1.1\r\nHost: a\r\n";
    let body = "PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx";
    for begun in [head, body] {
        let mut client = server.connect();
        client.send(begun.as_bytes());
        assert_eq!(client.reply().status, 408);
        assert!(client.is_closed());
    }
    assert!(
        server.connect().is_closed(),
        "a connection without a request is closed without a response"
    );
    let mut idle = server.connect();
    assert_eq!(idle.get("/healthz").status, 200);
    assert!(idle.is_closed());
}

/// A request that is incomplete until one more byte arrives.
const INCOMPLETE: &[u8] =
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";

#[test]
fn connections_beyond_the_limit_wait_without_cpu_time_and_are_served_later() {
    const SLOTS: usize = 3;
    let server = Server::start(&["--max-connections", "3", "--body-timeout", "500ms"]);
    let files = server.open_files();
    let mut busy: Vec<_> = (0..SLOTS).map(|_| server.connect()).collect();
    for client in &mut busy {
        client.send(INCOMPLETE);
        assert_eq!(client.reply().status, 100);
    }
    let mut waiting: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(request("GET", "/healthz").as_bytes());
    }
    let before = server.cpu_ticks();
    // Nothing happens until the connections being served time out, all at about the same time.
    assert_eq!(busy[0].reply().status, 408);
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks while connections wait");
    assert!(server.open_files() <= files + SLOTS, "no connection beyond the limit is accepted");
    drop(busy);
    for client in &mut waiting {
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn a_reset_frees_the_slot_of_its_connection() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut busy = server.connect();
    busy.send(INCOMPLETE);
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    busy.reset();
    assert_eq!(waiting.reply().status, 200);
}
