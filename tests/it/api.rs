//! The response of each route.

use std::io::Write as _;

use ibig::UBig;

use crate::kit::{Client, Reply, Server, request};

fn check(server: &Server, target: &str, status: u16, body: &str) -> Reply {
    let reply = server.get(target);
    assert_eq!((reply.status, reply.body.as_str()), (status, body), "{target}");
    assert!(reply.field("Date").is_some_and(|date| date.ends_with(" GMT") && date.len() == 29));
    assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"));
    reply
}

#[test]
fn a_number_is_plain_digits() {
    let server = Server::start(&[]);
    check(&server, "/api/fibonacci/0", 200, "0");
    check(&server, "/api/fibonacci/1", 200, "1");
    check(&server, "/api/fibonacci/007", 200, "13");
    check(&server, "/api/fibonacci/%32%30?x=1", 200, "6765");
    check(&server, "http://anywhere/api/fibonacci/20", 200, "6765");
    let reply = check(&server, "/api/fibonacci/20", 200, "6765");
    assert_eq!(reply.field("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.field("Cache-Control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(reply.field("ETag"), Some("\"20\""));
    assert_eq!(reply.field("Connection"), None);
}

#[test]
fn table_numbers_equal_those_of_ibig() {
    const LAST: usize = 10_000;
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut requests = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for n in 0..=LAST {
            requests.write_all(request("GET", &format!("/api/fibonacci/{n}")).as_bytes()).unwrap();
        }
    });
    let (mut current, mut next) = (UBig::from(0_u8), UBig::from(1_u8));
    for n in 0..=LAST {
        let reply = client.reply();
        assert_eq!((reply.status, reply.body), (200, current.to_string()), "F({n})");
        current += &next;
        std::mem::swap(&mut current, &mut next);
    }
    sender.join().unwrap();
}

#[test]
fn invalid_numbers_get_an_error_that_states_the_format() {
    let server = Server::start(&["--max-n", "100"]);
    let expected = "n must be one or more decimal digits, as in /api/fibonacci/20\n";
    for n in ["", "-1", "+1", "1.5", "1e3", "x", "1%202", "%D9%A3", "0x1", "1,000"] {
        let reply = check(&server, &format!("/api/fibonacci/{n}"), 400, expected);
        assert_eq!(reply.field("Cache-Control"), Some("no-store"));
    }
    check(&server, "/api/fibonacci/100", 200, "354224848179261915075");
    for n in ["101", "18446744073709551616", &"9".repeat(3000)] {
        check(&server, &format!("/api/fibonacci/{n}"), 422, "n must be at most 100\n");
    }
}

#[test]
fn health_and_unknown_paths() {
    let server = Server::start(&[]);
    for (target, body) in [("/healthz", "ok"), ("/readyz", "ready")] {
        assert_eq!(check(&server, target, 200, body).field("Cache-Control"), Some("no-store"));
    }
    for target in ["//", "/api", "/api/fibonacci/1/2", "/metrics/", "/HEALTHZ"] {
        check(&server, target, 404, "not found\n");
    }
}

#[test]
fn methods() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut send = |method: &str, target: &str| {
        client.send(request(method, target).as_bytes());
        if method == "HEAD" { client.reply_to_head() } else { client.reply() }
    };
    let (get, head) = (send("GET", "/api/fibonacci/20"), send("HEAD", "/api/fibonacci/20"));
    let without_date = |reply: &Reply| {
        let fields = reply.fields.iter().filter(|(name, _)| name != "Date");
        (reply.status, fields.cloned().collect::<Vec<_>>())
    };
    assert_eq!(without_date(&head), without_date(&get));
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        let reply = send(method, "/api/fibonacci/20");
        assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
        assert_eq!(send(method, "/nothing").status, 404);
    }
    for target in ["*", "/api/fibonacci/20", "/metrics"] {
        let reply = send("OPTIONS", target);
        assert_eq!((reply.status, reply.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
        assert_eq!(reply.field("Content-Length"), None);
    }
    assert_eq!(send("CONNECT", "test:443").status, 405);
    assert_eq!(send("BREW", "/api/fibonacci/20").status, 501);
}

#[test]
fn a_matching_entity_tag_gets_304() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut send = |tag: &str| conditional(&mut client, tag);
    let reply = send("\"19\", W/\"20\"");
    assert_eq!((reply.status, reply.body.as_str()), (304, ""));
    assert_eq!(reply.field("ETag"), Some("\"20\""));
    assert_eq!(send("*").status, 304);
    assert_eq!(send("\"21\"").status, 200);
}

fn conditional(client: &mut Client, tag: &str) -> Reply {
    let head = "GET /api/fibonacci/20 HTTP/1.1\r\nHost: test\r\nIf-None-Match: ";
    client.send(format!("{head}{tag}\r\n\r\n").as_bytes());
    client.reply()
}
