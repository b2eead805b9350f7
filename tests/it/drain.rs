//! Graceful shutdown: requests in flight are finished, new connections are not accepted, and the server exits.

use crate::kit::{Server, halt, request};

const LARGE: &str = "/api/fibonacci/10000000";

/// Waits until the server exits with status 0. Returns the log.
fn exits_cleanly(mut server: Server) -> String {
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

#[test]
fn keep_alive_connections_are_served_one_more_request_with_connection_close() {
    let mut server = Server::start(&["--drain-grace", "20s"]);
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/api/fibonacci/20").field("Connection"), None);
    }
    server.signal("TERM");
    server.await_log("received SIGTERM; finishing ");
    for client in &mut clients {
        let reply = client.get("/api/fibonacci/20");
        assert_eq!((&*reply.body, reply.field("Connection")), ("6765", Some("close")));
        assert!(client.is_closed());
    }
    drop(clients);
    exits_cleanly(server);
}

#[test]
fn requests_in_flight_are_finished() {
    let mut server = Server::start(&["--drain-grace", "0s"]);
    let mut computing = server.connect();
    computing.send(request("GET", LARGE).as_bytes());
    let mut halfway = server.connect();
    halfway.send(b"GET /api/fibonacci/20 HTTP/1.1\r\nHost:");
    assert_eq!(server.get("/healthz").status, 200, "both have been read by now");
    server.signal("TERM");
    server.await_log("received SIGTERM; finishing ");
    halfway.send(b" a\r\n\r\n");
    assert_eq!(halfway.reply().body, "6765");
    let reply = computing.reply();
    assert_eq!((reply.body.len(), reply.field("Connection")), (2_089_877, Some("close")));
    drop((halfway, computing));
    exits_cleanly(server);
}

#[test]
fn only_readiness_fails_during_the_drain_delay() {
    let mut server = Server::start(&["--drain-delay", "20s"]);
    server.signal("TERM");
    server.await_log("received SIGTERM; finishing ");
    let reply = server.get("/readyz");
    assert_eq!((reply.status, &*reply.body), (503, "draining\n"));
    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(
            client.get("/api/fibonacci/20").field("Connection"),
            None,
            "keep-alive is still allowed"
        );
    }
    server.signal("TERM");
    assert!(exits_cleanly(server).contains("exiting at once"));
}

#[test]
fn idle_connections_are_closed_without_a_reset_after_the_grace() {
    let server = Server::start(&["--drain-grace", "50ms"]);
    let (mut idle, mut silent) = (server.connect(), server.connect());
    assert_eq!(idle.get("/healthz").status, 200);
    server.signal("INT");
    assert!(idle.is_closed() && silent.is_closed());
    drop((idle, silent));
    exits_cleanly(server);
}

/// Checks that `count` connections in the accept queue are served after SIGTERM. The server is stopped until both the
/// connections and the signal have arrived.
fn check_accept_queue_is_served(count: usize, flags: &[&str]) {
    let server = Server::start(flags);
    halt(server.id());
    let mut waiting: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(request("GET", "/api/fibonacci/20").as_bytes());
    }
    server.signal("TERM");
    server.signal("CONT");
    for client in &mut waiting {
        assert_eq!(client.reply().body, "6765");
    }
    drop(waiting);
    exits_cleanly(server);
}

#[test]
fn connections_in_the_accept_queue_are_served() {
    check_accept_queue_is_served(50, &[]);
}

#[test]
fn connections_in_the_accept_queue_are_served_at_the_connection_limit() {
    check_accept_queue_is_served(50, &["--max-connections", "2"]);
}

#[test]
fn connections_are_closed_when_the_drain_timeout_expires() {
    let server = Server::start(&["--drain-timeout", "100ms"]);
    let mut client = server.connect();
    client.send(b"GET /");
    assert_eq!(server.get("/healthz").status, 200, "it has been read by now");
    server.signal("TERM");
    assert!(exits_cleanly(server).contains("drain timeout expired; closing 1 connections"));
}
