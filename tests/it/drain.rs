//! Being told to stop: nothing under way is lost, nobody new is let in, and it ends.

use crate::kit::{Server, halt, request};

const LARGE: &str = "/api/fibonacci/10000000";

/// Ends in order, within the patience of the tests; returns the log.
fn ends_well(mut server: Server) -> String {
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

#[test]
fn kept_connections_may_ask_once_more_and_are_told_that_it_is_the_last_time() {
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
    ends_well(server);
}

#[test]
fn what_is_in_flight_is_finished() {
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
    ends_well(server);
}

#[test]
fn readiness_fails_first_and_serving_goes_on_for_the_delay() {
    let mut server = Server::start(&["--drain-delay", "20s"]);
    server.signal("TERM");
    server.await_log("received SIGTERM; finishing ");
    let reply = server.get("/readyz");
    assert_eq!((reply.status, &*reply.body), (503, "draining\n"));
    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/api/fibonacci/20").field("Connection"), None, "as ever");
    }
    server.signal("TERM");
    assert!(ends_well(server).contains("exiting at once"));
}

#[test]
fn idle_connections_are_closed_without_a_reset_after_the_grace() {
    let server = Server::start(&["--drain-grace", "50ms"]);
    let (mut kept, mut silent) = (server.connect(), server.connect());
    assert_eq!(kept.get("/healthz").status, 200);
    server.signal("INT");
    assert!(kept.is_closed() && silent.is_closed());
    drop((kept, silent));
    ends_well(server);
}

/// Has so many come while it is stopped; lets it go on, told to leave, and sees that they are answered.
fn check_waiting_are_served(count: usize, flags: &[&str]) {
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
    ends_well(server);
}

#[test]
fn whoever_waits_to_be_accepted_is_served() {
    check_waiting_are_served(50, &[]);
}

#[test]
fn whoever_waits_is_served_though_all_places_are_taken() {
    check_waiting_are_served(50, &["--max-connections", "2"]);
}

#[test]
fn what_takes_too_long_is_cut_off() {
    let server = Server::start(&["--drain-timeout", "100ms"]);
    let mut client = server.connect();
    client.send(b"GET /");
    assert_eq!(server.get("/healthz").status, 200, "it has been read by now");
    server.signal("TERM");
    assert!(ends_well(server).contains("drain timeout expired; closing 1 connections"));
}
