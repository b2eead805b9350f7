//! Clients that are slow to send a head, a body or the next request, or to read.

use std::{io, thread, time::Duration};

use crate::{
    kit::{Client, Reply, Server, is_reset, request},
    monitor::{IDLE_TICKS_MAX, Monitor},
};

const CLIENTS: usize = 20;

#[test]
fn heads_that_arrive_byte_by_byte_are_served() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for byte in request("GET", "/api/fibonacci/20").as_bytes() {
        for client in &mut clients {
            client.send(&[*byte]);
        }
    }
    monitor.regular_client_is_served();
    for client in &mut clients {
        assert_eq!(client.reply().body, "6765");
    }
    drop(clients);
    monitor.everything_is_released();
}

/// Sends a byte every 20 ms until there is a reply, and returns it.
fn drip(client: &mut Client, byte: u8) -> Reply {
    client.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..1000 {
        match client.sip(4096) {
            Ok(0) => panic!("closed without a response"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.send(&[byte]),
            Err(error) => panic!("{error} instead of a response"),
        }
        if let Some(reply) = client.sipped().pop() {
            return reply;
        }
    }
    panic!("no reply after 1000 bytes");
}

#[test]
fn single_bytes_do_not_extend_the_timeout_of_a_head_or_a_body() {
    let server = Server::start(&["--head-timeout", "300ms", "--body-timeout", "300ms"]);
    let monitor = Monitor::start(&server);
    let put = "PUT /healthz HTTP/1.1\r\nHost: a\r\n";
    let starts = [
        ("GET /".to_owned(), b'x'),
        (format!("{put}Content-Length: 1000000\r\n\r\n"), b'x'),
        (format!("{put}Transfer-Encoding: chunked\r\n\r\nfffff\r\n"), b'x'),
        (format!("{put}Transfer-Encoding: chunked\r\n\r\n"), b'0'),
    ];
    thread::scope(|scope| {
        for (start, byte) in starts {
            let mut client = server.connect();
            scope.spawn(move || {
                client.send(start.as_bytes());
                let reply = drip(&mut client, byte);
                let found = (reply.status, reply.field("Connection"));
                assert_eq!(found, (408, Some("close")), "{start}");
            });
        }
    });
    monitor.everything_is_released();
}

#[test]
fn silent_and_idle_connections_are_closed_without_a_response_or_cpu_time() {
    let server = Server::start(&["--head-timeout", "500ms", "--idle-timeout", "500ms"]);
    let monitor = Monitor::start(&server);
    let mut silent: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    let mut idle: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/healthz").status, 200);
    }
    monitor.regular_client_is_served();
    for client in silent.iter_mut().chain(&mut idle) {
        assert!(client.is_closed());
    }
    monitor.everything_is_released();

    let mut kept = server.connect();
    assert_eq!(kept.get("/healthz").status, 200);
    let before = server.cpu_ticks();
    assert!(kept.is_closed());
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks with a single idle connection");
}

/// A client that has requested more than fits into kernel buffers and has read nothing yet.
fn request_much(server: &Server) -> Client {
    let mut client = Client::connect_narrow(server.address());
    client.send(request("GET", "/api/fibonacci/10000").repeat(RESPONSES).as_bytes());
    client
}

const RESPONSES: usize = 150;

#[test]
fn a_slow_reader_receives_all_responses() {
    let server = Server::start(&["--write-timeout", "5s"]);
    let expected = server.get("/api/fibonacci/10000").body;
    assert_eq!(expected.len(), 2090);
    let monitor = Monitor::start(&server);
    let mut client = request_much(&server);
    let mut replies = Vec::new();
    for sips in 0.. {
        if replies.len() == RESPONSES {
            break;
        }
        if sips % 8 == 0 {
            monitor.regular_client_is_served(); // other clients are served in between
        }
        assert!(client.sip(512).unwrap() > 0, "closed after {} responses", replies.len());
        replies.extend(client.sipped());
    }
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == expected));
    assert_eq!(client.get("/healthz").body, "ok", "the connection is kept");
    drop(client);
    monitor.everything_is_released();
}

/// Its rate is far below 64 KiB per write timeout, which was the limit once, and far above 1 KiB/s.
#[test]
fn a_reader_of_a_few_kilobytes_per_second_receives_a_large_number() {
    const SIP: usize = 800;
    /// Room for some of the largest segments on loopback.
    const BUFFERS: usize = 16 * 1024;
    let server = Server::start(&["--write-timeout", "4s", "--head-timeout", "60s"]);
    let digits = server.get("/api/fibonacci/400000").body.len();
    let mut client = Client::connect_with_buffers(server.address(), BUFFERS);
    let mut quiet = server.connect();
    client.send(request("GET", "/api/fibonacci/400000").as_bytes());
    let reply = loop {
        quiet.is_silent_for(Duration::from_millis(100));
        assert!(client.sip(SIP).expect("not reset") > 0);
        if let Some(reply) = client.sipped().pop() {
            break reply;
        }
    };
    assert_eq!((reply.status, reply.body.len()), (200, digits));
}

#[test]
fn a_reader_that_is_too_slow_is_reset() {
    let server = Server::start(&["--write-timeout", "300ms"]);
    let expected = server.get("/api/fibonacci/10000").body;
    let monitor = Monitor::start(&server);
    let mut client = request_much(&server);
    let mut replies = Vec::new();
    // Reads a byte at a time until the server has reset the connection; then reads what its kernel had received.
    let end = loop {
        monitor.regular_client_is_served();
        match client.sip(1) {
            Ok(0) => panic!("closed without a reset, with responses missing"),
            Ok(_) if monitor.other_connections() == 0 => match client.sip(1 << 20) {
                Ok(_) => replies.extend(client.sipped()),
                Err(error) => break error,
            },
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(is_reset(&end), "{end}");
    assert!(replies.len() < RESPONSES);
    assert!(replies.iter().all(|reply| reply.body == expected), "received responses are correct");
    monitor.everything_is_released();
}
