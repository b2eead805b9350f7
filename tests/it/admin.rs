//! Metrics and health on an address of their own: `--admin-listen`.

use std::{net::SocketAddr, time::Duration};

use crate::{
    kit::{ANSWERED, Client, Server, command, counted, eventually, request},
    supervisor::{Program, workers},
};

/// A client that pipelines more than it reads holds its slot.
const REQUESTS: usize = 4000;

fn start(flags: &[&str]) -> Server {
    Server::start(&[&["--admin-listen", "127.0.0.1:0"], flags].concat())
}

fn status(address: SocketAddr, target: &str) -> u16 {
    Client::connect(address).get(target).status
}

/// Connects a client that requests much and reads nothing.
fn hold(address: SocketAddr, target: &str) -> Client {
    let client = Client::connect_narrow(address);
    client.stream().set_nonblocking(true).unwrap();
    let requests = request("GET", target).repeat(REQUESTS);
    // A part of them fills the kernel's buffers.
    assert!(std::io::Write::write(&mut client.stream(), requests.as_bytes()).unwrap() > 0);
    client.stream().set_nonblocking(false).unwrap();
    client
}

#[test]
fn each_address_serves_its_own_routes() {
    for flags in [&[][..], &["--workers", "2"]] {
        let server = start(flags);
        let (public, admin) = (server.address(), server.admin_address());
        for target in ["/metrics", "/healthz", "/readyz", "/%6detrics"] {
            assert_eq!((status(public, target), status(admin, target)), (404, 200), "{target}");
        }
        for target in ["/api/fibonacci/20", "/api/fibonacci/30000"] {
            assert_eq!((status(public, target), status(admin, target)), (200, 404), "{target}");
        }
        assert_eq!(
            (status(public, "/api/fibonacci/x"), status(admin, "/api/fibonacci/x")),
            (400, 404)
        );
        for address in [public, admin] {
            let mut client = Client::connect(address);
            client.send(request("OPTIONS", "*").as_bytes());
            assert_eq!(client.reply().status, 204);
        }
        // The body of an upload to a path that is not served is not read.
        let mut client = Client::connect(public);
        client.send(b"PUT /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.reply().status, 404);
    }
}

#[test]
fn a_scrape_of_any_worker_returns_the_sum() {
    let server = start(&["--workers", "3"]);
    for _ in 0..50 {
        assert_eq!(server.get("/api/fibonacci/20").body, "6765");
    }
    for _ in 0..10 {
        let metrics = Client::connect(server.admin_address()).get("/metrics").body;
        assert_eq!(counted(&metrics)[ANSWERED], 50.0);
    }
}

#[test]
fn probes_succeed_while_all_slots_are_taken() {
    let server = start(&["--max-connections", "3"]);
    let holders: Vec<_> = (0..3).map(|_| hold(server.address(), "/api/fibonacci/10000")).collect();
    let mut waiting = server.connect();
    waiting.send(request("GET", "/api/fibonacci/20").as_bytes());
    waiting.is_silent_for(Duration::from_millis(300));
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(server.admin_address(), target), 200, "{target}");
    }
    drop(holders);
    assert_eq!(waiting.reply().body, "6765");
}

#[test]
fn clients_of_the_admin_address_take_no_slot_of_the_others() {
    let server = start(&["--max-connections", "1"]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/api/fibonacci/20").status, 200);
    let mut admin: Vec<_> = (0..16).map(|_| Client::connect(server.admin_address())).collect();
    for client in &mut admin {
        assert_eq!(client.get("/healthz").status, 200);
    }
    assert_eq!(idle.get("/api/fibonacci/20").status, 200, "still open");
    // The seventeenth takes the place of the first once that has been idle for a second.
    assert_eq!(status(server.admin_address(), "/readyz"), 200);
    assert!(admin[0].is_closed());
    assert_eq!(admin[15].get("/readyz").status, 200);
    assert_eq!(idle.get("/api/fibonacci/20").status, 200, "not evicted for it");
    // Nor does a new client at the other address take the place of one of these.
    assert_eq!(server.get("/api/fibonacci/20").status, 200);
    assert!(idle.is_closed());
    assert_eq!(admin[15].get("/readyz").status, 200);
}

#[test]
fn clients_that_stall_keep_no_probe_out() {
    let server = start(&["--body-timeout", "1h", "--write-timeout", "1h"]);
    let admin = server.admin_address();
    let upload = |_| {
        let mut client = Client::connect(admin);
        client.send(b"PUT /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx");
        client
    };
    let _uploading: Vec<_> = (0..16).map(upload).collect();
    assert_eq!(status(admin, "/readyz"), 200);
    let _not_reading: Vec<_> = (0..16).map(|_| hold(admin, "/metrics")).collect();
    for target in ["/readyz", "/metrics", "/healthz"] {
        assert_eq!(status(admin, target), 200, "{target}");
    }
}

#[test]
fn each_connection_limit_has_its_warning() {
    let mut server = start(&["--max-connections", "1"]);
    let (public, admin) = (server.address(), server.admin_address());
    let _holder = hold(public, "/api/fibonacci/10000");
    let _waiting = server.connect();
    server.await_log(&format!("connection limit (1) reached on {public}; "));
    let _holders: Vec<_> = (0..40).map(|_| hold(admin, "/metrics")).collect();
    server.await_log(&format!("connection limit (16) reached on {admin}; "));
}

#[test]
fn readiness_is_reported_until_the_server_exits() {
    for flags in [&["--drain-grace", "0s"][..], &["--drain-grace", "0s", "--workers", "2"]] {
        let mut server = start(flags);
        let admin = server.admin_address();
        let mut uploading = server.connect();
        uploading.send(b"PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
        let (mut idle, mut prober) = (server.connect(), Client::connect(admin));
        assert_eq!(idle.get("/api/fibonacci/20").status, 200);
        assert_eq!(prober.get("/readyz").status, 200);
        server.signal("TERM");
        assert!(idle.is_closed(), "no others are accepted");
        drop(idle);
        eventually("all workers drain", || (0..10).all(|_| status(admin, "/readyz") == 503));
        for _ in 0..10 {
            assert_eq!(status(admin, "/readyz"), 503);
        }
        // With several workers, that of the prober may have exited.
        if flags.len() == 2 {
            let reply = prober.get("/readyz");
            assert_eq!((reply.status, reply.field("Connection")), (503, Some("close")));
        }
        drop(prober);
        // An idle or silent connection of a prober does not delay the exit.
        let _silent = Client::connect(admin);
        uploading.send(b"x");
        assert_eq!(uploading.reply().status, 404);
        drop(uploading);
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

#[test]
fn an_upgrade_keeps_both_addresses_apart() {
    let program = Program::new("admin");
    let flags = ["--workers", "2", "--admin-listen", "127.0.0.1:0"];
    let mut server = Server::start_program(&program.0, &flags);
    for _ in 0..2 {
        let before = workers(&server);
        server.signal("HUP");
        let line = server.await_log_line("2 workers, listening on");
        let (public, admin) = (server.address(), server.admin_address());
        assert!(line.contains(&format!("listening on {public}, admin on {admin}")), "{line}");
        eventually("all workers are new", || {
            let now = workers(&server);
            now.len() == 2 && !now.iter().any(|worker| before.contains(worker))
        });
        for _ in 0..10 {
            assert_eq!((status(public, "/readyz"), status(admin, "/readyz")), (404, 200));
            assert_eq!(status(public, "/api/fibonacci/20"), 200);
        }
    }
}

#[test]
fn processes_share_both_addresses() {
    let first = start(&[]);
    let (public, admin) = (first.address().to_string(), first.admin_address().to_string());
    let second = Server::start_on(&public, &["--admin-listen", &admin]);
    for _ in 0..20 {
        assert_eq!(
            (status(first.address(), "/readyz"), status(first.admin_address(), "/readyz")),
            (404, 200)
        );
    }
    drop(second);
    for _ in 0..20 {
        assert_eq!(
            (first.get("/metrics").status, status(first.admin_address(), "/metrics")),
            (404, 200)
        );
    }
}

#[test]
fn health_checks_the_admin_address() {
    let server = start(&[]);
    let run = |flags: &[&str]| command().args(flags).arg("health").output().unwrap();
    let (public, admin) = (server.address().to_string(), server.admin_address().to_string());
    let healthy = run(&["--listen", &public, "--admin-listen", &admin]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
    let other = run(&["--listen", &public]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("status 404"), "{other:?}");
}
