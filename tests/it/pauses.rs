//! Pauses of the server: it was stopped, frozen, or busy with something else. No request that arrived meanwhile is
//! timed out, and deadlines count from the moment the server can read.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::kit::{Server, eventually, halt, request};

/// More than one poll reports.
const CLIENTS: usize = 1_500;

/// What a client sends before a pause and during it, and the status that it must get.
const PARTS: [(&str, &str, u16); 3] = [
    ("", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("GET /healthz HT", "TP/1.1\r\nHost: a\r\n\r\n", 200),
    ("PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234", "56789", 405),
];

/// Every request that is complete when the server resumes gets its response, although all deadlines have passed.
fn check_pause(pause: impl FnOnce(&Server, &mut dyn FnMut())) {
    let times = ["--head-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "1s"];
    let server = Server::start(&times);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/healthz").as_bytes());
    }
    for (client, (before, ..)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
        assert_eq!(client.reply().status, 200);
        client.send(before.as_bytes());
    }
    pause(&server, &mut || {
        for (client, (_, during, _)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
            client.send(during.as_bytes());
        }
        clients[0].is_silent_for(Duration::from_millis(1_200));
    });
    for (nth, (client, (.., status))) in clients.iter_mut().zip(PARTS.iter().cycle()).enumerate() {
        assert_eq!(client.reply().status, *status, "client {nth}");
    }
}

#[test]
fn requests_that_arrive_while_the_server_is_stopped_get_their_responses() {
    check_pause(|server, during| {
        halt(server.id());
        during();
        server.signal("CONT");
    });
}

#[test]
fn requests_that_arrive_while_the_server_is_frozen_get_their_responses() {
    let Ok(freezer) = Freezer::new() else { return }; // not root, or no control groups
    check_pause(|server, during| {
        fs::write(freezer.0.join("cgroup.procs"), server.id().to_string()).unwrap();
        freezer.set("FROZEN");
        during();
        freezer.set("THAWED");
    });
}

/// A control group whose processes can be frozen. Dropping it thaws and removes it.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> io::Result<Self> {
        let folder = format!("/sys/fs/cgroup/freezer/fibsrv-test-{}", std::process::id());
        fs::create_dir(&folder)?;
        Ok(Self(folder.into()))
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
        eventually("the group is in that state", || {
            fs::read_to_string(self.0.join("freezer.state")).unwrap().trim() == state
        });
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("freezer.state"), "THAWED"));
        if let Ok(members) = fs::read_to_string(self.0.join("cgroup.procs")) {
            for member in members.lines() {
                drop(fs::write("/sys/fs/cgroup/freezer/cgroup.procs", member));
            }
        }
        drop(fs::remove_dir(&self.0));
    }
}

/// The server is always busy here, so most stops are inside an iteration. Each takes longer than the idle timeout.
#[test]
fn requests_that_arrive_during_a_stall_inside_an_iteration_get_their_responses() {
    const ROUNDS: usize = 2;
    let server = Server::start(&["--idle-timeout", "2s", "--head-timeout", "2s"]);
    let mut busy: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let mut quiet = server.connect();
    for round in 0..ROUNDS {
        for client in &mut busy {
            client.send(request("GET", "/api/fibonacci/9").repeat(200).as_bytes());
        }
        for client in &mut clients {
            assert_eq!(client.get("/healthz").status, 200, "round {round}");
        }
        for client in &mut busy {
            assert_eq!(client.reply().body, "34", "the first of many");
        }
        halt(server.id());
        for client in &mut clients {
            client.send(request("GET", "/healthz").as_bytes());
        }
        quiet.send(request("GET", "/healthz").as_bytes());
        quiet.is_silent_for(Duration::from_millis(2_200));
        server.signal("CONT");
        assert_eq!(quiet.reply().status, 200);
        for client in &mut clients {
            assert_eq!(client.reply().status, 200, "round {round}");
        }
        for client in &mut busy {
            (1..200).for_each(|_| assert_eq!(client.reply().body, "34"));
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the deadline itself is measured")]
fn deadlines_count_from_the_moment_the_server_can_read() {
    let times = ["--head-timeout", "2s", "--body-timeout", "2s"];
    let server = Server::start(&times);
    let mut head = server.connect();
    head.send(b"GET /healthz HT");
    let mut body = server.connect();
    body.send(b"PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234");
    let mut late = server.connect();
    late.send(b"GET /healthz HT");
    assert_eq!(server.get("/healthz").status, 200);
    halt(server.id());
    late.is_silent_for(Duration::from_secs(4));
    server.signal("CONT");
    let resumed = Instant::now();
    // By its response all deadlines have been handled.
    assert_eq!(server.get("/healthz").status, 200);
    head.send(b"TP/1.1\r\nHost: a\r\n\r\n");
    body.send(b"56789");
    assert_eq!(head.reply().status, 200);
    assert_eq!(body.reply().status, 405);
    assert_eq!(late.reply().status, 408, "a client that sends nothing more is timed out");
    assert!(resumed.elapsed() < Duration::from_secs(4));
}
