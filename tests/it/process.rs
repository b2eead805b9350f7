//! Start, errors at start, signals, and several processes on one port.

use std::{
    fs,
    net::TcpListener,
    process::{Output, Stdio},
};

use crate::kit::{Server, command, eventually};

fn run(flags: &[&str]) -> Output {
    command().args(flags).stdin(Stdio::null()).output().unwrap()
}

fn check_failure(flags: &[&str], status: i32, text: &str) {
    let output = run(flags);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{flags:?}: {stderr}");
    assert!(stderr.starts_with("fibsrv: ") && stderr.contains(text), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn usage_errors_are_one_line_and_status_2() {
    check_failure(&["--listen", "nowhere"], 2, "nowhere");
    check_failure(&["--table-max-n", "lots"], 2, "lots");
    check_failure(&["--nonsense"], 2, "--nonsense");
    let output = command().env("FIBSRV_TABLE_MAX_N", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("many"));
}

#[test]
fn an_occupied_port_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_failure(&["--listen", &address], 1, &format!("cannot listen on {address}: Address"));
}

#[test]
fn help_version_and_check_go_to_stdout() {
    for (flag, text) in [
        ("--help", "FIBSRV_LISTEN"),
        ("--version", env!("CARGO_PKG_VERSION")),
        ("--check", "--table-max-n 10000"),
    ] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(text), "{flag}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn flags_win_over_the_environment() {
    let check = |flags: &[&str]| {
        let output =
            command().env("FIBSRV_TABLE_MAX_N", "7").args(flags).arg("--check").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&[]).contains("--table-max-n 7\n"));
    assert!(check(&["--table-max-n", "8"]).contains("--table-max-n 8\n"));
}

#[test]
fn health_is_a_status_and_when_bad_a_line() {
    let mut server = Server::start(&["--workers", "2", "--drain-delay", "20s"]);
    let address = server.address().to_string();
    let well = run(&["health", &address]);
    assert_eq!((well.status.code(), well.stdout.len(), well.stderr.len()), (Some(0), 0, 0));
    assert_eq!(run(&["--listen", &address, "health"]).status.code(), Some(0));
    server.signal("TERM");
    eventually("both workers drain", || run(&["health", &address]).status.code() == Some(1));
    check_failure(&["health", &address], 1, &format!("not ready: {address}: status 503"));
    server.signal("TERM");
    server.wait();
    check_failure(&["health", &address], 1, &format!("not ready: {address}: cannot connect"));
    check_failure(&["health", "somewhere"], 2, "somewhere");
}

#[test]
fn signals_end_it_well() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        assert_eq!(server.get("/healthz").status, 200);
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stop signal received"), "{log}");
    }
}

#[test]
fn several_processes_share_a_port() {
    let first = Server::start(&[]);
    let second = Server::start_on(&first.address().to_string(), &[]);
    assert_eq!(first.address(), second.address());
    // Each has a link to the other, and its listener. The first takes them when its loop comes to it.
    eventually("they have met", || open_sockets(&first) == open_sockets(&second));
    let before = [open_sockets(&first), open_sockets(&second)];
    let mut clients: Vec<_> = (0..40).map(|_| first.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/api/fibonacci/20").body, "6765");
    }
    let taken = [open_sockets(&first) - before[0], open_sockets(&second) - before[1]];
    assert_eq!(taken.iter().sum::<usize>(), clients.len());
    // The kernel spreads them by their ports: that one process got all is a chance of 2^-39.
    assert!(!taken.contains(&0), "{taken:?}");
}

/// How many sockets a server has open.
fn open_sockets(server: &Server) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn logs_are_lines_on_stdout_at_the_level_asked_for() {
    let mut server = Server::start(&["--log-level", "info"]);
    server.signal("TERM");
    let (_, log) = server.wait();
    assert!(log.lines().all(|line| line.contains(" INFO ")), "{log}");
}
