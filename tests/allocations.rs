//! A request allocates nothing, once the buffers of a worker have grown.

#![expect(clippy::expect_used, reason = "test helpers")]

mod offline;

use fibsrv::{
    http::request::limits::Limits,
    logging::access::{AccessLogOptions, LineFormat},
};
use offline::{Offline, session};

/// Checks a request without an access log, and with one in either format.
fn check(request: &str) {
    check_logged(request, None);
    for format in [LineFormat::Combined, LineFormat::Json] {
        let options = AccessLogOptions { format, file: Some("/dev/null".into()) };
        check_logged(request, Some(&options));
    }
}

fn check_logged(request: &str, log: Option<&AccessLogOptions>) {
    let mut offline = Offline::new((100, 100), Limits::DEFAULT, log);
    let mut session = session();
    let mut turn = |offline: &mut Offline| {
        offline.output.clear();
        offline.turn(&mut session, request.as_bytes());
        if let Some(log) = &mut offline.log {
            assert_eq!(log.flush(0), 0, "no line is dropped");
        }
    };
    turn(&mut offline);
    let counted = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            turn(&mut offline);
        }
    });
    assert_eq!(counted.count_total, 0, "{request:?}");
    assert!(!offline.output.is_empty());
}

#[test]
fn nothing_is_allocated_per_request() {
    let fields = "Host: localhost:3000\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\r\n";
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{fields}");
    check(&get("/api/fibonacci/20"));
    check(&get("/api/fibonacci/20").repeat(16));
    check(&get("/api/fibonacci/100").replace("GET", "HEAD"));
    check(&get("/api/fibonacci/x"));
    check(&get("/api/fibonacci/101"));
    check(&get("/nothing"));
    check(&get("/healthz"));
    // A user agent that the log escapes.
    check(&get("/healthz").replace("Mozilla", "\"\u{e9}\\"));
}

#[test]
fn the_measure_sees_an_allocation() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1])));
    assert_eq!(counted.count_total, 1);
}
