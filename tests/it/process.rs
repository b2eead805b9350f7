//! Startup, errors at startup, signals, and several processes on one port.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use crate::{
    kit::{Server, command, eventually, process::state, signal},
    supervisor::workers,
};

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
fn usage_errors_are_one_line_with_status_2() {
    check_failure(&["--listen", "nowhere"], 2, "nowhere");
    check_failure(&["--table-max-n", "lots"], 2, "lots");
    check_failure(&["--nonsense"], 2, "--nonsense");
    let output = command().env("FIBSRV_TABLE_MAX_N", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("many"));
}

#[test]
fn a_port_in_use_is_one_line_with_status_1() {
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
fn health_is_an_exit_status_and_an_error_line_if_not_ready() {
    let mut server = Server::start(&["--workers", "2", "--drain-delay", "20s"]);
    let address = server.address().to_string();
    let ready = run(&["health", &address]);
    assert_eq!((ready.status.code(), ready.stdout.len(), ready.stderr.len()), (Some(0), 0, 0));
    assert_eq!(run(&["--listen", &address, "health"]).status.code(), Some(0));
    let name = format!("localhost:{}", server.address().port());
    assert_eq!(run(&["health", &name]).status.code(), Some(0));
    server.signal("TERM");
    eventually("both workers drain", || run(&["health", &address]).status.code() == Some(1));
    check_failure(&["health", &address], 1, &format!("not ready: {address}: status 503"));
    server.signal("TERM");
    server.wait();
    check_failure(&["health", &address], 1, &format!("not ready: {address}: cannot connect"));
    check_failure(&["health", "somewhere"], 2, "somewhere");
}

#[test]
fn sigterm_and_sigint_exit_with_status_0() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        assert_eq!(server.get("/healthz").status, 200);
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains(&format!("received SIG{signal}; finishing ")), "{log}");
    }
}

#[test]
fn several_processes_share_a_port() {
    let first = Server::start(&[]);
    let second = Server::start_on(&first.address().to_string(), &[]);
    assert_eq!(first.address(), second.address());
    // Each has a connection to the other and the other's listener. The first receives them in its event loop.
    eventually("both have joined the group", || open_sockets(&first) == open_sockets(&second));
    let before = [open_sockets(&first), open_sockets(&second)];
    // One at a time: the idle owner accepts, and not the first process that gets a CPU.
    let mut clients = Vec::new();
    eventually("both accept", || {
        let mut client = first.connect();
        assert_eq!(client.get("/api/fibonacci/20").body, "6765");
        clients.push(client);
        let now = [open_sockets(&first), open_sockets(&second)];
        clients.len() >= 40 && now[0] > before[0] && now[1] > before[1]
    });
    let taken = [open_sockets(&first) - before[0], open_sockets(&second) - before[1]];
    assert_eq!(taken.iter().sum::<usize>(), clients.len());
}

/// The number of open sockets of a server.
fn open_sockets(server: &Server) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn log_lines_go_to_stdout_at_the_configured_level() {
    let mut server = Server::start(&["--log-level", "info"]);
    server.signal("TERM");
    let (_, log) = server.wait();
    assert!(log.lines().all(|line| line.contains(" INFO ")), "{log}");
}

/// Starts a server through a program that changes what the server inherits and then executes it.
fn start_by(program: &str, arguments: &[&str], flags: &[&str]) -> Server {
    let mut command = Command::new(program);
    command.args(arguments).args([env!("CARGO_BIN_EXE_fibsrv"), "--listen", "127.0.0.1:0"]);
    command.args(flags);
    Server::spawn(command)
}

/// Starts a server from a shell that runs this script first.
fn start_after(script: &str, flags: &[&str]) -> Server {
    start_by("sh", &["-c", &format!("{script}; exec \"$@\""), "sh"], flags)
}

#[test]
fn inherited_signal_masks_and_dispositions_do_not_matter() {
    for flags in [&[][..], &["--workers", "1"]] {
        for inherited in ["--block-signal=TERM,INT,HUP,USR1,CHLD", "--ignore-signal=TERM,INT,CHLD"]
        {
            let mut server = start_by("env", &[inherited], flags);
            if let [worker] = workers(&server)[..] {
                signal(worker, "KILL");
                eventually("it is restarted", || workers(&server).iter().any(|pid| *pid != worker));
            }
            assert_eq!(server.get("/healthz").status, 200);
            server.signal("TERM");
            let (status, log) = server.wait();
            assert_eq!(status.code(), Some(0), "{inherited}: {log}");
        }
    }
}

/// Whether a process blocks SIGTERM.
fn blocks_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 14) != 0
}

#[test]
fn a_signal_during_startup_is_neither_lost_nor_fatal() {
    for flags in [&[][..], &["--workers", "1"]] {
        let mut slow = command();
        slow.args(["--listen", "127.0.0.1:0", "--table-max-n", "20000"]).args(flags);
        let mut child = slow.stdout(Stdio::piped()).spawn().unwrap();
        eventually("main has started", || blocks_sigterm(child.id()));
        for name in ["USR1", "HUP", "TERM"] {
            signal(child.id(), name);
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{flags:?}");
    }
}

#[test]
fn sighup_does_not_stop_a_process_without_a_supervisor() {
    let mut server = start_by("setsid", &[], &[]);
    server.signal("HUP");
    server.await_log("received SIGHUP; there is no supervisor");
    assert_eq!(server.get("/api/fibonacci/20").body, "6765");
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn inherited_children_are_reaped() {
    let server = start_after("cat /dev/null & echo $! > /dev/null; exec 3<&0", &[]);
    let children = || {
        let id = server.id();
        let path = format!("/proc/{id}/task/{id}/children");
        let children = fs::read_to_string(path).unwrap();
        children.split_whitespace().filter_map(|pid| state(pid.parse().unwrap())).count()
    };
    eventually("no zombie is left", || children() == 0);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn inherited_descriptors_are_counted() {
    let leak = "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd</dev/null\"; done; ulimit -n 40";
    for flags in [&[][..], &["--workers", "1"]] {
        let mut server = start_after(leak, flags);
        let mut clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/healthz").status, 200);
        }
        assert!(server.get("/metrics").body.contains("process_max_fds 40\n"));
        drop(clients);
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0));
        let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
        assert!(warnings <= 1 && !log.contains(" ERROR "), "{log}");
    }
}
