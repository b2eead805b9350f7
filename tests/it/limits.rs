//! What happens when connections, descriptors or time run out.

use std::io::Read as _;

use crate::support::{Server, request};

#[test]
fn an_idle_connection_makes_room_for_a_new_one() {
    let server = Server::start(&["--max-connections", "2"]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.connect();
            assert_eq!(client.get("/healthz").status, 200);
            client
        })
        .collect();
    assert!(clients[0].is_closed(), "the one that has been idle for longest");
    for client in &mut clients[1..] {
        assert_eq!(client.get("/healthz").status, 200);
    }
}

#[test]
fn a_busy_connection_does_not_make_room() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut busy = server.connect();
    busy.send(
        b"PUT /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    busy.send(b"x");
    assert_eq!(busy.reply().status, 405, "what is under way is finished first");
    assert_eq!(waiting.reply().status, 200);
    assert!(busy.is_closed());
}

#[test]
fn descriptors_are_counted_ahead() {
    let mut server = Server::start_with_files(40);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/healthz").status, 200);
    }
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("process_max_fds 40\n"), "a scrape has the files it needs");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
    assert!(warnings <= 1, "{log}");
}

#[test]
fn slow_heads_and_bodies_are_cut_off_and_told_why() {
    let flags = ["--head-timeout", "100ms", "--body-timeout", "100ms", "--idle-timeout", "100ms"];
    let server = Server::start(&flags);
    let head = "GET /healthz HTTP/1.1\r\nHost: a\r\n";
    let body = "PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx";
    for begun in [head, body] {
        let mut client = server.connect();
        client.send(begun.as_bytes());
        assert_eq!(client.reply().status, 408);
        assert!(client.is_closed());
    }
    assert!(server.connect().is_closed(), "a silent one has asked nothing and is told nothing");
    let mut kept = server.connect();
    assert_eq!(kept.get("/healthz").status, 200);
    assert!(kept.is_closed());
}

#[test]
fn bytes_now_and_then_do_not_extend_the_time_for_a_head() {
    let server = Server::start(&["--head-timeout", "200ms"]);
    let mut client = server.connect();
    let mut stream = client.stream().try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        use std::io::Write as _;
        // Until the server has had enough: then writing fails, or 20 s have passed.
        stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        for byte in std::iter::once(b"GET /".as_slice()).chain(std::iter::repeat_n(&b"x"[..], 1000))
        {
            if stream.write_all(byte).is_err() {
                return;
            }
            if stream.read(&mut [0]).is_ok() {
                return; // the first byte of the refusal, or the end
            }
        }
        panic!("the server never had enough");
    });
    dripping.join().unwrap();
    drop(client.read_to_end());
}
