//! What an operator sees: log lines and streams, environment variables, `--check`, Ctrl-C, memory.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;

use crate::kit::{
    client::Client,
    process::{children, resident_bytes, send_signal},
    server::{Server, command, eventually},
};

/// Output of a command that exits by itself.
struct Finished {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_access_log_is_alone_on_stdout() {
    let mut server = command();
    server.args(["--listen", "127.0.0.1:0", "--access-log", "json", "--log-format", "json"]);
    let mut child = server.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap());
    let mut started = String::new();
    events.read_line(&mut started).unwrap();
    let started: Value = serde_json::from_str(&started).unwrap();
    let (_, address) = started["message"].as_str().unwrap().split_once("listening on ").unwrap();
    Client::connect(address.parse().unwrap()).get("/healthz");
    send_signal(child.id(), Signal::TERM).unwrap();
    let mut lines = String::new();
    child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["target"], "/healthz", "the only line");
    let messages: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["message"].to_string())
        .collect();
    assert!(messages.iter().any(|message| message.contains("received SIGTERM")), "{messages:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_event_has_the_process_id_and_the_worker() {
    for format in ["text", "json", "logfmt"] {
        let mut server = Server::start(&["--workers", "2", "--log-format", format]);
        let supervisor = server.id();
        let mut workers: Vec<u32> = children(supervisor);
        workers.sort_unstable();
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0));
        for (number, pid) in workers.iter().enumerate() {
            let identity = match format {
                "json" => {
                    format!(
                        "\"pid\":{pid},\"worker\":{number},\"message\":\"the supervisor is stopping;"
                    )
                }
                "logfmt" => format!("pid={pid} worker={number} msg=\"the supervisor is stopping;"),
                _ => format!("pid={pid} worker={number} the supervisor is stopping;"),
            };
            assert!(log.contains(&identity), "{identity}: {log}");
        }
        let is_identified = |line: &str| match format {
            "json" => {
                let event: Value = serde_json::from_str(line).unwrap();
                let names = ["time", "level", "target", "pid", "worker", "message"];
                let members: Vec<_> =
                    event.as_object().unwrap().keys().map(String::as_str).collect();
                members.len() == names.len() && names.iter().all(|name| members.contains(name))
            }
            _ => line.contains(" pid="),
        };
        assert!(log.lines().all(is_identified), "{log}");
        assert!(log.contains(&supervisor.to_string()), "{log}");
    }
}

#[test]
fn the_first_line_has_version_addresses_workers_and_other_processes() {
    let first = Server::start(&[]);
    let version = env!("CARGO_PKG_VERSION");
    let address = first.address().to_string();
    let second = Server::start_on(&address, &["--workers", "2"]);
    for (server, others) in [(&first, 0), (&second, 1)] {
        let line = server.startup_line();
        let started = format!("started version {version} (");
        assert!(line.contains(&started), "{line}");
        let others = format!(") with {others} other workers on the port: ");
        assert!(line.contains(&others), "{line}");
    }
    let line = first.startup_line();
    assert!(line.trim_end().ends_with(&format!(": 1 process, listening on {address}")), "{line}");
    let line = second.startup_line();
    assert!(line.trim_end().ends_with(&format!(": 2 workers, listening on {address}")), "{line}");
}

#[test]
fn an_unknown_variable_is_a_warning_and_an_empty_one_is_unset() {
    let mut server = command();
    server.env("FIBSRV_MAX_HAED", "1KiB").env("FIBSRV_MAX_N", "").env("FIBSRV_WORKERS", "");
    server.args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(server);
    let warning = " WARN  [fibsrv] ";
    assert!(server.preface().contains(warning), "{}", server.preface());
    let text = "unknown environment variable FIBSRV_MAX_HAED is ignored";
    assert!(server.preface().contains(text), "{}", server.preface());
    assert_eq!(server.get("/api/fibonacci/20").body, "6765");
}

#[test]
fn an_error_names_the_variable_that_the_value_came_from() {
    let check = |variable: (&str, &str), flags: &[&str], expected: &str| {
        let found = finish(command().env(variable.0, variable.1).args(flags));
        assert_eq!((found.status, found.stderr), (Some(2), format!("fibsrv: {expected}\n")));
    };
    check(
        ("FIBSRV_ACCESS_LOG", "jsn"),
        &[],
        "invalid value 'jsn' for '--access-log <FORMAT>' [possible values: off, combined, json]; \
         a similar value exists: 'json' (from FIBSRV_ACCESS_LOG; see --help)",
    );
    check(
        ("FIBSRV_MAX_HEAD", "1B"),
        &[],
        "--max-head must be 512 B to 1.0 MiB (from FIBSRV_MAX_HEAD; see --help)",
    );
    check(
        ("FIBSRV_MAX_HEAD", "8KiB"),
        &["--max-head", "1B"],
        "--max-head must be 512 B to 1.0 MiB (see --help)",
    );
}

#[test]
fn check_opens_what_a_start_opens_and_disturbs_nothing() {
    let directory = std::env::temp_dir();
    let log = directory.join(format!("fibsrv-operator-{}.log", std::process::id()));
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let flags = ["--listen", &address, "--access-log", "json", "--access-log-file"];
    let check = |path: &str| finish(command().args(flags).arg(path).arg("--check"));
    // The address is in use by a server of the same user, which another one could join.
    for _ in 0..20 {
        let found = check(log.to_str().unwrap());
        assert_eq!((found.status, found.stderr.as_str()), (Some(0), ""));
        assert!(!log.exists(), "a check creates no file");
        assert_eq!(server.get("/api/fibonacci/20").body, "6765", "a check receives no connection");
    }
    let found = check("/nowhere/access.log");
    assert_eq!(found.status, Some(1));
    let expected = "fibsrv: cannot open the access log /nowhere/access.log: No such file";
    assert!(found.stderr.starts_with(expected), "{}", found.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let found = finish(command().args(["--check", "--listen", &taken]));
    assert_eq!(found.status, Some(1));
    assert!(found.stderr.starts_with(&format!("fibsrv: cannot listen on {taken}: ")));
}

#[test]
fn check_reports_limits_of_the_system() {
    let mut shell = Command::new("sh");
    shell.env_clear().env("FIBSRV_TYPO", "1").args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    shell.arg(env!("CARGO_BIN_EXE_fibsrv")).args(["--check", "--listen", "127.0.0.1:0"]);
    let found = finish(&mut shell);
    assert_eq!(found.status, Some(0));
    for line in [
        "# the open file limit (ulimit -Hn) is 64: fewer than 64 of 100000 connections\n",
        "# unknown environment variable FIBSRV_TYPO is ignored\n",
        "--max-connections 100000\n",
    ] {
        assert!(found.stdout.contains(line), "{}", found.stdout);
    }
}

#[test]
fn the_version_has_revision_and_compiler() {
    for flag in ["--version", "-V"] {
        let found = finish(command().arg(flag)).stdout;
        assert!(found.starts_with(&format!("fibsrv {} (", env!("CARGO_PKG_VERSION"))), "{found}");
        assert!(found.contains(", rustc ") && found.lines().count() == 1, "{found}");
    }
}

/// Opens a terminal; returns its master and its slave.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = OpenOptions::new().read(true).write(true).open(name).unwrap();
    (File::from(master), slave)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures how long a shutdown takes")]
fn ctrl_c_at_a_terminal_shortens_the_shutdown_and_says_what_it_waits_for() {
    for workers in [&[][..], &["--workers", "1"]] {
        let (master, slave) = terminal();
        let mut server = command();
        server.args(["--listen", "127.0.0.1:0", "--drain-delay", "20s", "--drain-grace", "20s"]);
        server.args(workers).stdout(Stdio::piped()).stderr(slave);
        let mut child = server.spawn().unwrap();
        drop(server);
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut address = String::new();
        while !address.contains("listening on ") {
            address.clear();
            assert!(log.read_line(&mut address).unwrap() > 0);
        }
        let (_, address) = address.trim_end().rsplit_once(' ').unwrap();
        let mut idle = Client::connect(address.parse().unwrap());
        idle.get("/healthz");
        let start = Instant::now();
        send_signal(child.id(), Signal::INT).unwrap();
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
        assert!(start.elapsed() < Duration::from_secs(10), "the grace of 20 s is shortened");
        let hint = "finishing 1 connections; press Ctrl-C again to exit at once";
        assert!(text.contains("received SIGINT; ") && text.contains(hint), "{text}");
        drop(master);
    }
}

#[test]
fn elsewhere_the_grace_is_as_configured_and_a_second_signal_ends_it() {
    let mut server = Server::start(&["--drain-grace", "20s"]);
    let mut idle = server.connect();
    idle.get("/healthz");
    server.signal("INT");
    server.await_log("received SIGINT; finishing 1 connections\n");
    server.signal("INT");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("received SIGINT again; exiting at once"), "{log}");
}

#[test]
fn memory_is_returned_after_a_large_computation() {
    let server = Server::start(&["--cache-size", "8MiB"]);
    server.get("/api/fibonacci/50000"); // starts the compute thread
    let before = resident_bytes(server.id()).unwrap();
    for n in [10_000_000, 9_999_999] {
        assert_eq!(server.get(&format!("/api/fibonacci/{n}")).status, 200);
    }
    // The cache keeps both numbers, 4 MiB together; what it took to compute them is several times that.
    eventually("memory is returned", || resident_bytes(server.id()).unwrap() < before + (8 << 20));
}
