//! Clients that go away at any moment: by an end of stream, or by a reset.

use crate::{
    kit::{Client, Reply, Server, request},
    monitor::Watch,
};

/// Requests of each kind, and what they are answered with.
fn streams() -> [(String, u16); 4] {
    let post = "POST /healthz HTTP/1.1\r\nHost: a\r\n";
    [
        (request("GET", "/api/fibonacci/10000"), 200),
        (format!("{post}Content-Length: 10\r\n\r\n0123456789"), 405),
        (
            format!("{post}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n01234\r\n0\r\nA: b\r\n\r\n"),
            405,
        ),
        (format!("{post}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n01"), 405),
    ]
}

/// Lets `leave` take a client away behind each byte of each stream.
fn check_vanishing(leave: impl Fn(&Server, &[u8])) {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    for (stream, _) in streams() {
        for length in 0..=stream.len() {
            leave(&server, &stream.as_bytes()[..length]);
        }
        watch.others_are_served();
    }
    watch.all_is_given_back();
}

#[test]
fn a_reset_at_any_byte_concerns_nobody_else() {
    check_vanishing(|server, piece| {
        let mut client = server.connect();
        client.send(piece);
        client.reset();
    });
}

#[test]
fn a_reset_after_the_bytes_were_read_concerns_nobody_else() {
    check_vanishing(|server, piece| {
        let mut client = server.connect();
        // Both come in one segment. Hence the piece has been read when the answer is here.
        client.send(&[request("GET", "/healthz").as_bytes(), piece].concat());
        assert_eq!(client.reply().status, 200);
        client.reset();
    });
}

#[test]
fn closing_at_any_byte_concerns_nobody_else() {
    check_vanishing(|server, piece| server.connect().send(piece));
}

#[test]
fn the_end_of_the_stream_is_answered_according_to_where_it_comes() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
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
    watch.all_is_given_back();
}

#[test]
fn a_reset_while_answers_are_under_way_concerns_nobody_else() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    let requests = request("GET", "/api/fibonacci/10000").repeat(100);
    for round in 0..50 {
        let mut client = if round % 2 == 0 {
            server.connect()
        } else {
            Client::connect_narrow(server.address()) // here the server has to wait for room
        };
        client.send(requests.as_bytes());
        client.sip(1 + 97 * round).unwrap();
        client.reset();
    }
    watch.all_is_given_back();
}
