//! A log that cannot be written must neither end the server nor stall it.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use socket2::{Domain, Socket, Type};

use crate::kit::{Client, Server, command, eventually, request};

/// A request that stays under way, so that its connection cannot make room.
const UNFINISHED: &[u8] =
    b"PUT /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";

/// Takes the only place of a server and has others wait for it, which is logged.
fn provoke_a_line(server: &Server) -> (Client, Client) {
    let mut busy = server.connect();
    busy.send(UNFINISHED);
    assert_eq!(busy.reply().status, 100);
    let mut waiting = server.connect();
    waiting.send(request("GET", "/healthz").as_bytes());
    (busy, waiting)
}

fn check_both_are_served((mut busy, mut waiting): (Client, Client)) {
    busy.send(b"x");
    assert_eq!(busy.reply().status, 405);
    assert_eq!(waiting.reply().status, 200);
}

#[test]
fn a_reader_that_is_gone_does_not_end_the_server() {
    let mut server = Server::start(&["--max-connections", "1"]);
    drop(server.take_log());
    check_both_are_served(provoke_a_line(&server));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_reader_that_does_not_read_does_not_stall_the_server() {
    let mut server = Server::start(&["--max-connections", "1"]);
    let mut log = server.take_log();
    let filled = fill(&log.get_ref().as_raw_fd());
    check_both_are_served(provoke_a_line(&server));

    let mut rubbish = vec![0; filled];
    log.read_exact(&mut rubbish).unwrap();
    server.signal("TERM");
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(server.wait().0.code(), Some(0));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("[fibsrv::logging] 1 log lines were dropped"), "{text}");
    assert!(lines[1].contains("told to stop"), "{text}");
}

/// Fills the pipe whose reading end this is; returns the number of bytes that took.
pub(crate) fn fill(reader: &impl std::fmt::Display) -> usize {
    // A way to the pipe of our own: setting the server's to non-blocking would change what is tested.
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
    // The log does not tell the port this time. So it is taken first, and shared.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    holder.set_reuse_port(true).unwrap();
    holder.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = holder.local_addr().unwrap().as_socket().unwrap();
    let disk = File::options().write(true).open("/dev/full").unwrap();
    let mut child =
        command().args(["--listen", &address.to_string()]).stdout(disk).spawn().unwrap();
    eventually("the server listens or has ended", || {
        TcpStream::connect(address).is_ok() || child.try_wait().unwrap().is_some()
    });
    let answer =
        child.try_wait().unwrap().is_none().then(|| Client::connect(address).get("/readyz"));
    drop(child.kill());
    drop(child.wait());
    assert_eq!(answer.map(|reply| reply.status), Some(200));
}
