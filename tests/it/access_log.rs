//! The access log: a line for each answer, which neither ends nor stalls the server when it cannot be written.

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

/// A folder for logs, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("fibsrv-access-log-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The lines of a log, when there are so many. A line is written when its answer has been.
fn await_lines(path: &str, count: usize) -> Vec<String> {
    let text = || fs::read_to_string(path).unwrap();
    eventually("the lines are there", || text().lines().count() >= count);
    let lines: Vec<String> = text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// What a line in JSON has to say of a request: method, target, version and status, and - for what is not known.
fn words(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    let word = |name: &str| match line[name].as_str() {
        Some(text) => text.to_owned(),
        None if line[name].is_null() => "-".to_owned(),
        None => line[name].to_string(),
    };
    ["method", "target", "version", "status"].map(word).join(" ")
}

/// The text that one in the combined format stands for.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        format!("{text}{}{rest}", char::from(u8::from_str_radix(code, 16).unwrap()))
    })
}

/// All requests that were answered.
fn answered(counted: &BTreeMap<String, f64>) -> f64 {
    let requests = counted.iter().filter(|(key, _)| key.starts_with("fibsrv_requests_total"));
    requests.map(|(_, count)| count).sum()
}

/// Waits until every line is dropped and counted, but for that of the last scrape; returns the number of requests.
fn await_all_dropped(server: &Server) -> f64 {
    let mut requests = 0.0;
    eventually("all lines are dropped and counted", || {
        let counted = server.counted();
        requests = answered(&counted);
        counted[DROPPED] == requests - 1.0
    });
    requests
}

/// What all processes of a server have said at their ends.
fn dropped_in_all(log: &str) -> f64 {
    let numbers = log.lines().filter_map(|line| {
        let (before, _) = line.split_once(" lines of the access log were dropped in all: ")?;
        before.rsplit(' ').next()?.parse::<f64>().ok()
    });
    numbers.sum()
}

/// Asks in every way that there is; returns what a log has to say of it.
fn ask_in_every_way(server: &Server) -> Vec<String> {
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
        ("/api/fibonacci/50000", 200), // which has to wait for the compute thread
        ("/api/fibonacci/50000", 200),
    ] {
        assert_eq!(client.get(target).status, status);
        expected.push(format!("GET {target} HTTP/1.1 {status}"));
    }
    client.send(request("HEAD", "/api/fibonacci/20").as_bytes());
    assert_eq!(client.reply_to_head().status, 200);
    expected.push("HEAD /api/fibonacci/20 HTTP/1.1 200".to_owned());
    // The interim answer is none of its own.
    client.send(
        b"PUT /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    assert_eq!(client.reply().status, 100);
    client.send(b"x");
    assert_eq!(client.reply().status, 405);
    expected.push("PUT /healthz HTTP/1.1 405".to_owned());
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
    let long = "x".repeat(20_000); // refused before it has all come
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
fn each_answer_is_a_line_in_json() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let flags = ["--head-timeout", "200ms", "--access-log", "json", "--access-log-file", &path];
    let server = Server::start(&flags);
    let expected = ask_in_every_way(&server);
    let lines = await_lines(&path, expected.len());
    assert_eq!(lines.iter().map(|line| words(line)).collect::<Vec<_>>(), expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "who has asked for what is not for everybody to read");

    // The metrics tell the same. A scrape has counted itself by then, but for what it takes.
    let counted = server.counted();
    let count = f64::from(u32::try_from(lines.len()).unwrap());
    assert_eq!((answered(&counted), counted[DROPPED]), (count + 1.0, 0.0));
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |name| lines.iter().map(|line| line[name].as_f64().unwrap()).sum::<f64>();
    assert_eq!(sum("bytes"), counted["fibsrv_response_size_bytes_sum"]);
    let durations =
        counted.iter().filter(|(key, _)| key.starts_with("fibsrv_request_duration_seconds_sum"));
    let duration_us = durations.map(|(_, seconds)| seconds * 1e6).sum::<f64>();
    let cut_off_us = duration_us - sum("duration_us");
    assert!((-0.01..count).contains(&cut_off_us), "{duration_us} {cut_off_us}");
    assert!(
        lines.iter().all(|line| line["remote_addr"] == "127.0.0.1" && line["remote_port"].is_u64())
    );
}

#[test]
fn each_answer_is_a_line_in_the_combined_format() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let flags = ["--head-timeout", "200ms", "--access-log", "combined", "--access-log-file", &path];
    let server = Server::start(&flags);
    let expected = ask_in_every_way(&server);
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
fn a_line_is_there_while_the_server_is_idle() {
    let mut server = Server::start(&["--access-log", "json"]);
    for n in 0..20 {
        let target = format!("/api/fibonacci/{n}");
        server.get(&target);
        // If it were not, this would wait for ever.
        server.await_log(&format!("\"target\":\"{target}\""));
    }
}

#[test]
fn a_line_says_who_has_asked_and_for_whom() {
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
    assert_eq!(line["remote_addr"], "127.0.0.1", "not the IPv6 address that the socket has for it");
    assert_eq!(line["remote_port"], client.stream().local_addr().unwrap().port());
    assert_eq!(line["forwarded_for"], "192.0.2.1, 198.51.100.1");
    assert_eq!(
        (&line["user_agent"], &line["referer"]),
        (&"\"q\"\\\u{e9}".into(), &"http://a/".into())
    );
}

#[test]
fn a_reader_that_does_not_read_stalls_nobody_and_what_it_misses_is_counted() {
    for workers in [&[][..], &["--workers", "2"]] {
        let mut server = Server::start(&[workers, &["--access-log", "combined"]].concat());
        let mut log = server.take_log();
        let filled = fill(&log.get_ref().as_raw_fd());
        for _ in 0..50 {
            assert_eq!(server.get("/api/fibonacci/20").body, "6765");
        }
        let requests = await_all_dropped(&server);
        let mut rubbish = vec![0; filled];
        log.read_exact(&mut rubbish).unwrap();
        server.get("/after");
        server.signal("TERM");
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        assert_eq!(server.wait().0.code(), Some(0));
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("] \"GET ")).collect();
        assert!(lines.iter().any(|line| line.contains(" \"GET /after HTTP/1.1\" 404 ")), "{text}");
        // That of the last scrape may have come in time.
        assert!(lines.len() <= 2, "{text}");
        assert_eq!(
            dropped_in_all(&text) + f64::from(u32::try_from(lines.len()).unwrap()),
            requests + 1.0,
            "{text}"
        );
    }
}

#[test]
fn a_full_disk_ends_nothing_and_what_it_misses_is_counted() {
    let mut server = Server::start(&["--access-log", "json", "--access-log-file", "/dev/full"]);
    for _ in 0..5 {
        server.get("/healthz");
    }
    let requests = await_all_dropped(&server);
    server.await_log(" lines of the access log were dropped so far: No space left on device");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!((status.code(), dropped_in_all(&log)), (Some(0), requests));
}

#[test]
fn a_file_that_may_not_grow_ends_nothing_and_what_it_misses_is_counted() {
    let folder = Folder::new();
    let path = folder.path("access.log");
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
fn rotating_loses_no_line() {
    for (workers, count) in [(&[][..], 1), (&["--workers", "3"], 3)] {
        let folder = Folder::new();
        let (path, old) = (folder.path("access.log"), folder.path("access.log.1"));
        let flags = [workers, &["--access-log", "json", "--access-log-file", &path]].concat();
        let mut server = Server::start(&flags);
        let mut asked = 0;
        let mut ask = |server: &Server| {
            for _ in 0..50 {
                server.get(&format!("/{asked}"));
                asked += 1;
            }
        };
        ask(&server);
        fs::rename(&path, &old).unwrap();
        ask(&server); // which goes to the file that is open, whatever its name
        await_lines(&old, 100);
        server.signal("USR1");
        ask(&server); // meanwhile
        for _ in 0..count {
            server.await_log("is opened anew");
        }
        let before = fs::read_to_string(&old).unwrap();
        ask(&server);
        server.signal("TERM");
        assert_eq!(server.wait().0.code(), Some(0));

        let [before_signal, behind] = [&old, &path].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(before, before_signal, "nothing more comes there");
        let mut all: Vec<String> = before.lines().chain(behind.lines()).map(words).collect();
        if count > 1 {
            // Each worker has its own order.
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
            server.get("/healthz");
            server.signal("TERM");
            assert_eq!(server.wait().0.code(), Some(0));
        }
    }
}

#[test]
fn several_processes_write_whole_lines() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    for destination in [&["--access-log-file", &path][..], &[]] {
        let flags = [&["--workers", "3", "--access-log", "json"], destination].concat();
        let mut server = Server::start(&flags);
        // No more than a pipe holds, which is read when all is over.
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
    let folder = Folder::new();
    let pipe = folder.path("pipe");
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
            let told = String::from_utf8(output.stderr).unwrap();
            let expected = format!("fibsrv: cannot open the access log {path}: {reason}");
            assert!(told.starts_with(&expected) && told.lines().count() == 1, "{told}");
            assert_eq!(output.status.code(), Some(1));
        }
    }
}
