//! How connections end as seen over sockets (RFC 9112 section 9.6): the client gets the answer and an
//! orderly end, not a reset, and what it goes on sending is read, discarded and bounded.

use std::{io::Write as _, net::Shutdown};

use crate::kit::{Client, Reply, Server, request};

/// Less than what is discarded while lingering, and more than one read, so that closing at once would leave
/// some of it unread.
const EXCESS: usize = 200 * 1024;

/// What is refused, with its status.
const REFUSED: [(&str, u16); 6] = [
    ("\0", 400),
    ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("GET / HTTP/3.0\r\n\r\n", 505),
    ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", 413),
    ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
];

/// All that comes back, which must be one reply that says `close` and then the end of the stream.
fn last_reply(client: &mut Client) -> Reply {
    let mut replies = Reply::parse_all(&client.read_to_end());
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].field("Connection"), Some("close"));
    replies.remove(0)
}

/// RFC 9112 section 9.6: a reset would let the client's system throw away what it has not read yet. It is
/// only read here once everything has been sent.
#[test]
fn an_answer_is_not_lost_to_what_is_sent_behind_a_refusal() {
    let server = Server::start(&[]);
    for (refused, status) in REFUSED {
        let mut client = server.connect();
        client.send(refused.as_bytes());
        client.send(&vec![b'x'; EXCESS]);
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(last_reply(&mut client).status, status, "{refused:?}");
    }
}

/// The same with requests behind it: none of them is answered.
#[test]
fn requests_behind_a_refusal_are_not_answered() {
    let server = Server::start(&[]);
    let more = request("GET", "/healthz").repeat(1000);
    for (refused, status) in REFUSED {
        let mut client = server.connect();
        client.send(format!("{refused}{more}").as_bytes());
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(last_reply(&mut client).status, status, "{refused:?}");
    }
}

/// RFC 9112 section 9.6: the server shuts its sending side first, so that a client that waits for the end
/// before it closes gets it; and what such a client then sends is no error to it.
#[test]
fn the_server_ends_its_side_first_and_goes_on_reading() {
    let server = Server::start(&[]);
    for (refused, status) in REFUSED {
        let mut client = server.connect();
        client.send(refused.as_bytes());
        assert_eq!(last_reply(&mut client).status, status, "{refused:?}");
        for _ in 0..4 {
            client.send(&[b'x'; 1024]);
        }
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert!(client.is_closed(), "{refused:?}");
    }
}

/// RFC 9112 section 9.6: nothing behind a request with `close` is processed, and its answer is not lost to
/// what is there.
#[test]
fn an_answer_is_not_lost_to_requests_behind_close() {
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

/// RFC 9112 section 9.6: after `close` the server closes, without being asked to by the client's end.
#[test]
fn the_server_closes_after_close() {
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

/// A refusal behind answers: all of them come, then the refusal, then the end.
#[test]
fn answers_before_a_refusal_come_first() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let good = request("GET", "/api/fibonacci/20").repeat(100);
    client.send(format!("{good}BREW / HTTP/1.1\r\n\r\n{}", "x".repeat(EXCESS)).as_bytes());
    client.stream().shutdown(Shutdown::Write).unwrap();
    let replies = Reply::parse_all(&client.read_to_end());
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [vec![200; 100], vec![501]].concat());
}

/// A client that goes on sending for ever is cut off: writing fails in the end.
#[test]
fn a_client_that_does_not_stop_is_cut_off() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"\0");
    assert_eq!(client.reply().status, 400);
    let mut stream = client.stream().try_clone().unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let error = (0..1024).find_map(|_| stream.write_all(&piece).err());
    let kind = error.expect("64 MiB are not taken").kind();
    let is_cut_off =
        matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe);
    assert!(is_cut_off, "{kind:?}");
    assert_eq!(server.get("/healthz").status, 200, "everybody else is served");
}

/// A client that neither closes nor sends is not waited for: its place is free again.
#[test]
fn a_client_that_does_not_close_is_not_waited_for() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut silent = server.connect();
    silent.send(b"\0");
    assert_eq!(silent.reply().status, 400);
    assert_eq!(server.get("/healthz").status, 200, "which only the place of the silent one allows");
    assert!(silent.is_closed());
}

/// A half-closed client gets all its answers, however many there are, and then the end.
#[test]
fn a_half_closed_client_gets_all_its_answers() {
    let server = Server::start(&[]);
    let output = server.exchange(request("GET", "/api/fibonacci/1000").repeat(500).as_bytes());
    let replies = Reply::parse_all(&output);
    assert_eq!(replies.len(), 500);
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body.len() == 209));
}
