//! What happens when connections, descriptors or time run out.

use crate::{
    kit::{Server, request},
    monitor::IDLE_TICKS_MAX,
};

#[test]
fn an_idle_connection_makes_room_for_a_new_one() {
    let server = Server::start(&["--max-connections", "2"]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.connect();
            assert_eq!(client.get("/healthz").status, 200);
            client
        })
        .collect();
    assert!(clients[0].is_closed(), "the one that has been idle for longest");
    for client in &mut clients[1..] {
        assert_eq!(client.get("/healthz").status, 200);
    }
}

#[test]
fn a_busy_connection_does_not_make_room() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut busy = server.connect();
    busy.send(
        b"PUT /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    busy.send(b"x");
    assert_eq!(busy.reply().status, 405, "what is under way is finished first");
    assert_eq!(waiting.reply().status, 200);
    assert!(busy.is_closed());
}

#[test]
fn descriptors_are_counted_ahead() {
    // It stands for a log, and is there.
    let logged = ["--access-log", "json", "--access-log-file", "/dev/null"];
    for flags in [&[][..], &logged] {
        let mut server = Server::start_with_limit("-n 40", flags);
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/healthz").status, 200);
        }
        server.signal("USR1");
        let metrics = server.get("/metrics").body;
        assert!(metrics.contains("process_max_fds 40\n"), "a scrape has the files it needs");
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0));
        let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
        assert!(warnings <= 1 && !log.contains(" ERROR "), "{log}");
    }
}

#[test]
fn who_asks_nothing_may_be_left_to_the_kernel() {
    let server = Server::start(&["--defer-accept", "2s", "--head-timeout", "100ms"]);
    let mut silent = server.connect();
    let accepted = || server.counted()["fibsrv_connections_accepted_total"];
    let before = accepted();
    assert_eq!(server.connect().get("/api/fibonacci/20").body, "6765");
    assert_eq!(accepted(), before + 2.0, "the silent one is not among them");
    assert!(silent.is_closed(), "its time begins later, and ends");
    assert_eq!(accepted(), before + 4.0);
    let mut late = server.connect();
    assert_eq!(late.get("/api/fibonacci/20").body, "6765");
}

#[test]
fn slow_heads_and_bodies_are_cut_off_and_told_why() {
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
    assert!(server.connect().is_closed(), "a silent one has asked nothing and is told nothing");
    let mut kept = server.connect();
    assert_eq!(kept.get("/healthz").status, 200);
    assert!(kept.is_closed());
}

/// A request that is under way until one more byte comes.
const UNFINISHED: &[u8] =
    b"PUT /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";

#[test]
fn those_beyond_the_limit_wait_at_no_cost_and_are_served_when_others_leave() {
    const PLACES: usize = 3;
    let server = Server::start(&["--max-connections", "3", "--body-timeout", "1s"]);
    let files = server.open_files();
    let mut busy: Vec<_> = (0..PLACES).map(|_| server.connect()).collect();
    for client in &mut busy {
        client.send(UNFINISHED);
        assert_eq!(client.reply().status, 100);
    }
    let mut waiting: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(request("GET", "/healthz").as_bytes());
    }
    let before = server.cpu_ticks();
    // Nothing happens until time is up for those who are served, all at about the same time.
    assert_eq!(busy[0].reply().status, 408);
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks while others wait");
    assert!(server.open_files() <= files + PLACES, "nobody beyond the limit is let in");
    drop(busy);
    for client in &mut waiting {
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn a_place_is_free_when_its_client_is_reset() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut busy = server.connect();
    busy.send(UNFINISHED);
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    busy.reset();
    assert_eq!(waiting.reply().status, 200);
}
