//! What the server answers: from a request to a response, and counted.
//!
//! No bytes of the wire, no sockets and no clock: durations and the state of the process are arguments.

use crate::{
    fibonacci::Table,
    http::{
        Method, Reject, Status, etag,
        fields::{self, Condition},
        head::Request,
        response::{Fields, Response},
    },
    metrics::{Build, Format, Handler, Process, Slot, Snapshot, exposition},
    route::{Index, Route, route},
};

const ALLOWED: &str = "GET, HEAD, OPTIONS";
const NOT_FOUND: &[u8] = b"not found\n";
const NOT_ALLOWED: &[u8] = b"the method is not allowed here\n";
const NOT_A_NUMBER: &[u8] = b"n must be one or more decimal digits, as in /api/fibonacci/20\n";

/// An answer, or what is still needed for it.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The response.
    Ready(Response<'a>),
    /// The metrics in this format, by [`App::scrape`], once somebody has looked at the process.
    Scrape(Format),
}

/// The application: the numbers and the counters.
#[derive(Debug)]
pub struct App {
    numbers: Numbers,
    tally: Tally,
    build: Build,
    /// The last exposition.
    exposition: Vec<u8>,
}

impl App {
    /// An application that has answered nothing.
    pub fn new(table: Table, build: Build) -> Self {
        let tally = Tally::default();
        tally.counters.claim();
        Self { numbers: Numbers::new(table), tally, build, exposition: Vec::new() }
    }

    /// What this worker counts. The owner of the sockets counts connections here.
    pub const fn counters(&self) -> &Slot {
        &self.tally.counters
    }

    /// Answers a request whose head is `head`.
    pub fn answer(&mut self, request: &Request, head: &[u8]) -> Answer<'_> {
        self.tally.count_request(request);
        let route = route(request.target, head);
        let (status, fields, body): (_, _, &[u8]) = match (route, request.method) {
            (Route::Fibonacci(index), Method::Get | Method::Head) => {
                self.numbers.answer(index, request, head)
            }
            (Route::Unknown, _) => (Status::NotFound, Fields::Text, NOT_FOUND),
            (_, Method::Options) => (Status::NoContent, Fields::Allow(ALLOWED), b""),
            (Route::Metrics, Method::Get | Method::Head) => {
                self.tally.count_answer(Handler::Metrics, Some(request.method), Status::Ok);
                return Answer::Scrape(Format::negotiate(fields::values(head, "accept")));
            }
            (Route::Healthz, Method::Get | Method::Head) => (Status::Ok, Fields::Text, b"ok"),
            (Route::Readyz, Method::Get | Method::Head) => (Status::Ok, Fields::Text, b"ready"),
            _ => (Status::MethodNotAllowed, Fields::Allow(ALLOWED), NOT_ALLOWED),
        };
        self.tally.count_answer(handler_of(route), Some(request.method), status);
        Answer::Ready(Response { status, fields, body })
    }

    /// Answers what could not become a request.
    pub fn refuse(&mut self, reject: Reject) -> Response<'static> {
        let status = reject.status();
        self.tally.counters.refuse(reject);
        self.tally.count_answer(Handler::None, None, status);
        Response { status, fields: Fields::Text, body: reject.text().as_bytes() }
    }

    /// Renders the metrics. Without `process` those about the process are left out.
    pub fn scrape(&mut self, format: Format, process: Option<&Process>) -> Response<'_> {
        let snapshot = Snapshot::of(std::iter::once(&self.tally.counters));
        self.exposition.clear();
        exposition::render(&mut self.exposition, format, &snapshot, process, &self.build);
        let fields = Fields::Media(format.content_type());
        Response { status: Status::Ok, fields, body: &self.exposition }
    }

    /// Counts the length in bytes of a response that was rendered.
    pub const fn count_response(&mut self, bytes: usize) {
        self.tally.batch.responses += 1;
        self.tally.batch.response_bytes += bytes as u64;
    }

    /// Counts the answers made since the last call, all of which took `duration_ns`. To be called before
    /// they are written, so that whoever has an answer finds it in the next scrape.
    pub fn settle(&mut self, duration_ns: u64) {
        self.tally.settle(duration_ns);
    }
}

/// What answers `/api/fibonacci/:n`.
#[derive(Debug)]
struct Numbers {
    table: Table,
    /// The answer to an n beyond the table, which names the limit.
    beyond: String,
}

impl Numbers {
    fn new(table: Table) -> Self {
        let beyond = format!("n must be at most {}\n", table.last());
        Self { table, beyond }
    }

    fn answer(&self, index: Index, request: &Request, head: &[u8]) -> (Status, Fields, &[u8]) {
        let Index::Number(n) = index else {
            return (Status::BadRequest, Fields::Text, NOT_A_NUMBER);
        };
        let Some(digits) = self.table.get(n) else {
            return (Status::UnprocessableContent, Fields::Text, self.beyond.as_bytes());
        };
        if request.condition == Condition::IfNoneMatch
            && etag::names(fields::values(head, "if-none-match"), n.to_string().as_bytes())
        {
            return (Status::NotModified, Fields::Number(n), b"");
        }
        (Status::Ok, Fields::Number(n), digits)
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

/// The counters, and what has not got there yet.
#[derive(Debug, Default)]
struct Tally {
    counters: Slot,
    batch: Batch,
}

/// Answers that have been made and not yet been timed, and their sizes: gathered here in plain numbers, so
/// that a batch of pipelined requests touches the histogram once.
#[derive(Debug, Default)]
struct Batch {
    answers_by_handler: [u32; Handler::ALL.len()],
    requests: u64,
    request_bytes: u64,
    responses: u64,
    response_bytes: u64,
}

impl Tally {
    const fn count_request(&mut self, request: &Request) {
        self.batch.requests += 1;
        self.batch.request_bytes += request.head_bytes as u64 + request.body_bytes;
    }

    fn count_answer(&mut self, handler: Handler, method: Option<Method>, status: Status) {
        self.counters.requests.add(handler, method, status, 1);
        if let Some(answers) = self.batch.answers_by_handler.get_mut(handler as usize) {
            *answers += 1;
        }
    }

    fn settle(&mut self, duration_ns: u64) {
        let batch = std::mem::take(&mut self.batch);
        for (handler, answers) in Handler::ALL.into_iter().zip(batch.answers_by_handler) {
            if answers > 0 {
                self.counters.request_durations.observe(handler, duration_ns, answers.into());
            }
        }
        self.counters.request_sizes.add(batch.request_bytes, batch.requests);
        self.counters.response_sizes.add(batch.response_bytes, batch.responses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{
        head::{Limits, Parser},
        scan::Scan,
    };

    const LIMITS: Limits =
        Limits { head_bytes: 8192, target_bytes: 4096, fields: 16, body_bytes: 0, pipelined: 8 };
    const BUILD: Build = Build { version: "1", revision: "r", rustc: "c" };

    fn app() -> App {
        App::new(Table::new(100).unwrap(), BUILD)
    }

    /// Status and content of the answer to a request with these fields.
    fn ask(app: &mut App, line: &str, fields: &str) -> (&'static str, String) {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let request =
            Parser::new(LIMITS).parse(head.as_bytes(), &mut Scan::default()).unwrap().unwrap();
        match app.answer(&request, head.as_bytes()) {
            Answer::Ready(response) => {
                (response.status.code(), String::from_utf8(response.body.to_vec()).unwrap())
            }
            Answer::Scrape(format) => ("scrape", format.content_type().to_owned()),
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
        check("GET /api/fibonacci/101", "422", "n must be at most 100\n");
        check("GET /api/fibonacci/99999999999999999999999", "422", "n must be at most 100\n");
        let text = str::from_utf8(NOT_A_NUMBER).unwrap();
        for n in ["", "-1", "1.0", "x", "%D9%A3"] {
            check(&format!("GET /api/fibonacci/{n}"), "400", text);
        }
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
    fn a_number_the_client_has_is_not_sent_again() {
        let ask = |n: u32, tag: &str| {
            let fields = format!("If-None-Match: {tag}\r\n");
            ask(&mut app(), &format!("GET /api/fibonacci/{n}"), &fields).0
        };
        assert_eq!(ask(20, "\"20\""), "304");
        assert_eq!(ask(20, "\"6765\", W/\"20\""), "304");
        assert_eq!(ask(20, "*"), "304");
        assert_eq!(ask(20, "\"21\""), "200");
        assert_eq!(ask(101, "*"), "422");
    }

    #[test]
    fn everything_is_counted_before_it_can_be_written() {
        let mut app = app();
        ask(&mut app, "GET /api/fibonacci/1", "");
        ask(&mut app, "GET /healthz", "");
        app.refuse(Reject::Method);
        app.count_response(500);
        app.settle(3_000);
        let snapshot = Snapshot::of(std::iter::once(app.counters()));
        assert_eq!(snapshot.requests.iter().sum::<u64>(), 3);
        let timed = snapshot.request_durations.map(|totals| totals.count());
        assert_eq!(timed.iter().sum::<u64>(), 3);
        assert_eq!((snapshot.request_sizes.count, snapshot.response_sizes.bytes), (2, 500));
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
