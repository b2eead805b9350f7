//! A connection without its socket: from the bytes read to the bytes written.
//!
//! The scenarios are those of `make load`, so that a difference seen here can be confirmed there. Instructions are
//! counted with `valgrind --tool=callgrind`, see benches/README.md.

#![expect(clippy::expect_used, reason = "a benchmark that cannot continue has failed")]

#[path = "../tests/offline/mod.rs"]
mod offline;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fibsrv::{
    http::request::limits::Limits,
    logging::access::{AccessLogOptions, LineFormat},
};
use offline::{Offline, session};

const WRK: &str = "GET /api/fibonacci/20 HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n";
const BROWSER: &str = "GET /api/fibonacci/20 HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\r\n";

fn connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conn");
    let combined = Some(LineFormat::Combined);
    for (name, request, depth, log) in [
        ("one request", WRK.to_owned(), 1, None),
        ("16 pipelined", WRK.repeat(16), 16, None),
        ("browser's headers", BROWSER.to_owned(), 1, None),
        ("1000th number", WRK.replace("/20", "/1000"), 1, None),
        ("logged", WRK.to_owned(), 1, combined),
        ("logged by 16", WRK.repeat(16), 16, combined),
        ("logged with a browser's", BROWSER.to_owned(), 1, combined),
        ("logged in JSON", WRK.to_owned(), 1, Some(LineFormat::Json)),
    ] {
        let log = log.map(|format| AccessLogOptions { format, file: Some("/dev/null".into()) });
        let mut offline = Offline::new((1_000, 1_000), Limits::DEFAULT, log.as_ref());
        let mut session = session();
        group.throughput(Throughput::Elements(depth));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                offline.output.clear();
                offline.turn(&mut session, request.as_bytes())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, connection);
criterion_main!(benches);
