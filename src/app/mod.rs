//! What the server answers: from a request to a response, and counted.
//!
//! No bytes of the wire, no sockets, no threads and no clock: durations, the state of the process and what
//! was computed elsewhere are arguments.

mod numbers;
mod recorder;
pub mod route;

pub use numbers::{AT_ONCE_MAX_N, Bounds};

use numbers::Numbers;
use recorder::RequestRecorder;

use crate::{
    app::route::{Route, route},
    fibonacci::{Computed, Table},
    http::{
        Method, Reject, Status,
        request::{head::Request, lines},
        response::{Body, Response, ResponseKind},
    },
    metrics::{
        self, Build, Claim, Executor, Format, Handler, Process, Slot, exposition, shared::Coverage,
    },
};

const ALLOWED: &str = "GET, HEAD, OPTIONS";
const NOT_FOUND: &[u8] = b"not found\n";
const NOT_ALLOWED: &[u8] = b"the method is not allowed here\n";

/// An answer, or what is still needed for it.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The response.
    Ready(Response<'a>),
    /// The metrics in this format, by [`App::scrape`], once somebody has looked at the process.
    Scrape(Format),
    /// F(n), which has to be computed first: tell with [`App::finish`] or [`App::abandon`] what came of it,
    /// then ask for the answer with [`App::answer_computed`].
    Compute(u64),
}

/// The application: the numbers and the counters.
#[derive(Debug)]
pub struct App {
    numbers: Numbers,
    recorder: RequestRecorder,
    build: Build,
    /// The last exposition.
    exposition: Vec<u8>,
    readiness: Readiness,
}

/// What `/readyz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Draining,
}

impl App {
    /// An application that has answered nothing, and counts for itself.
    pub fn new(table: Table, bounds: Bounds, build: Build) -> Self {
        Self::with_counters(table, bounds, build, Claim::private())
    }

    /// An application that has answered nothing, and counts here.
    pub fn with_counters(table: Table, bounds: Bounds, build: Build, counters: Claim) -> Self {
        let recorder = RequestRecorder::new(counters);
        Self {
            numbers: Numbers::new(table, bounds),
            recorder,
            build,
            exposition: Vec::new(),
            readiness: Readiness::Ready,
        }
    }

    /// Lets `/readyz` say from now on that no new work is wanted.
    pub const fn set_unready(&mut self) {
        self.readiness = Readiness::Draining;
    }

    /// Sets whether the metrics include those of all processes on the port.
    pub fn set_coverage(&self, coverage: Coverage) {
        self.recorder.counters.set_coverage(coverage);
    }

    /// What this worker counts. The owner of the sockets counts connections here.
    pub fn counters(&self) -> &Slot {
        &self.recorder.counters
    }

    /// Answers a request whose head is `head`.
    pub fn answer(&mut self, request: &Request, head: &[u8]) -> Answer<'_> {
        let route = route(request.target, head);
        let (status, fields, body) = match (route, request.method) {
            (Route::Fibonacci(index), Method::Get | Method::Head) => {
                match self.numbers.answer(index, request, head, &self.recorder.counters) {
                    Ok(parts) => parts,
                    Err(n) => return Answer::Compute(n),
                }
            }
            (Route::Unknown, _) => (Status::NotFound, ResponseKind::Text, Body::Bytes(NOT_FOUND)),
            (_, Method::Options) => {
                (Status::NoContent, ResponseKind::Allow(ALLOWED), Body::Bytes(b""))
            }
            (Route::Metrics, Method::Get | Method::Head) => {
                self.recorder.count(request, Handler::Metrics, Status::Ok);
                return Answer::Scrape(Format::negotiate(lines::values(head, "accept")));
            }
            (Route::Healthz, Method::Get | Method::Head) => {
                (Status::Ok, ResponseKind::Text, Body::Bytes(b"ok"))
            }
            (Route::Readyz, Method::Get | Method::Head) => match self.readiness {
                Readiness::Ready => (Status::Ok, ResponseKind::Text, Body::Bytes(b"ready")),
                Readiness::Draining => {
                    (Status::ServiceUnavailable, ResponseKind::Text, Body::Bytes(b"draining\n"))
                }
            },
            _ => (Status::MethodNotAllowed, ResponseKind::Allow(ALLOWED), Body::Bytes(NOT_ALLOWED)),
        };
        self.recorder.count(request, handler_of(route), status);
        Answer::Ready(Response { status, fields, body })
    }

    /// Answers what could not become a request.
    pub fn reject(&mut self, reject: Reject) -> Response<'static> {
        let status = reject.status();
        self.recorder.counters.add(metrics::REQUESTS_REJECTED.with(reject), 1);
        self.recorder.count_answer(Handler::None, None, status);
        Response { status, fields: ResponseKind::Text, body: Body::Bytes(reject.text().as_bytes()) }
    }

    /// Answers a request that had to wait for F(n): with it, or with 503 if it could not be computed.
    pub fn answer_computed(&mut self, request: &Request, n: u64) -> Response<'_> {
        let (status, fields, body) = self.numbers.beyond.kept(n);
        self.recorder.count(request, Handler::Fibonacci, status);
        Response { status, fields, body }
    }

    /// Takes in F(n), which has been computed in so many nanoseconds.
    pub fn finish(&mut self, n: u64, computed: &Computed, duration_ns: u64) {
        let counters = &self.recorder.counters;
        counters.add(metrics::COMPUTATIONS.with(Executor::Thread), 1);
        counters.observe(metrics::COMPUTATION_DURATION, duration_ns, 1);
        self.numbers.beyond.finish(n, computed, counters);
    }

    /// Takes in that F(n) will not be computed after all, because nobody waits for it any more.
    pub fn abandon(&mut self, n: u64) {
        self.numbers.beyond.abandon(n, &self.recorder.counters);
    }

    /// Takes in what the operating system counts for this process, for whoever is asked for the metrics.
    pub fn tell_process(&mut self, process: &Process) {
        self.recorder.counters.record_process(process);
    }

    /// Renders the metrics, of all workers that share them. Without `process` what this one has told about its
    /// process last must do.
    pub fn scrape(&mut self, format: Format, process: Option<&Process>) -> Response<'_> {
        if let Some(process) = process {
            self.tell_process(process);
        }
        let snapshot = self.recorder.counters.snapshot();
        self.exposition.clear();
        exposition::render(&mut self.exposition, format, &snapshot, &self.build);
        let fields = ResponseKind::Media(format.content_type());
        Response { status: Status::Ok, fields, body: Body::Bytes(&self.exposition) }
    }

    /// Counts the length in bytes of a response that was rendered.
    pub const fn count_response(&mut self, bytes: usize) {
        self.recorder.count_response(bytes);
    }

    /// Counts the answers made since the last call, all of which took `duration_ns`. To be called before
    /// they are written, so that whoever has an answer finds it in the next scrape.
    pub fn settle(&mut self, duration_ns: u64) {
        self.recorder.settle(duration_ns);
    }
}

/// Whom the metrics name for a route.
const fn handler_of(route: Route) -> Handler {
    match route {
        Route::Fibonacci(_) => Handler::Fibonacci,
        Route::Metrics => Handler::Metrics,
        Route::Healthz => Handler::Healthz,
        Route::Readyz => Handler::Readyz,
        Route::Server | Route::Tunnel | Route::Unknown => Handler::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fibonacci::Calculator,
        http::request::{head::Parser, limits::Limits, scan::HeadScanner},
        metrics::BUCKETS,
    };

    const LIMITS: Limits =
        Limits { head_bytes: 8192, target_bytes: 4096, fields: 16, body_bytes: 0, pipelined: 8 };
    const BUILD: Build = Build { version: "1", revision: "r", rustc: "c" };
    const BOUNDS: Bounds = Bounds { max_n: 1_000_000, under_way: 2, bytes: 300_000 };

    fn app() -> App {
        App::new(Table::new(100).unwrap(), BOUNDS, BUILD)
    }

    /// Status and content of the answer to a request with these fields.
    fn ask(app: &mut App, line: &str, fields: &str) -> (&'static str, String) {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let request = Parser::new(LIMITS)
            .parse(head.as_bytes(), &mut HeadScanner::default())
            .unwrap()
            .unwrap();
        match app.answer(&request, head.as_bytes()) {
            Answer::Ready(response) => (response.status.code(), text(response.body)),
            Answer::Compute(n) => ("compute", n.to_string()),
            Answer::Scrape(format) => ("scrape", format.content_type().to_owned()),
        }
    }

    fn text(body: Body<'_>) -> String {
        match body {
            Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Shared(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Length(length) => format!("{length} bytes"),
        }
    }

    fn check(line: &str, status: &str, body: &str) {
        assert_eq!(ask(&mut app(), line, ""), (status, body.to_owned()), "{line}");
    }

    #[test]
    fn numbers() {
        check("GET /api/fibonacci/0", "200", "0");
        check("GET /api/fibonacci/20", "200", "6765");
        check("HEAD /api/fibonacci/0100", "200", "354224848179261915075");
        let beyond = "n must be at most 1000000\n";
        check("GET /api/fibonacci/1000001", "422", beyond);
        check("HEAD /api/fibonacci/99999999999999999999999", "422", beyond);
        let text = "n must be one or more decimal digits, as in /api/fibonacci/20\n";
        for n in ["", "-1", "1.0", "x", "%D9%A3"] {
            check(&format!("GET /api/fibonacci/{n}"), "400", text);
        }
    }

    #[test]
    fn numbers_beyond_the_table() {
        check("GET /api/fibonacci/101", "200", "573147844013817084101");
        check("GET /api/fibonacci/20001", "compute", "20001");
        check("HEAD /api/fibonacci/20001", "200", "4180 bytes");
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut app = app();
        let line = |n: u64| format!("GET /api/fibonacci/{n}");
        for n in [100_000, 200_000, 100_000] {
            assert_eq!(ask(&mut app, &line(n), "").0, "compute");
        }
        assert_eq!(ask(&mut app, &line(300_000), "").0, "503");
        app.abandon(200_000);
        assert_eq!(ask(&mut app, &line(900_000), "").0, "compute");
        app.abandon(900_000);
        let taken = ask(&mut app, &line(1_000_000), "");
        assert_eq!(taken.0, "compute", "a number under way takes memory, and this fits beside it");
        let snapshot = app.recorder.counters.snapshot();
        assert_eq!(snapshot.get(metrics::COMPUTE_QUEUE_LENGTH), 2);
        assert_eq!(snapshot.values(metrics::COMPUTATIONS_REJECTED), [1, 0, 0]);
    }

    #[test]
    fn whoever_has_waited_gets_the_number_or_is_told_to_come_again() {
        let mut app = app();
        let head = "GET /api/fibonacci/50000 HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = Parser::new(LIMITS)
            .parse(head.as_bytes(), &mut HeadScanner::default())
            .unwrap()
            .unwrap();
        assert!(matches!(app.answer(&request, head.as_bytes()), Answer::Compute(50_000)));
        app.finish(50_000, &Calculator::default().compute(50_000), 7);
        let response = app.answer_computed(&request, 50_000);
        assert_eq!((response.status, response.body.len()), (Status::Ok, 10_450));
        assert!(matches!(app.answer(&request, head.as_bytes()), Answer::Ready(_)), "it is kept");
        let response = app.answer_computed(&request, 60_000);
        assert_eq!(
            (response.status, response.fields),
            (Status::ServiceUnavailable, ResponseKind::Retry(1))
        );
        let snapshot = app.recorder.counters.snapshot();
        assert_eq!(snapshot.values(metrics::COMPUTATIONS), [1, 0]);
        assert_eq!(snapshot.values(metrics::COMPUTATION_DURATION).last(), Some(&7));
        let cache = [metrics::CACHE_HITS, metrics::CACHE_MISSES];
        assert_eq!(cache.map(|counter| snapshot.get(counter)), [1, 1]);
    }

    #[test]
    fn other_resources_and_methods() {
        check("GET /healthz", "200", "ok");
        check("GET /readyz", "200", "ready");
        check("GET /metrics", "scrape", Format::Text.content_type());
        check("GET /nothing", "404", "not found\n");
        check("DELETE /nothing", "404", "not found\n");
        check("OPTIONS *", "204", "");
        check("OPTIONS /healthz", "204", "");
        check("POST /api/fibonacci/1", "405", "the method is not allowed here\n");
        check("CONNECT a:1", "405", "the method is not allowed here\n");
    }

    #[test]
    fn readiness_fails_before_all_else() {
        let mut app = app();
        app.set_unready();
        assert_eq!(ask(&mut app, "GET /readyz", ""), ("503", "draining\n".to_owned()));
        assert_eq!(ask(&mut app, "GET /healthz", "").0, "200");
        assert_eq!(ask(&mut app, "GET /api/fibonacci/20", "").0, "200");
    }

    #[test]
    fn a_number_the_client_has_is_not_sent_again() {
        let ask = |n: u32, tag: &str| {
            let fields = format!("If-None-Match: {tag}\r\n");
            ask(&mut app(), &format!("GET /api/fibonacci/{n}"), &fields).0
        };
        assert_eq!(ask(20, "\"20\""), "304");
        assert_eq!(ask(20, "\"6765\", W/\"20\""), "304");
        assert_eq!(ask(20, "*"), "304");
        assert_eq!(ask(20, "\"21\""), "200");
        assert_eq!(ask(1_000_000, "*"), "304", "which needs no computation");
        assert_eq!(ask(1_000_001, "*"), "422");
    }

    #[test]
    fn a_number_that_the_client_wants_to_be_another_is_not_sent() {
        let ask = |fields: &str| ask(&mut app(), "GET /api/fibonacci/20", fields).0;
        assert_eq!(ask("If-Match: \"20\"\r\n"), "200");
        assert_eq!(ask("If-Match: *\r\n"), "200");
        assert_eq!(ask("If-Match: \"21\", W/\"20\"\r\n"), "412");
        assert_eq!(ask("If-Match: \"21\"\r\nIf-None-Match: \"20\"\r\n"), "412");
        assert_eq!(ask("If-Match: \"20\"\r\nIf-None-Match: \"20\"\r\n"), "304");
    }

    #[test]
    fn everything_is_counted_before_it_can_be_written() {
        let mut app = app();
        ask(&mut app, "GET /api/fibonacci/1", "");
        ask(&mut app, "GET /healthz", "");
        app.reject(Reject::UnknownMethod);
        app.count_response(500);
        app.settle(3_000);
        let snapshot = app.recorder.counters.snapshot();
        assert_eq!(snapshot.values(metrics::REQUESTS).iter().sum::<u64>(), 3);
        let timed = snapshot.values(metrics::REQUEST_DURATION).chunks(BUCKETS.len() + 1);
        assert_eq!(timed.flat_map(|cells| &cells[..BUCKETS.len()]).sum::<u64>(), 3);
        assert_eq!(snapshot.values(metrics::REQUEST_SIZE)[1], 2);
        assert_eq!(snapshot.values(metrics::RESPONSE_SIZE)[0], 500);
    }

    #[test]
    fn every_answer_has_a_series_of_its_own() {
        // A combination without one stops a debug build.
        let mut app = app();
        for method in Method::ALL.map(Method::as_str) {
            for target in
                ["/", "/healthz", "/readyz", "/metrics", "/api/fibonacci/1", "/api/fibonacci/x"]
            {
                let target = if method == "CONNECT" { "a:1" } else { target };
                ask(&mut app, &format!("{method} {target}"), "");
            }
        }
    }
}
