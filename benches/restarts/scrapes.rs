//! What a scrape tells against what clients know, whichever process answers it: exact at rest, never less
//! than the answers received, never more than the requests sent, never less than before.

use crate::{
    caller::{Caller, Loss, Pace},
    campaign::await_answers,
    lab::report::{self, quantile},
    load::{HOME, Load, request, visit},
    options::Options,
    rolling::Processes,
    score::Score,
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
const BETWEEN: usize = 7;
/// Answers from one restart to the next.
const APART: u64 = 2000;
/// Between scrapes under load, which are to be beside it and not to be it.
const PAUSE: Duration = Duration::from_millis(2);
const ASK: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const COUNTED: &str = r#"fibsrv_requests_total{handler="fibonacci",method="GET",code="200"} "#;

/// At rest, then under load with restarts, then under load with kills.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let mut processes = Processes::start_all(options, options.processes.unwrap_or(PROCESSES))?;
    let address = processes.address()?;
    report::head(&[
        "scrapes",
        "number",
        "requests lost",
        "less than answered",
        "more than asked",
        "less than before",
        "time ms, median / most",
        "total in the end",
        "of which may have died uncounted",
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

fn at_rest(address: SocketAddr, scrapes: usize) -> io::Result<usize> {
    let mut seen = Seen::default();
    let mut known = 0;
    for _ in 0..scrapes {
        for _ in 0..BETWEEN {
            let mut caller = Caller::new(address, HOME, None)?;
            visit(&mut caller, &request("Connection: close\r\n", 0))?;
            known += 1;
        }
        seen.scrape(address, || known, || known)?;
    }
    seen.report("at rest", 0, &(known..=known));
    Ok(seen.wrong())
}

/// Scrapes while clients ask and processes come and go. Returns the total afterwards, and how many were wrong.
fn under_load<'options>(
    processes: &mut Processes<'options>,
    options: &Options,
    base: u64,
    what: &str,
    mut change: impl FnMut(&mut Processes<'options>) -> io::Result<()>,
) -> io::Result<(u64, usize)> {
    let address = processes.address()?;
    let load = Load::start(address, &options.mix());
    let score = Arc::clone(&load.score);
    let watch = thread::spawn({
        let score = Arc::clone(&score);
        move || watch(address, &score, base)
    });
    for _ in 0..options.kills {
        await_answers(&score, score.answered() + APART)?;
        processes.check()?;
        change(processes)?;
    }
    await_answers(&score, score.answered() + APART)?;
    let score = load.finish()?;
    let mut seen = watch.join().map_err(|_| Error::other("the scraper has panicked"))??;
    // Requests that have failed may have been counted or not; those that came too late have not.
    let lost = score.losses(<[_]>::len) as u64;
    let bounds = base + score.answered()..=base + score.answered() + lost;
    for _ in 0..BETWEEN {
        seen.scrape(address, || *bounds.start(), || *bounds.end())?;
    }
    let name = format!("under load, {} {what}", options.kills);
    seen.report(&name, lost, &bounds);
    Ok((seen.last, seen.wrong()))
}

fn watch(address: SocketAddr, score: &Score, base: u64) -> io::Result<Seen> {
    let mut seen = Seen::default();
    while !score.is_over() {
        seen.scrape(address, || base + score.answered(), || base + score.asked())?;
        thread::sleep(PAUSE);
    }
    Ok(seen)
}

/// What scrapes have told.
#[derive(Debug, Default)]
struct Seen {
    /// The total of the last one.
    last: u64,
    below: usize,
    above: usize,
    receding: usize,
    times: Vec<Duration>,
}

impl Seen {
    /// Scrapes, with what is the least beforehand and the most afterwards. A scrape that is lost with the
    /// process that would have answered it tells nothing.
    fn scrape(
        &mut self,
        address: SocketAddr,
        least: impl Fn() -> u64,
        most: impl Fn() -> u64,
    ) -> io::Result<()> {
        let least = least();
        let start = Instant::now();
        let Ok(text) = ask(Caller::new(address, HOME, None)?) else { return Ok(()) };
        self.times.push(start.elapsed());
        let total = total(&text)?;
        self.below += usize::from(total < least);
        self.above += usize::from(total > most());
        self.receding += usize::from(total < self.last);
        self.last = total;
        Ok(())
    }

    const fn wrong(&self) -> usize {
        self.below + self.above + self.receding
    }

    fn report(&mut self, name: &str, lost: u64, bounds: &RangeInclusive<u64>) {
        let median = quantile(&mut self.times, 0.5);
        report::row(&[
            name.to_owned(),
            self.times.len().to_string(),
            lost.to_string(),
            self.below.to_string(),
            self.above.to_string(),
            self.receding.to_string(),
            format!("{median} / {}", quantile(&mut self.times, 1.0)),
            self.last.to_string(),
            (bounds.end() - bounds.start()).to_string(),
        ]);
    }
}

/// The text of a scrape, on a connection of its own.
pub(crate) fn scrape(address: SocketAddr) -> io::Result<String> {
    Ok(ask(Caller::new(address, HOME, None)?)?)
}

fn ask(mut caller: Caller) -> Result<String, Loss> {
    caller.connect()?;
    caller.say(ASK)?;
    let text =
        |reply: &crate::lab::reply::Reply<'_>| String::from_utf8_lossy(reply.body).into_owned();
    let (_, text) = caller.hear_any(Pace::AT_ONCE, text)?;
    caller.hear_end()?;
    Ok(text)
}

/// Numbers that were answered, as a scrape tells.
fn total(text: &str) -> io::Result<u64> {
    value(text, COUNTED)
}

/// The value behind the name of a series.
pub(crate) fn value(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|value| value.parse().ok());
    value.ok_or_else(|| Error::other(format!("no {name} in a scrape: {text}")))
}
