//! Scraped totals compared with the counts of the clients, whichever process is scraped: exact at rest, never
//! less than the responses received, never more than the requests sent, never decreasing.

use crate::{
    client::{Client, Pace, RequestError},
    experiment::await_responses,
    harness::report::{self, quantile},
    load::{LOCAL_ADDRESS, Load, request, request_once},
    options::Options,
    rolling::Processes,
    stats::Stats,
};
use std::{
    io::{self, Error},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const PROCESSES: usize = 3;
/// Requests before each scrape at rest.
const REQUESTS: usize = 7;
/// Responses between two restarts.
const RESPONSES: u64 = 2000;
/// Pause between scrapes under load, so that scrapes are a small part of the load.
const PAUSE: Duration = Duration::from_millis(2);
const GET_METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const RESPONSES_TOTAL: &str =
    r#"fibsrv_requests_total{handler="fibonacci",method="GET",code="200"} "#;

/// Scrapes at rest, then under load with restarts, then under load with kills.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let mut processes = Processes::start_all(options, options.processes.unwrap_or(PROCESSES))?;
    let address = processes.address()?;
    report::head(&[
        "scrapes",
        "count",
        "failed requests",
        "less than received",
        "more than sent",
        "decreasing",
        "time ms, median / max",
        "final total",
        "requests that may be uncounted",
    ]);
    let mut wrong = at_rest(address, options.scrapes)?;
    let total = total(&scrape(address)?)?;
    let (known, more) = under_load(&mut processes, options, total, "restarts", |processes| {
        processes.start()?;
        processes.stop()
    })?;
    wrong += more;
    let (_, more) = under_load(&mut processes, options, known, "kills", |processes| {
        processes.oldest()?.kill()?;
        processes.start()
    })?;
    wrong += more;
    processes.finish()?;
    if wrong > 0 { Err(Error::other(format!("{wrong} scrapes are wrong"))) } else { Ok(()) }
}

fn at_rest(address: SocketAddr, count: usize) -> io::Result<usize> {
    let mut scrapes = Scrapes::default();
    let mut known = 0;
    for _ in 0..count {
        for _ in 0..REQUESTS {
            let mut client = Client::new(address, LOCAL_ADDRESS, None)?;
            request_once(&mut client, &request("Connection: close\r\n", 0))?;
            known += 1;
        }
        scrapes.scrape(address, || known, || known)?;
    }
    scrapes.report("at rest", 0, &(known..=known));
    Ok(scrapes.wrong())
}

/// Scrapes while clients send requests and processes are replaced. Returns the total afterwards and the number
/// of wrong scrapes.
fn under_load<'options>(
    processes: &mut Processes<'options>,
    options: &Options,
    base: u64,
    what: &str,
    mut change: impl FnMut(&mut Processes<'options>) -> io::Result<()>,
) -> io::Result<(u64, usize)> {
    let address = processes.address()?;
    let load = Load::start(address, &options.mix());
    let stats = Arc::clone(&load.stats);
    let reader = thread::spawn({
        let stats = Arc::clone(&stats);
        move || scrape_until_stopped(address, &stats, base)
    });
    for _ in 0..options.kills {
        await_responses(&stats, stats.responses() + RESPONSES)?;
        processes.check_running()?;
        change(processes)?;
    }
    await_responses(&stats, stats.responses() + RESPONSES)?;
    let stats = load.finish()?;
    let mut scrapes = reader.join().map_err(|_| Error::other("the scraper has panicked"))??;
    // Failed requests may or may not have been counted.
    let failed = stats.failures(<[_]>::len) as u64;
    let bounds = base + stats.responses()..=base + stats.responses() + failed;
    for _ in 0..REQUESTS {
        scrapes.scrape(address, || *bounds.start(), || *bounds.end())?;
    }
    let name = format!("under load, {} {what}", options.kills);
    scrapes.report(&name, failed, &bounds);
    Ok((scrapes.last, scrapes.wrong()))
}

fn scrape_until_stopped(address: SocketAddr, stats: &Stats, base: u64) -> io::Result<Scrapes> {
    let mut scrapes = Scrapes::default();
    while !stats.is_stopped() {
        scrapes.scrape(address, || base + stats.responses(), || base + stats.sent())?;
        thread::sleep(PAUSE);
    }
    Ok(scrapes)
}

/// Results of the scrapes.
#[derive(Debug, Default)]
struct Scrapes {
    /// The total of the last scrape.
    last: u64,
    below: usize,
    above: usize,
    decreasing: usize,
    times: Vec<Duration>,
}

impl Scrapes {
    /// Scrapes; the total must be at least `least` before and at most `most` afterwards. A scrape that fails
    /// because its process was killed is ignored.
    fn scrape(
        &mut self,
        address: SocketAddr,
        least: impl Fn() -> u64,
        most: impl Fn() -> u64,
    ) -> io::Result<()> {
        let least = least();
        let start = Instant::now();
        let Ok(text) = request_metrics(Client::new(address, LOCAL_ADDRESS, None)?) else {
            return Ok(());
        };
        self.times.push(start.elapsed());
        let total = total(&text)?;
        self.below += usize::from(total < least);
        self.above += usize::from(total > most());
        self.decreasing += usize::from(total < self.last);
        self.last = total;
        Ok(())
    }

    const fn wrong(&self) -> usize {
        self.below + self.above + self.decreasing
    }

    fn report(&mut self, name: &str, failed: u64, bounds: &RangeInclusive<u64>) {
        let median = quantile(&mut self.times, 0.5);
        report::row(&[
            name.to_owned(),
            self.times.len().to_string(),
            failed.to_string(),
            self.below.to_string(),
            self.above.to_string(),
            self.decreasing.to_string(),
            format!("{median} / {}", quantile(&mut self.times, 1.0)),
            self.last.to_string(),
            (bounds.end() - bounds.start()).to_string(),
        ]);
    }
}

/// Scrapes on a new connection; returns the text.
pub(crate) fn scrape(address: SocketAddr) -> io::Result<String> {
    Ok(request_metrics(Client::new(address, LOCAL_ADDRESS, None)?)?)
}

fn request_metrics(mut client: Client) -> Result<String, RequestError> {
    client.connect()?;
    client.send(GET_METRICS)?;
    let text = |reply: &crate::harness::parser::ReplyRef<'_>| {
        String::from_utf8_lossy(reply.body).into_owned()
    };
    let (_, text) = client.receive_any(Pace::AT_ONCE, text)?;
    client.receive_eof()?;
    Ok(text)
}

/// The total number of responses with a number.
fn total(text: &str) -> io::Result<u64> {
    value(text, RESPONSES_TOTAL)
}

/// The value of a series.
pub(crate) fn value(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|value| value.parse().ok());
    value.ok_or_else(|| Error::other(format!("no {name} in a scrape: {text}")))
}
