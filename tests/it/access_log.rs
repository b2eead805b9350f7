//! The access log: one line per response, and failures to write it neither end nor stall the server.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, Read as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;

use crate::{
    kit::{Client, Server, command, eventually, request},
    logs::fill,
};

const DROPPED: &str = "fibsrv_access_log_dropped_total";

/// A directory for logs, removed at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static DIRECTORIES: AtomicU32 = AtomicU32::new(0);
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("fibsrv-access-log-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Returns the lines of a log once it has `count` lines. A line is written after its response.
fn await_lines(path: &str, count: usize) -> Vec<String> {
    let text = || fs::read_to_string(path).unwrap();
    eventually("the log is complete", || text().lines().count() >= count);
    let lines: Vec<String> = text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// Returns method, target, version and status of a line in JSON, with - for null.
fn words(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    let word = |name: &str| match line[name].as_str() {
        Some(text) => text.to_owned(),
        None if line[name].is_null() => "-".to_owned(),
        None => line[name].to_string(),
    };
    ["method", "target", "version", "status"].map(word).join(" ")
}

/// Reverses the escaping of the combined format.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        format!("{text}{}{rest}", char::from(u8::from_str_radix(code, 16).unwrap()))
    })
}

/// Returns the number of responses.
fn responses(counted: &BTreeMap<String, f64>) -> f64 {
    let requests = counted.iter().filter(|(key, _)| key.starts_with("fibsrv_requests_total"));
    requests.map(|(_, count)| count).sum()
}

/// Waits until every line except that of the last scrape is dropped and counted; returns the number of requests.
fn await_all_dropped(server: &Server) -> f64 {
    let mut requests = 0.0;
    eventually("all lines are dropped and counted", || {
        let counted = server.counted();
        requests = responses(&counted);
        counted[DROPPED] == requests - 1.0
    });
    requests
}

/// Returns the sum of the dropped lines that the processes of a server logged at exit.
fn dropped_in_total(log: &str) -> f64 {
    let numbers = log.lines().filter_map(|line| {
        let (before, _) = line.split_once(" access log lines in total: ")?;
        before.rsplit(' ').next()?.parse::<f64>().ok()
    });
    numbers.sum()
}

/// Sends requests of every kind; returns the expected words of their lines.
fn send_requests_of_every_kind(server: &Server) -> Vec<String> {
    let mut expected = Vec::new();
    let mut client = server.connect();
    for (target, status) in [
        ("/api/fibonacci/20", 200),
        ("/api/fibonacci/20?query=1&x", 200),
        ("/api/fibonacci/x", 400),
        ("/api/fibonacci/99999999", 422),
        ("/nothing", 404),
        ("/healthz", 200),
        ("/metrics", 200),
        ("http://host/api/fibonacci/20", 200),
        ("/api/fibonacci/50000", 200), // computed by the compute thread
        ("/api/fibonacci/50000", 200),
    ] {
        assert_eq!(client.get(target).status, status);
        expected.push(format!("GET {target} HTTP/1.1 {status}"));
    }
    client.send(request("HEAD", "/api/fibonacci/20").as_bytes());
    assert_eq!(client.reply_to_head().status, 200);
    expected.push("HEAD /api/fibonacci/20 HTTP/1.1 200".to_owned());
    // The interim response has no line.
    client.send(
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    assert_eq!(client.reply().status, 100);
    client.send(b"x");
    assert_eq!(client.reply().status, 200);
    expected.push("GET /healthz HTTP/1.1 200".to_owned());
    client.send(
        [request("GET", "/1"), request("OPTIONS", "*"), request("GET", "/2")].concat().as_bytes(),
    );
    for (line, status) in [("GET /1", 404), ("OPTIONS *", 204), ("GET /2", 404)] {
        assert_eq!(client.reply().status, status);
        expected.push(format!("{line} HTTP/1.1 {status}"));
    }
    for (stream, line) in [
        ("GET /old HTTP/1.0\r\n\r\n", "GET /old HTTP/1.0 404"),
        ("\r\n\r\nBREW /pot HTTP/1.1\r\n\r\n", "BREW /pot HTTP/1.1 501"),
        ("GET / HTTP/2.0\r\n\r\n", "GET / HTTP/2.0 505"),
        ("GET /no-host HTTP/1.1\r\n\r\n", "GET /no-host HTTP/1.1 400"),
        ("GET /\"quote HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\"quote HTTP/1.1 400"),
        ("GET /cut HTTP/1.1\r\nHos", "GET /cut HTTP/1.1 400"),
        ("\u{16}\u{3}\u{1}", "- \u{16}\u{3}\u{1} - 400"),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", "PUT / HTTP/1.1 413"),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nGET /x HTTP/1.1\r\n",
            "PUT / HTTP/1.1 400",
        ),
    ] {
        server.exchange(stream.as_bytes());
        expected.push(line.to_owned());
    }
    let long = "x".repeat(40_000); // rejected before all of it is received
    server.exchange(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    expected.push(format!("- GET /{}... - 414", long.get(..2048 - "GET /".len()).unwrap()));
    server.exchange(format!("GET /long HTTP/1.1\r\nA: {long}\r\n\r\n").as_bytes());
    expected.push("GET /long HTTP/1.1 431".to_owned());
    let mut slow = server.connect();
    slow.send(b"GET /slow HTTP/1.1\r\n");
    assert_eq!(slow.reply().status, 408);
    expected.push("GET /slow HTTP/1.1 408".to_owned());
    expected
}

#[test]
fn each_response_is_a_line_in_json() {
    let directory = Directory::new();
    let path = directory.path("access.log");
    let flags = ["--head-timeout", "200ms", "--access-log", "json", "--access-log-file", &path];
    let server = Server::start(&flags);
    let expected = send_requests_of_every_kind(&server);
    let lines = await_lines(&path, expected.len());
    assert_eq!(lines.iter().map(|line| words(line)).collect::<Vec<_>>(), expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "the file is not world-readable");

    // The metrics agree. The scrape has counted itself, except for its size and duration.
    let counted = server.counted();
    let count = f64::from(u32::try_from(lines.len()).unwrap());
    assert_eq!((responses(&counted), counted[DROPPED]), (count + 1.0, 0.0));
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |name| lines.iter().map(|line| line[name].as_f64().unwrap()).sum::<f64>();
    assert_eq!(sum("bytes_sent"), counted["fibsrv_response_size_bytes_sum"]);
    let durations =
        counted.iter().filter(|(key, _)| key.starts_with("fibsrv_request_duration_seconds_sum"));
    let duration_us = durations.map(|(_, seconds)| seconds * 1e6).sum::<f64>();
    let truncated_us = duration_us - sum("duration_us");
    assert!((-0.01..count).contains(&truncated_us), "{duration_us} {truncated_us}");
    assert!(
        lines.iter().all(|line| line["remote_addr"] == "127.0.0.1" && line["remote_port"].is_u64())
    );
}

#[test]
fn each_response_is_a_line_in_the_combined_format() {
    let directory = Directory::new();
    let path = directory.path("access.log");
    let flags = ["--head-timeout", "200ms", "--access-log", "combined", "--access-log-file", &path];
    let server = Server::start(&flags);
    let expected = send_requests_of_every_kind(&server);
    let lines = await_lines(&path, expected.len());
    for (line, expected) in lines.iter().zip(&expected) {
        let (request, status) = expected.rsplit_once(' ').unwrap();
        let request = request.trim_start_matches("- ").trim_end_matches(" -");
        let parts: Vec<&str> = line.split('"').collect();
        let [before, found, numbers, "-", " ", "-", " ", "-", end] = parts[..] else {
            panic!("{line}")
        };
        assert!(before.starts_with("127.0.0.1 - - [") && before.ends_with(" +0000] "), "{line}");
        assert_eq!(unescaped(found), request);
        assert!(numbers.starts_with(&format!(" {status} ")), "{line}");
        let (moment, duration) = end.trim_start().split_once(' ').unwrap();
        assert!(moment.parse::<f64>().is_ok() && duration.parse::<u64>().is_ok(), "{line}");
    }
}

#[test]
fn lines_are_written_before_the_server_becomes_idle() {
    let mut server = Server::start(&["--access-log", "json"]);
    for n in 0..20 {
        let target = format!("/api/fibonacci/{n}");
        server.get(&target);
        // Without the line this would time out.
        server.await_log(&format!("\"target\":\"{target}\""));
    }
}

#[test]
fn a_line_has_the_client_address_and_forwarded_for() {
    let mut server = Server::start_on("[::]:0", &["--access-log", "json"]);
    let address = ([127, 0, 0, 1], server.address().port());
    let mut client = Client::connect(address.into());
    client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: forged\r\nuser-agent: \"q\"\\\xe9\r\n\
          Referer: http://a/\r\nX-Forwarded-For: 192.0.2.1, 198.51.100.1\r\n\r\n",
    );
    client.reply();
    let mut line = String::new();
    server.take_log().read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["remote_addr"], "127.0.0.1", "not the IPv4-mapped IPv6 address");
    assert_eq!(line["remote_port"], client.stream().local_addr().unwrap().port());
    assert_eq!(line["forwarded_for"], "192.0.2.1, 198.51.100.1");
    assert_eq!(
        (&line["user_agent"], &line["referer"]),
        (&"\"q\"\\\u{e9}".into(), &"http://a/".into())
    );
}

#[test]
fn a_line_has_the_length_of_the_content_and_the_trace_id() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for format in ["json", "combined"] {
        let mut server = Server::start(&["--access-log", format]);
        let mut log = server.take_log();
        let mut client = server.connect();
        // The last one is a share of the cache, sent without a copy.
        for (method, n, length) in [("GET", 20, 4), ("HEAD", 20, 0), ("GET", 50_000, 10_450)] {
            client.send(
                format!(
                    "{method} /api/fibonacci/{n} HTTP/1.1\r\nHost: a\r\n\
                     traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n"
                )
                .as_bytes(),
            );
            if method == "HEAD" {
                client.reply_to_head()
            } else {
                client.reply()
            };
            let mut line = String::new();
            log.read_line(&mut line).unwrap();
            if format == "json" {
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(
                    (&line["body_bytes_sent"], &line["trace_id"]),
                    (&length.into(), &trace.into())
                );
                let head_bytes = line["bytes_sent"].as_u64().unwrap() - length;
                assert!((100..1000).contains(&head_bytes), "{line}");
            } else {
                assert!(line.contains(&format!(" HTTP/1.1\" 200 {length} \"-\" ")), "{line}");
            }
        }
    }
}

#[test]
fn a_full_pipe_stalls_nothing_and_dropped_lines_are_counted() {
    for workers in [&[][..], &["--workers", "2"]] {
        let mut server = Server::start(&[workers, &["--access-log", "combined"]].concat());
        let mut log = server.take_log();
        let filled = fill(&log.get_ref().as_raw_fd());
        for _ in 0..50 {
            assert_eq!(server.get("/api/fibonacci/20").body, "6765");
        }
        let requests = await_all_dropped(&server);
        let mut discarded = vec![0; filled];
        log.read_exact(&mut discarded).unwrap();
        server.get("/after");
        server.signal("TERM");
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        assert_eq!(server.wait().0.code(), Some(0));
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("] \"GET ")).collect();
        assert!(lines.iter().any(|line| line.contains(" \"GET /after HTTP/1.1\" 404 ")), "{text}");
        // The line of the last scrape may have been written.
        assert!(lines.len() <= 2, "{text}");
        assert_eq!(
            dropped_in_total(&text) + f64::from(u32::try_from(lines.len()).unwrap()),
            requests + 1.0,
            "{text}"
        );
    }
}

#[test]
fn a_full_disk_ends_nothing_and_dropped_lines_are_counted() {
    let mut server = Server::start(&["--access-log", "json", "--access-log-file", "/dev/full"]);
    for _ in 0..5 {
        server.get("/healthz");
    }
    let requests = await_all_dropped(&server);
    server.await_log(" access log lines so far: No space left on device");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!((status.code(), dropped_in_total(&log)), (Some(0), requests));
}

#[test]
fn a_file_size_limit_ends_nothing_and_dropped_lines_are_counted() {
    let directory = Directory::new();
    let path = directory.path("access.log");
    let flags = ["--access-log", "json", "--access-log-file", &path];
    let server = Server::start_with_limit("-f 4", &flags);
    eventually("lines are dropped", || {
        server.get("/healthz");
        server.counted()[DROPPED] > 3.0
    });
    let text = fs::read_to_string(&path).unwrap();
    let (whole, cut) = text.rsplit_once('\n').unwrap();
    assert!(whole.lines().all(|line| words(line).ends_with(" HTTP/1.1 200")), "{text}");
    assert!(text.len().is_multiple_of(512) && cut.len() < 512, "{text}");
}

#[test]
fn rotation_loses_no_line() {
    for (workers, count) in [(&[][..], 1), (&["--workers", "3"], 3)] {
        let directory = Directory::new();
        let (path, old) = (directory.path("access.log"), directory.path("access.log.1"));
        let flags = [workers, &["--access-log", "json", "--access-log-file", &path]].concat();
        let mut server = Server::start(&flags);
        let mut next = 0;
        let mut send = |server: &Server| {
            for _ in 0..50 {
                server.get(&format!("/{next}"));
                next += 1;
            }
        };
        send(&server);
        fs::rename(&path, &old).unwrap();
        send(&server); // logged to the open file, which has been renamed
        await_lines(&old, 100);
        server.signal("USR1");
        send(&server); // concurrently with the signal
        for _ in 0..count {
            server.await_log("reopened the access log");
        }
        let before = fs::read_to_string(&old).unwrap();
        send(&server);
        server.signal("TERM");
        assert_eq!(server.wait().0.code(), Some(0));

        let [before_signal, after] = [&old, &path].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(before, before_signal, "the old file does not grow");
        let mut all: Vec<String> = before.lines().chain(after.lines()).map(words).collect();
        if count > 1 {
            // The order is per worker.
            let number =
                |line: &String| line.split(['/', ' ']).nth(2).unwrap().parse::<u32>().unwrap();
            all.sort_by_key(number);
        }
        let expected: Vec<_> = (0..200).map(|n| format!("GET /{n} HTTP/1.1 404")).collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn without_a_file_the_signal_changes_nothing() {
    for log in ["off", "json"] {
        for workers in [&[][..], &["--workers", "1"]] {
            let mut server = Server::start(&[workers, &["--access-log", log]].concat());
            server.signal("USR1");
            assert_eq!(server.get("/healthz").status, 200);
            server.signal("TERM");
            let (status, log_text) = server.wait();
            assert_eq!(status.code(), Some(0));
            let is_logged = log_text.contains("/healthz");
            assert_eq!(is_logged, log == "json", "{log_text}");
        }
    }
}

#[test]
fn several_processes_write_whole_lines() {
    let directory = Directory::new();
    let path = directory.path("access.log");
    for destination in [&["--access-log-file", &path][..], &[]] {
        let flags = [&["--workers", "3", "--access-log", "json"], destination].concat();
        let mut server = Server::start(&flags);
        // Less than the capacity of a pipe, which is read at the end.
        let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
        let batch = request("GET", &format!("/{}", "x".repeat(200))).repeat(8);
        for client in &mut clients {
            client.send(batch.as_bytes());
        }
        for client in &mut clients {
            for _ in 0..8 {
                assert_eq!(client.reply().status, 404);
            }
        }
        drop(clients); // an idle connection may send another request until the drain grace is over
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0));
        let text = if destination.is_empty() { log } else { fs::read_to_string(&path).unwrap() };
        let lines = text.lines().filter(|line| line.contains("xxx"));
        let lines: Vec<String> = lines.map(words).collect();
        assert!(lines.iter().all(|line| line.len() == "GET / HTTP/1.1 404".len() + 200), "{text}");
        assert_eq!(lines.len(), 10 * 8);
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let directory = Directory::new();
    let pipe = directory.path("pipe");
    mkfifo(&*pipe, Mode::S_IRWXU).unwrap();
    for (path, reason) in
        [("/dev/null/log", "Not a directory"), (&pipe, "No such device or address")]
    {
        for workers in [&[][..], &["--workers", "2"]] {
            let mut server = command();
            server.args([
                "--listen",
                "127.0.0.1:0",
                "--access-log",
                "json",
                "--access-log-file",
                path,
            ]);
            let output = server.args(workers).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let expected = format!("fibsrv: cannot open the access log {path}: {reason}");
            assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
            assert_eq!(output.status.code(), Some(1));
        }
    }
}
