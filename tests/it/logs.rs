//! A process log that cannot be written neither ends the server nor stalls it.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use socket2::{Domain, Socket, Type};

use crate::kit::{Client, Server, command, eventually, request};

/// A request that stays in progress, so that its connection cannot be evicted.
const UNFINISHED: &[u8] =
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";

/// Uses up the connection limit of a server and opens one more connection, which is logged.
fn cause_a_line(server: &Server) -> (Client, Client) {
    let mut busy = server.connect();
    busy.send(UNFINISHED);
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    (busy, waiting)
}

fn check_both_are_served((mut busy, mut waiting): (Client, Client)) {
    busy.send(b"x");
    assert_eq!(busy.reply().status, 200);
    drop(busy);
    assert_eq!(waiting.reply().status, 200);
}

#[test]
fn a_broken_pipe_does_not_end_the_server() {
    let mut server = Server::start(&["--max-connections", "1"]);
    drop(server.take_log());
    check_both_are_served(cause_a_line(&server));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_full_pipe_does_not_stall_the_server() {
    let mut server = Server::start(&["--max-connections", "1"]);
    let mut log = server.take_log();
    let filled = fill(&log.get_ref().as_raw_fd());
    check_both_are_served(cause_a_line(&server));

    let mut discarded = vec![0; filled];
    log.read_exact(&mut discarded).unwrap();
    server.signal("TERM");
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(server.wait().0.code(), Some(0));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(" dropped 1 log lines"), "{text}");
    assert!(lines[1].contains("received SIGTERM; finishing "), "{text}");
}

/// Fills the pipe with this reading end; returns the number of bytes written.
pub(crate) fn fill(reader: &impl std::fmt::Display) -> usize {
    // A file description of its own: making the server's non-blocking would change what is tested.
    let mut writer = OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(format!("/proc/self/fd/{reader}"))
        .unwrap();
    let mut filled = 0;
    loop {
        match writer.write(&[b'\n'; 4096]) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return filled,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk_does_not_end_the_server() {
    // The port cannot be read from the log here, so it is chosen first and shared.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    holder.set_reuse_port(true).unwrap();
    holder.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = holder.local_addr().unwrap().as_socket().unwrap();
    let disk = File::options().write(true).open("/dev/full").unwrap();
    let mut child =
        command().args(["--listen", &address.to_string()]).stdout(disk).spawn().unwrap();
    eventually("the server listens or has exited", || {
        TcpStream::connect(address).is_ok() || child.try_wait().unwrap().is_some()
    });
    let reply =
        child.try_wait().unwrap().is_none().then(|| Client::connect(address).get("/readyz"));
    drop(child.kill());
    drop(child.wait());
    assert_eq!(reply.map(|reply| reply.status), Some(200));
}
