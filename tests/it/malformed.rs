//! Clients that send rubbish, do not listen, or speak another protocol.

use std::{io::Write as _, thread};

use crate::{
    kit::{Client, Reply, Server, eventually, request},
    monitor::{IDLE_TICKS_MAX, Watch},
};

/// What the server reads and discards after a refusal, so that the client gets to read it.
const LINGER_BYTES: usize = 256 * 1024;
const REFUSED: &str = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";

#[test]
fn one_who_keeps_sending_after_a_refusal_gets_to_read_it() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    for rubbish_bytes in [0, 1, 8 * 1024, 64 * 1024, LINGER_BYTES] {
        let mut client = server.connect();
        client.send(REFUSED.as_bytes());
        client.send(&vec![b'x'; rubbish_bytes]);
        client.end();
        let replies = Reply::parse_all(&client.read_to_end());
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [400], "{rubbish_bytes} bytes behind the refused request");
        // Our kernel hides a reset from those who read, once the end of the stream has come. Others do not.
        eventually("the server has closed", || watch.attackers() == 0);
        let reset = client.stream().take_error().unwrap();
        assert!(reset.is_none(), "{reset:?} after {rubbish_bytes} bytes");
        watch.others_are_served();
    }
    watch.all_is_given_back();
}

#[test]
fn one_who_never_stops_sending_after_a_refusal_is_reset() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = Client::connect_narrow(server.address());
                client.send(REFUSED.as_bytes());
                let sent = client.flood(&[b'x'; 1024]);
                // What the kernels hold between us comes on top of what the server reads.
                let most = LINGER_BYTES + 512 * 1024;
                assert!(sent < most, "the server took {sent} bytes, more than {most}");
            });
        }
        watch.others_are_served();
    });
    watch.all_is_given_back();
}

#[test]
fn those_who_do_not_close_after_a_refusal_are_closed_and_cost_no_time() {
    let server = Server::start(&[]);
    let few = server.open_files(); // it may look at its own figures while we count
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(REFUSED.as_bytes());
        assert_eq!(client.reply().status, 400);
        assert!(client.is_closed(), "nothing more is sent");
    }
    let before = server.cpu_ticks();
    eventually("the server has waited long enough", || server.open_files() <= few);
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} ticks for waiting");
    assert_eq!(server.connections(), 1.0, "ours, which asks");
    drop(clients);
}

/// A greeting of TLS 1.2 and 1.3, as long as they usually are.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend((0..32).map(|n: u8| n.wrapping_mul(37)));
    hello.resize(517, 0);
    hello
}

/// The preface of HTTP/2, with an empty frame of settings and a window update.
const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\0\x0f\0\x01";

#[test]
fn other_protocols_are_refused_in_ours() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    let noise: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (bytes, status) in [
        (client_hello().as_slice(), 400),
        (PREFACE, 505),
        (b"SSH-2.0-client\r\n", 400),
        (b"\x04\x01\x00\x50\x7f\0\0\x01\0", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (&[0xff; 100], 400),
        (&noise, 400),
    ] {
        // They wait for an answer in their own language, and do not close before.
        let mut client = server.connect();
        client.send(bytes);
        let replies = Reply::parse_all(&client.read_to_end());
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [status], "{}", bytes.escape_ascii());
    }
    watch.all_is_given_back();
}

#[test]
fn those_who_come_and_go_at_once_leave_nothing() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    for _ in 0..500 {
        drop(server.connect());
        server.connect().reset();
    }
    watch.all_is_given_back();
}

#[test]
fn those_who_ask_much_and_leave_are_forgotten() {
    let server = Server::start(&[]);
    let watch = Watch::start(&server);
    let requests = request("GET", "/api/fibonacci/1").repeat(10_000);
    for leave in [drop::<Client>, Client::reset] {
        let client = server.connect();
        // It may be that not all is taken: the answers are not read.
        client.stream().set_nonblocking(true).unwrap();
        let sent = client.stream().write(requests.as_bytes()).unwrap();
        assert!(sent > 0);
        leave(client);
        watch.others_are_served();
    }
    watch.all_is_given_back();
}
