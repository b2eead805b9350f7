//! Requests and responses of the whole application, driven through sessions.

use super::*;
use crate::{
    fibonacci::Calculator,
    http::{Method, Reject, conn::Io, preamble::Preamble},
    logging::access,
    metrics::{self, BUCKETS, Claim},
};

const LIMITS: Limits =
    Limits { head_bytes: 8192, target_bytes: 4096, fields: 16, body_bytes: 0, pipelined: 8 };
const BUILD: Build = Build { version: "1", revision: "r", rustc: "c" };
const NUMBERS: NumberLimits = NumberLimits { max_n: 1_000_000, max_in_flight: 2, bytes: 300_000 };
static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");
const ID: ConnectionId = ConnectionId { key: 0, generation: 1 };

fn app_with(log: Option<access::LineFormat>) -> App {
    let settings = Settings { limits: LIMITS, numbers: NUMBERS, build: BUILD };
    App::new(ResponseTable::new(100).unwrap(), settings, Recorder::new(Claim::private(), log))
}

fn app() -> App {
    app_with(None)
}

fn now(now_ns: u64) -> Timestamp<'static> {
    Timestamp { now_ns, unix_ms: 0, preamble: &PREAMBLE }
}

fn session(key: usize) -> Session {
    Session::new(ConnectionId { key, ..ID }, None)
}

/// Has a session receive this request; returns the I/O that comes next.
fn receive(app: &mut App, session: &mut Session, line: &str, fields: &str) -> Io {
    let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    session.conn_mut().receive(head.as_bytes());
    app.advance(session, &now(0))
}

/// What a session would write.
fn output(session: &Session) -> String {
    String::from_utf8(session.conn().outgoing().concat()).unwrap()
}

/// The status code of the response to this request, and its content; of HEAD, the length of the content.
fn send(app: &mut App, line: &str, fields: &str) -> (String, String) {
    let mut session = session(0);
    if receive(app, &mut session, line, fields) == Io::Wait {
        return ("pending".to_owned(), String::new());
    }
    let output = output(&session);
    let (head, body) = output.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    let length = head.split_once("Content-Length: ").map(|(_, length)| length);
    let is_head = line.starts_with("HEAD ");
    (status, if is_head { length.unwrap().to_owned() } else { body.to_owned() })
}

fn check(line: &str, status: &str, body: &str) {
    assert_eq!(send(&mut app(), line, ""), (status.to_owned(), body.to_owned()), "{line}");
}

fn status(app: &mut App, line: &str, fields: &str) -> String {
    send(app, line, fields).0
}

#[test]
fn numbers() {
    check("GET /api/fibonacci/0", "200", "0");
    check("GET /api/fibonacci/20", "200", "6765");
    check("GET /api/fibonacci/0100", "200", "354224848179261915075");
    check("HEAD /api/fibonacci/0100", "200", "21");
    let beyond = "n must be at most 1000000\n";
    check("GET /api/fibonacci/1000001", "422", beyond);
    check("GET /api/fibonacci/99999999999999999999999", "422", beyond);
    check("HEAD /api/fibonacci/99999999999999999999999", "422", "26");
    let text = "n must be one or more decimal digits, as in /api/fibonacci/20\n";
    for n in ["", "-1", "1.0", "x", "%D9%A3"] {
        check(&format!("GET /api/fibonacci/{n}"), "400", text);
    }
}

#[test]
fn numbers_beyond_the_table() {
    check("GET /api/fibonacci/101", "200", "573147844013817084101");
    check("GET /api/fibonacci/20001", "pending", "");
    check("HEAD /api/fibonacci/20001", "200", "4180");
}

#[test]
fn computations_in_flight_are_bounded() {
    let mut app = app();
    let line = |n: u64| format!("GET /api/fibonacci/{n}");
    let mut waiting: Vec<Session> = (0..3).map(session).collect();
    for (session, n) in waiting.iter_mut().zip([100_000, 200_000, 100_000]) {
        assert_eq!(receive(&mut app, session, &line(n), ""), Io::Wait);
    }
    assert_eq!(status(&mut app, &line(300_000), ""), "503");
    app.end(&waiting[1]);
    assert_eq!(receive(&mut app, &mut session(3), &line(900_000), ""), Io::Wait);
    let snapshot = app.recorder.counters().snapshot();
    assert_eq!(snapshot.get(metrics::COMPUTE_QUEUE_LENGTH), 2);
    assert_eq!(snapshot.values(metrics::COMPUTATIONS_REJECTED), [1, 0, 0]);
}

#[test]
fn a_waiting_request_gets_the_number() {
    let mut app = app();
    let line = "GET /api/fibonacci/50000";
    let mut session = session(7);
    assert_eq!(receive(&mut app, &mut session, line, ""), Io::Wait);
    assert_eq!(app.advance(&mut session, &now(1)), Io::Wait, "nothing has changed");
    let job = app.next_job().unwrap();
    let completed = Completed { duration_ns: 7, ..job.run(&mut Calculator::default()) };
    assert_eq!(app.complete(&completed), [session.id()]);
    app.resume(&mut session, Some(&completed), &now(2_000), 500);
    assert_eq!(app.advance(&mut session, &now(2_000)), Io::Write);
    assert!(output(&session).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(output(&session).as_bytes().ends_with(&completed.content));
    assert_eq!(status(&mut app, line, ""), "200", "it is cached");
    let snapshot = app.recorder.counters().snapshot();
    let durations = snapshot.values(metrics::REQUEST_DURATION.with(metrics::Handler::Fibonacci));
    assert_eq!(durations.last(), Some(&2_500), "since the request");
    assert_eq!(snapshot.values(metrics::COMPUTATIONS), [1, 0]);
    assert_eq!(snapshot.values(metrics::COMPUTATION_DURATION).last(), Some(&7));
    let cache = [metrics::CACHE_HITS, metrics::CACHE_MISSES];
    assert_eq!(cache.map(|counter| snapshot.get(counter)), [1, 1]);
}

#[test]
fn a_waiting_request_gets_503_if_the_number_cannot_be_computed() {
    let mut app = app();
    let mut session = session(7);
    receive(&mut app, &mut session, "GET /api/fibonacci/50000", "");
    let job = app.next_job().unwrap();
    assert_eq!(app.fail(job.key()), [session.id()]);
    app.resume(&mut session, None, &now(0), 0);
    assert_eq!(app.advance(&mut session, &now(0)), Io::Write);
    let text = output(&session);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
    let snapshot = app.recorder.counters().snapshot();
    assert_eq!(snapshot.values(metrics::COMPUTATIONS_REJECTED), [0, 0, 1]);
}

#[test]
fn a_waiting_request_gets_the_digits_if_they_cannot_be_coded() {
    let mut app = app();
    let mut session = session(7);
    receive(&mut app, &mut session, "GET /api/fibonacci/150000", "Accept-Encoding: gzip\r\n");
    let completed = app.next_job().unwrap().run(&mut Calculator::default());
    assert_eq!(app.complete(&completed), [session.id()]);
    app.resume(&mut session, Some(&completed), &now(0), 0);
    assert_eq!(app.advance(&mut session, &now(0)), Io::Wait, "for the coding");
    let job = app.next_job().unwrap();
    assert_eq!(app.fail(job.key()), [session.id()]);
    app.resume(&mut session, None, &now(0), 0);
    assert_eq!(app.advance(&mut session, &now(0)), Io::Write);
    let text = output(&session);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\r\nETag: \"150000\"\r\n"));
    assert!(text.as_bytes().ends_with(&completed.content) && !text.contains("Content-Encoding"));
}

#[test]
fn a_client_that_disconnects_while_its_number_is_coded_cancels_the_coding() {
    let mut app = app();
    let mut session = session(7);
    receive(&mut app, &mut session, "GET /api/fibonacci/150000", "Accept-Encoding: gzip\r\n");
    let completed = app.next_job().unwrap().run(&mut Calculator::default());
    app.complete(&completed);
    app.resume(&mut session, Some(&completed), &now(0), 0);
    app.end(&session);
    assert_eq!(app.next_job(), None);
}

#[test]
fn a_number_is_not_sent_on_a_connection_that_has_timed_out() {
    let mut app = app();
    let mut session = session(7);
    receive(&mut app, &mut session, "GET /api/fibonacci/50000", "");
    session.conn_mut().expire();
    app.resume(&mut session, None, &now(0), 0);
    assert_eq!(app.advance(&mut session, &now(0)), Io::Close);
}

#[test]
fn other_resources_and_methods() {
    check("GET /healthz", "200", "ok");
    check("GET /readyz", "200", "ready");
    check("GET /nothing", "404", "not found\n");
    check("GET /robots.txt", "200", "User-agent: *\nDisallow: /api/\n");
    check("POST /", "405", "the method is not allowed here\n");
    check("DELETE /nothing", "404", "not found\n");
    check("OPTIONS *", "204", "");
    check("OPTIONS /healthz", "204", "");
    check("POST /api/fibonacci/1", "405", "the method is not allowed here\n");
    check("CONNECT a:1", "405", "the method is not allowed here\n");
}

#[test]
fn a_scrape_counts_itself_once() {
    let mut app = app();
    let mut session = session(0);
    for expected in 1..4 {
        assert_eq!(receive(&mut app, &mut session, "GET /metrics", ""), Io::Write);
        let text = output(&session);
        let sample = format!(
            "\nfibsrv_requests_total{{handler=\"metrics\",method=\"GET\",code=\"200\"}} {expected}\n"
        );
        assert!(text.contains(&sample), "{text}");
        assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
        session.conn_mut().advance_written(text.len());
    }
}

#[test]
fn a_scrape_reports_the_process_as_recorded_last() {
    let mut app = app();
    app.set_process(&Process { open_fds: 17, start_time_ns: 1, ..Process::default() });
    let (_, text) = send(&mut app, "GET /metrics", "");
    assert!(text.contains("\nprocess_open_fds 17\n"), "{text}");
}

#[test]
fn draining_fails_readiness_and_nothing_else() {
    let mut app = app();
    app.set_unready();
    assert_eq!(send(&mut app, "GET /readyz", ""), ("503".to_owned(), "draining\n".to_owned()));
    assert_eq!(status(&mut app, "GET /healthz", ""), "200");
    assert_eq!(status(&mut app, "GET /api/fibonacci/20", ""), "200");
}

#[test]
fn if_none_match() {
    let status = |n: u32, tag: &str| {
        let fields = format!("If-None-Match: {tag}\r\n");
        status(&mut app(), &format!("GET /api/fibonacci/{n}"), &fields)
    };
    assert_eq!(status(20, "\"20\""), "304");
    assert_eq!(status(20, "\"6765\", W/\"20\""), "304");
    assert_eq!(status(20, "*"), "304");
    assert_eq!(status(20, "\"21\""), "200");
    assert_eq!(status(1_000_000, "*"), "304", "which needs no computation");
    assert_eq!(status(1_000_001, "*"), "422");
}

#[test]
fn if_match_comes_first() {
    let status = |fields: &str| status(&mut app(), "GET /api/fibonacci/20", fields);
    assert_eq!(status("If-Match: \"20\"\r\n"), "200");
    assert_eq!(status("If-Match: *\r\n"), "200");
    assert_eq!(status("If-Match: \"21\", W/\"20\"\r\n"), "412");
    assert_eq!(status("If-Match: \"21\"\r\nIf-None-Match: \"20\"\r\n"), "412");
    assert_eq!(status("If-Match: \"20\"\r\nIf-None-Match: \"20\"\r\n"), "304");
}

#[test]
fn each_response_is_counted_before_it_is_written() {
    let mut app = app();
    let mut bytes = 0;
    for line in ["GET /api/fibonacci/1", "GET /healthz", "BREW /"] {
        let mut session = session(0);
        assert_eq!(receive(&mut app, &mut session, line, ""), Io::Write);
        bytes += output(&session).len() as u64;
    }
    app.end_batch(3_000);
    let snapshot = app.recorder.counters().snapshot();
    assert_eq!(snapshot.values(metrics::REQUESTS).iter().sum::<u64>(), 3);
    assert_eq!(snapshot.get(metrics::REQUESTS_REJECTED.with(Reject::UnknownMethod)), 1);
    let timed = snapshot.values(metrics::REQUEST_DURATION).chunks(BUCKETS.len() + 1);
    assert_eq!(timed.flat_map(|cells| &cells[..BUCKETS.len()]).sum::<u64>(), 3);
    assert_eq!(snapshot.values(metrics::REQUEST_SIZE)[1], 2);
    assert_eq!(snapshot.values(metrics::RESPONSE_SIZE), [bytes, 3]);
}

#[test]
fn log_lines_are_complete_when_the_batch_ends() {
    let mut app = app_with(Some(access::LineFormat::Combined));
    assert_eq!(status(&mut app, "GET /healthz", ""), "200");
    assert_eq!(status(&mut app, "BREW /", ""), "501");
    assert!(app.log_lines().unwrap().is_empty());
    app.end_batch(5_000);
    let text = String::from_utf8(std::mem::take(app.log_lines().unwrap())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("\"GET /healthz HTTP/1.1\" 200 ") && lines[0].ends_with(" 5"),
        "{text}"
    );
    assert!(lines[1].contains("\"BREW / HTTP/1.1\" 501 ") && lines[1].ends_with(" 5"), "{text}");
}

#[test]
fn every_response_has_a_series_of_its_own() {
    // A combination without one stops a debug build.
    let mut app = app();
    for method in Method::ALL.map(Method::as_str) {
        for target in [
            "/",
            "/openapi.json",
            "/robots.txt",
            "/nothing",
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/fibonacci/1",
            "/api/fibonacci/x",
        ] {
            let target = if method == "CONNECT" { "a:1" } else { target };
            let mut session = session(0);
            receive(&mut app, &mut session, &format!("{method} {target}"), "");
        }
    }
}
