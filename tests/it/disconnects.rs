//! Clients that disconnect at any byte, by an end of stream or by a reset.

use crate::{
    kit::{Client, Reply, Server, request},
    monitor::Monitor,
};

/// Requests of each kind and their status.
fn streams() -> [(String, u16); 4] {
    let get = "GET /healthz HTTP/1.1\r\nHost: a\r\n";
    let post = "POST /healthz HTTP/1.1\r\nHost: a\r\n";
    [
        (request("GET", "/api/fibonacci/10000"), 200),
        (format!("{post}Content-Length: 10\r\n\r\n0123456789"), 405),
        (
            format!("{post}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n01234\r\n0\r\nA: b\r\n\r\n"),
            405,
        ),
        (format!("{get}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n01"), 200),
    ]
}

/// Calls `disconnect` with each prefix of each stream.
fn check_disconnects(disconnect: impl Fn(&Server, &[u8])) {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    for (stream, _) in streams() {
        for length in 0..=stream.len() {
            disconnect(&server, &stream.as_bytes()[..length]);
        }
        monitor.regular_client_is_served();
    }
    monitor.everything_is_released();
}

#[test]
fn a_reset_at_any_byte_leaves_no_resources() {
    check_disconnects(|server, piece| {
        let mut client = server.connect();
        client.send(piece);
        client.reset();
    });
}

#[test]
fn a_reset_after_any_byte_was_read_leaves_no_resources() {
    check_disconnects(|server, piece| {
        let mut client = server.connect();
        // Both arrive in one segment. Hence the piece has been read when the response arrives.
        client.send(&[request("GET", "/healthz").as_bytes(), piece].concat());
        assert_eq!(client.reply().status, 200);
        client.reset();
    });
}

#[test]
fn a_close_at_any_byte_leaves_no_resources() {
    check_disconnects(|server, piece| server.connect().send(piece));
}

#[test]
fn an_end_of_stream_within_a_request_gets_400() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    for (stream, status) in streams() {
        for length in 0..=stream.len() {
            let replies = Reply::parse_all(&server.exchange(&stream.as_bytes()[..length]));
            let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
            if statuses.first() == Some(&100) {
                statuses.remove(0);
            }
            let expected: &[u16] = match length {
                0 => &[],
                length if length < stream.len() => &[400],
                _ => &[status],
            };
            assert_eq!(statuses, expected, "{:?}", &stream[..length]);
        }
    }
    monitor.everything_is_released();
}

#[test]
fn a_reset_while_responses_are_sent_leaves_no_resources() {
    let server = Server::start(&[]);
    let monitor = Monitor::start(&server);
    let requests = request("GET", "/api/fibonacci/10000").repeat(100);
    for round in 0..50 {
        let mut client = if round % 2 == 0 {
            server.connect()
        } else {
            Client::connect_narrow(server.address()) // here the server has to wait for the client
        };
        client.send(requests.as_bytes());
        client.sip(1 + 97 * round).unwrap();
        client.reset();
    }
    monitor.everything_is_released();
}
