//! HTTP over sockets: persistence, pipelining, splits, errors and closing.

use std::net::Shutdown;

use crate::kit::{Reply, Server, request};

fn statuses(server: &Server, input: &str) -> Vec<u16> {
    let output = server.exchange(input.as_bytes());
    Reply::parse_all(&output).iter().map(|reply| reply.status).collect()
}

#[test]
fn pipelined_responses_are_in_order() {
    let server = Server::start(&[]);
    let depth = 1_000;
    let requests: String =
        (0..depth).map(|n| request("GET", &format!("/api/fibonacci/{}", n % 90))).collect();
    let replies = Reply::parse_all(&server.exchange(requests.as_bytes()));
    let expected: Vec<String> =
        (0..90).map(|n| server.get(&format!("/api/fibonacci/{n}")).body).collect();
    assert_eq!(replies.len(), depth);
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(reply.body, expected[n % 90]);
    }
}

#[test]
fn a_request_may_arrive_in_pieces() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for byte in request("GET", "/api/fibonacci/20").as_bytes() {
        client.send(&[*byte]);
    }
    assert_eq!(client.reply().body, "6765");
}

#[test]
fn keep_alive_depends_on_version_and_connection_field() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(client.reply().field("Connection"), Some("keep-alive"));
    client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n");
    assert_eq!(client.reply().field("Connection"), Some("close"));
    assert!(client.is_closed());

    let mut client = server.connect();
    client.send(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(client.reply().field("Connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn malformed_input_gets_an_error_with_one_line() {
    let server = Server::start(&[]);
    for (input, status) in [
        ("\x16\x03\x01\x02", 400),
        ("\0\0\0\0", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET /% HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b", 400),
    ] {
        let replies = Reply::parse_all(&server.exchange(input.as_bytes()));
        assert_eq!(replies.len(), 1, "{input:?}");
        assert_eq!(replies[0].status, status, "{input:?}");
        assert_eq!(replies[0].field("Connection"), Some("close"));
        assert!(replies[0].body.ends_with('\n') && replies[0].body.lines().count() == 1);
    }
    assert_eq!(server.get("/healthz").status, 200, "other clients are served");
}

#[test]
fn a_head_without_end_is_rejected_at_the_limit() {
    let server = Server::start(&[]);
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "A: b\r\n".repeat(3_000));
    assert_eq!(statuses(&server, &endless), [431]);
    assert_eq!(statuses(&server, &format!("GET /{}", "x".repeat(20_000))), [414]);
    let fields = "A: b\r\n".repeat(64);
    assert_eq!(statuses(&server, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")), [431]);
}

#[test]
fn a_body_is_never_parsed_as_a_request() {
    let server = Server::start(&[]);
    let inner = request("GET", "/healthz");
    let post = |fields: &str, body: &str| {
        let last = request("GET", "/readyz");
        format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{last}")
    };
    let known = post(&format!("Content-Length: {}", inner.len()), &inner);
    assert_eq!(statuses(&server, &known), [405, 200]);
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    assert_eq!(statuses(&server, &post("Transfer-Encoding: chunked", &chunk)), [405, 200]);
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
    assert_eq!(statuses(&server, &post(both, "0\r\n\r\n")), [400]);
}

#[test]
fn a_half_closed_client_receives_its_response() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(request("GET", "/api/fibonacci/20").as_bytes());
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply().body, "6765");
    assert!(client.is_closed());
}

#[test]
fn an_expected_100_continue_is_sent_before_the_body() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(client.reply().status, 100);
    client.send(b"ab");
    assert_eq!(client.reply().status, 200);
}
