//! How connections are closed, as seen over sockets (RFC 9112 section 9.6): the client receives the response and
//! the end of the stream, not a reset. What it keeps sending is read and discarded, for a bounded time.

use std::{io::Write as _, net::Shutdown, time::Duration};

use crate::kit::{Client, Reply, Server, request};

/// More than one read, so that an immediate close would leave some of it unread.
const EXCESS: usize = 200 * 1024;

/// Time after which a client that sends nothing after the last response is reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pieces of a slow upload.
const PIECES: u32 = 100;

/// Rejected requests and their status.
const REJECTED: [(&str, u16); 6] = [
    ("\0", 400),
    ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("GET / HTTP/3.0\r\n\r\n", 505),
    ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", 413),
    ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
];

/// Reads to the end of the stream, which must be one reply with `Connection: close`.
fn last_reply(client: &mut Client) -> Reply {
    let mut replies = Reply::parse_all(&client.read_to_end());
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].field("Connection"), Some("close"));
    replies.remove(0)
}

/// RFC 9112 section 9.6: after a reset the client's kernel would discard the response, which is only read here
/// after everything has been sent.
#[test]
fn an_error_response_is_not_lost_when_the_client_keeps_sending() {
    let server = Server::start(&[]);
    for (rejected, status) in REJECTED {
        let mut client = server.connect();
        client.send(rejected.as_bytes());
        client.send(&vec![b'x'; EXCESS]);
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(last_reply(&mut client).status, status, "{rejected:?}");
    }
}

/// RFC 9112 section 9.6: a client that uploads without waiting for 100 sends everything and then reads the response.
#[test]
fn an_upload_of_20_mb_without_expect_receives_its_413() {
    let server = Server::start(&[]);
    for framing in ["Content-Length: 20971520", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n1400000\r\n").as_bytes());
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..320 {
            client.send(&piece);
        }
        assert_eq!(last_reply(&mut client).status, 413, "{framing}");
    }
}

/// RFC 9112 section 9.6: on a slow path an upload takes longer than a silent client may linger.
#[test]
fn a_slow_upload_receives_its_413_after_the_linger_timeout() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20971520\r\n\r\n");
    let mut pace = server.connect();
    for _ in 0..PIECES {
        client.send(&[b'x'; 8 * 1024]);
        pace.is_silent_for(LINGER_TIMEOUT * 3 / 2 / PIECES);
    }
    client.end();
    assert_eq!(last_reply(&mut client).status, 413);
}

#[test]
fn requests_after_an_error_response_are_not_processed() {
    let server = Server::start(&[]);
    let more = request("GET", "/healthz").repeat(1000);
    for (rejected, status) in REJECTED {
        let mut client = server.connect();
        client.send(format!("{rejected}{more}").as_bytes());
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(last_reply(&mut client).status, status, "{rejected:?}");
    }
}

/// RFC 9112 section 9.6: the server shuts down its sending side first, for clients that wait for the end of the
/// stream before they close. What such a client sends afterwards is discarded.
#[test]
fn the_server_shuts_down_its_sending_side_first_and_keeps_reading() {
    let server = Server::start(&[]);
    for (rejected, status) in REJECTED {
        let mut client = server.connect();
        client.send(rejected.as_bytes());
        assert_eq!(last_reply(&mut client).status, status, "{rejected:?}");
        for _ in 0..4 {
            client.send(&[b'x'; 1024]);
        }
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert!(client.is_closed(), "{rejected:?}");
    }
}

/// RFC 9112 section 9.6: nothing after a request with `close` is processed, and its response is not lost.
#[test]
fn a_response_is_not_lost_to_requests_after_connection_close() {
    let server = Server::start(&[]);
    for version in ["1.0", "1.1"] {
        let last =
            format!("GET /api/fibonacci/20 HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut client = server.connect();
        let more = request("GET", "/healthz").repeat(EXCESS / 40);
        client.send(format!("{last}{more}").as_bytes());
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(last_reply(&mut client).body, "6765", "{version}");
    }
}

/// RFC 9112 section 9.6: after `close` the server closes without waiting for the client.
#[test]
fn the_server_closes_after_connection_close() {
    let server = Server::start(&[]);
    for fields in ["Connection: close\r\n", "Connection: keep-alive, Close\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(last_reply(&mut client).body, "ok", "{fields:?}");
    }
    let mut old = server.connect();
    old.send(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(last_reply(&mut old).body, "ok");
}

/// Pipelined requests before a rejected one: all responses are sent, then the error, then the end of the stream.
#[test]
fn responses_before_an_error_are_sent_first() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let good = request("GET", "/api/fibonacci/20").repeat(100);
    client.send(format!("{good}BREW / HTTP/1.1\r\n\r\n{}", "x".repeat(EXCESS)).as_bytes());
    client.stream().shutdown(Shutdown::Write).unwrap();
    let replies = Reply::parse_all(&client.read_to_end());
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [vec![200; 100], vec![501]].concat());
}

#[test]
fn a_client_that_never_stops_sending_is_reset() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"\0");
    assert_eq!(client.reply().status, 400);
    let mut stream = client.stream().try_clone().unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let kind = loop {
        if let Err(error) = stream.write_all(&piece) {
            break error.kind();
        }
    };
    let is_reset =
        matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe);
    assert!(is_reset, "{kind:?}");
    assert_eq!(server.get("/healthz").status, 200, "other clients are served");
}

/// A client that neither closes nor sends is closed after a timeout.
#[test]
fn a_client_that_does_not_close_frees_its_slot() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut silent = server.connect();
    silent.send(b"\0");
    assert_eq!(silent.reply().status, 400);
    assert_eq!(server.get("/healthz").status, 200, "with the slot of the silent client");
    assert!(silent.is_closed());
}

#[test]
fn a_half_closed_client_receives_all_responses() {
    let server = Server::start(&[]);
    let output = server.exchange(request("GET", "/api/fibonacci/1000").repeat(500).as_bytes());
    let replies = Reply::parse_all(&output);
    assert_eq!(replies.len(), 500);
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body.len() == 209));
}
