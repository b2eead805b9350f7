//! Thousands of new connections at a time, each for one request, opened as fast as they end.

use crate::{
    honest::Honest,
    lab::{
        reply::take_f20,
        report::{self, change},
        server::Server,
    },
    options::Options,
    swarm::{End, Happening, Id, Manner, Swarm},
    watch::{Watch, listen_overflows},
};
use std::{
    collections::{HashMap, VecDeque},
    io, thread,
    time::{Duration, Instant},
};

const AT_A_TIME: usize = 6_000;
const SECONDS: u64 = 10;
/// How long the light client is watched before and after.
const CALM: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(5);
const ASK: &[u8] =
    b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let count = options.clients.unwrap_or(AT_A_TIME);
    let span = Duration::from_secs(options.seconds.unwrap_or(SECONDS));
    let server = Server::start(&options.server, None)?;
    let honest = Honest::start(server.address)?;
    let overflows = listen_overflows();
    let start = Instant::now();
    thread::sleep(CALM);
    let mut storm = Storm::new(&server)?;
    let begin = Instant::now();
    storm.rage(&server, count, begin + span)?;
    let end = Instant::now();
    let taken = storm.calm_down(&server)?;
    thread::sleep(CALM);
    let settled = server.reading()?.rss;
    let light = honest.finish()?;

    let before = light.between(start, begin);
    let after = light.between(end, Instant::now());
    let limit = before.p99() * 2 + Duration::from_millis(1);
    let back = after.last_worse_than(limit).map_or(Duration::ZERO, |moment| moment - end);
    report::head(&[
        "at a time",
        "answers/s",
        "failures",
        "p50 / p99 / p99.9 / max ms",
        "listen overflows",
        "RSS at most, later, MB",
        "light client %",
        "p99 ms before → beside → after",
        "normal again after s",
    ]);
    let failures = storm.failures.iter().map(|(what, times)| format!("{times} {what}"));
    let failures = failures.collect::<Vec<_>>().join(", ");
    let times = &mut storm.times;
    let answers = times.len() as f64 / (span + taken).as_secs_f64();
    let quantiles = [0.5, 0.99, 0.999, 1.0].map(|share| report::quantile(times, share));
    let rss = |bytes| report::megabytes(report::growth(storm.watch.before.rss, bytes));
    let beside = change(before.quantile(0.99), light.between(begin, end).quantile(0.99));
    report::row(&[
        count.to_string(),
        format!("{answers:.0}"),
        if failures.is_empty() { "0".to_owned() } else { failures },
        quantiles.join(" / "),
        (listen_overflows() - overflows).to_string(),
        format!("{}, {}", rss(storm.watch.peak.rss), rss(settled)),
        light.success(),
        change(beside, after.quantile(0.99)),
        format!("{:.2}", back.as_secs_f64()),
    ]);
    Ok(())
}

struct Storm {
    swarm: Swarm,
    watch: Watch,
    /// Those under way, the oldest first; the answered ones among them are no links any more.
    underway: VecDeque<Id>,
    times: Vec<Duration>,
    failures: HashMap<&'static str, usize>,
}

impl Storm {
    fn new(server: &Server) -> io::Result<Self> {
        Ok(Self {
            swarm: Swarm::new(server.address, Manner::Reading)?,
            watch: Watch::start(server)?,
            underway: VecDeque::new(),
            times: Vec::new(),
            failures: HashMap::new(),
        })
    }

    /// Keeps `count` connections under way, filling up after every turn.
    fn rage(&mut self, server: &Server, count: usize, until: Instant) -> io::Result<()> {
        while Instant::now() < until {
            while self.swarm.len() < count {
                let id = self.swarm.open()?;
                self.swarm.say(id, ASK);
                self.underway.push_back(id);
            }
            self.turn(server)?;
        }
        Ok(())
    }

    /// Opens no more and waits for the last; says how long it took.
    fn calm_down(&mut self, server: &Server) -> io::Result<Duration> {
        let start = Instant::now();
        while self.swarm.len() > 0 {
            self.turn(server)?;
        }
        Ok(start.elapsed())
    }

    fn turn(&mut self, server: &Server) -> io::Result<()> {
        for (id, happening) in self.swarm.turn(Duration::from_millis(10))? {
            match happening {
                Happening::Connected | Happening::Flushed | Happening::Arrived => {}
                Happening::Ended(End::Closed) => self.hear(id),
                Happening::Ended(End::Refused) => self.lose(id, "refused"),
                Happening::Ended(End::Reset) => self.lose(id, "reset"),
                Happening::Ended(End::Failed) => self.lose(id, "failed otherwise"),
            }
        }
        while let Some(oldest) = self.underway.front().copied() {
            match self.swarm.link(oldest) {
                Some(link) if link.opened.elapsed() < TIMEOUT => break,
                Some(_) => self.lose(oldest, "timed out"),
                None => {}
            }
            self.underway.pop_front();
        }
        self.watch.look(server)?;
        Ok(())
    }

    /// An answer counts when the server has closed behind it.
    fn hear(&mut self, id: Id) {
        let Some(link) = self.swarm.link(id) else { return };
        match take_f20(&mut link.inbox) {
            None => self.lose(id, "closed without an answer"),
            Some(false) => self.lose(id, "wrong"),
            Some(true) => {
                self.times.push(link.opened.elapsed());
                drop(self.swarm.leave(id));
            }
        }
    }

    fn lose(&mut self, id: Id, what: &'static str) {
        if self.swarm.leave(id).is_some() {
            *self.failures.entry(what).or_default() += 1;
        }
    }
}
