//! Clients that take their time: for a head, a body, the next request, and for reading.

use std::{io, time::Duration};

use crate::{
    kit::{Client, Reply, Server, is_reset, request},
    monitor::{IDLE_TICKS_MAX, Watch},
};

const CROWD: usize = 20;

#[test]
fn heads_that_come_byte_by_byte_are_answered_like_others() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for byte in request("GET", "/api/fibonacci/20").as_bytes() {
        for client in &mut crowd {
            client.send(&[*byte]);
        }
    }
    watch.others_are_served();
    for client in &mut crowd {
        assert_eq!(client.reply().body, "6765");
    }
    drop(crowd);
    watch.all_is_given_back();
}

/// Sends a byte whenever nothing has come for 20 ms; returns the first reply.
fn drip(client: &mut Client, byte: u8) -> Reply {
    client.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..1000 {
        match client.sip(4096) {
            Ok(0) => panic!("closed without an answer"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.send(&[byte]),
            Err(error) => panic!("{error} instead of an answer"),
        }
        if let Some(reply) = client.sipped().pop() {
            return reply;
        }
    }
    panic!("the server never had enough");
}

#[test]
fn bytes_now_and_then_do_not_extend_the_time_for_a_head_or_a_body() {
    let server = Server::start(&["--head-timeout", "300ms", "--body-timeout", "300ms"]);
    let watch = Watch::start(&server);
    let put = "PUT /healthz HTTP/1.1\r\nHost: a\r\n";
    for (begun, byte) in [
        ("GET /".to_owned(), b'x'),
        (format!("{put}Content-Length: 1000000\r\n\r\n"), b'x'),
        (format!("{put}Transfer-Encoding: chunked\r\n\r\nfffff\r\n"), b'x'),
        (format!("{put}Transfer-Encoding: chunked\r\n\r\n"), b'0'),
    ] {
        let mut client = server.connect();
        client.send(begun.as_bytes());
        let reply = drip(&mut client, byte);
        assert_eq!((reply.status, reply.field("Connection")), (408, Some("close")), "{begun}");
    }
    watch.all_is_given_back();
}

#[test]
fn the_silent_and_the_idle_are_closed_without_a_word_and_cost_no_time() {
    let server = Server::start(&["--head-timeout", "500ms", "--idle-timeout", "500ms"]);
    let watch = Watch::start(&server);
    let mut silent: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    let mut idle: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/healthz").status, 200);
    }
    watch.others_are_served();
    for client in silent.iter_mut().chain(&mut idle) {
        assert!(client.is_closed());
    }
    watch.all_is_given_back();

    let mut kept = server.connect();
    assert_eq!(kept.get("/healthz").status, 200);
    let before = server.cpu_ticks();
    assert!(kept.is_closed());
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks with a single idle connection");
}

/// A client that has asked for more than the kernel holds, and reads nothing yet.
fn ask_for_much(server: &Server) -> Client {
    let mut client = Client::connect_narrow(server.address());
    client.send(request("GET", "/api/fibonacci/10000").repeat(ANSWERS).as_bytes());
    client
}

const ANSWERS: usize = 150;

#[test]
fn a_slow_reader_gets_all_its_answers_and_they_are_right() {
    let server = Server::start(&["--write-timeout", "5s"]);
    let expected = server.get("/api/fibonacci/10000").body;
    assert_eq!(expected.len(), 2090);
    let watch = Watch::start(&server);
    let mut client = ask_for_much(&server);
    let mut replies = Vec::new();
    for sips in 0.. {
        if replies.len() == ANSWERS {
            break;
        }
        if sips % 8 == 0 {
            watch.others_are_served(); // so slow that there is time for others in between
        }
        assert!(client.sip(512).unwrap() > 0, "closed after {} answers", replies.len());
        replies.extend(client.sipped());
    }
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == expected));
    assert_eq!(client.get("/healthz").body, "ok", "and it may go on");
    drop(client);
    watch.all_is_given_back();
}

#[test]
fn a_reader_that_is_too_slow_is_reset() {
    let server = Server::start(&["--write-timeout", "300ms"]);
    let expected = server.get("/api/fibonacci/10000").body;
    let watch = Watch::start(&server);
    let mut client = ask_for_much(&server);
    let mut replies = Vec::new();
    // A byte at a time, and soon it takes what had been in its own kernel's buffer before the reset.
    let end = loop {
        watch.others_are_served();
        match client.sip(1) {
            Ok(0) => panic!("an orderly end, with answers missing"),
            Ok(_) if watch.attackers() == 0 => match client.sip(1 << 20) {
                Ok(_) => replies.extend(client.sipped()),
                Err(error) => break error,
            },
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(is_reset(&end), "{end}");
    assert!(replies.len() < ANSWERS);
    assert!(replies.iter().all(|reply| reply.body == expected), "what came was right");
    watch.all_is_given_back();
}
