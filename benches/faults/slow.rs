//! Clients that send nothing, too little or half: how long the server keeps them, what it says to
//! them, and what honest clients notice.

use crate::{
    honest::Honest,
    lab::{report, server::Server},
    options::Options,
    swarm::{End, Happening, Id, Manner, Swarm},
    watch::Watch,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

const CLIENTS: usize = 300;
const SECOND: Duration = Duration::from_secs(1);
const HALF_A_HEAD: &[u8] = b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: local";
const BODY_TO_COME: &[u8] =
    b"POST /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";

/// How the clients are slow: what they say at first, and then every second.
struct Pace {
    name: &'static str,
    first: &'static [u8],
    then: &'static [u8],
    /// Whether they say at once that nothing more will come.
    finishes: bool,
}

const PACES: [Pace; 6] = [
    Pace { name: "silent", first: b"", then: b"", finishes: false },
    Pace { name: "head, a byte a second", first: HALF_A_HEAD, then: b"x", finishes: false },
    Pace {
        name: "head, a line a second",
        first: b"GET /api/fibonacci/20 HTTP/1.1\r\n",
        then: b"X-Field: value\r\n",
        finishes: false,
    },
    Pace { name: "body, a byte a second", first: BODY_TO_COME, then: b"x", finishes: false },
    Pace { name: "half a head, then nothing", first: HALF_A_HEAD, then: b"", finishes: false },
    Pace { name: "half a head, then FIN", first: HALF_A_HEAD, then: b"", finishes: true },
];

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "clients",
        "cut off after s: min / median / max",
        "never",
        "what they saw",
        "honest %",
        "p99 ms",
        "max ms",
        "RSS at most, MB",
        "bytes each",
    ]);
    let count = options.clients.unwrap_or(CLIENTS);
    for pace in &PACES {
        let server = Server::start(&options.server, None)?;
        let honest = Honest::start(server.address)?;
        let watch = Watch::start(&server)?;
        let mut crowd = Crowd::new(&server, watch)?;
        crowd.dawdle(pace, count, options.wait)?;
        row(&format!("{count} × {}", pace.name), count, crowd, honest)?;
    }
    let server = Server::start(&options.server, None)?;
    let honest = Honest::start(server.address)?;
    let watch = Watch::start(&server)?;
    let mut crowd = Crowd::new(&server, watch)?;
    let dropped = crowd.vanish(count, options.wait)?;
    row(
        &format!("{dropped} × gone at once (RST, or half a head and RST or FIN): until released"),
        dropped,
        crowd,
        honest,
    )
}

/// Slow clients and what became of them.
struct Crowd<'server> {
    server: &'server Server,
    watch: Watch,
    swarm: Swarm,
    /// How long each was kept.
    kept: Vec<Duration>,
    saw: BTreeMap<String, usize>,
}

impl<'server> Crowd<'server> {
    fn new(server: &'server Server, watch: Watch) -> io::Result<Self> {
        let swarm = Swarm::new(server.address, Manner::Reading)?;
        Ok(Self { server, watch, swarm, kept: Vec::new(), saw: BTreeMap::new() })
    }

    /// Opens all at once and keeps the pace until the last has been cut off.
    fn dawdle(&mut self, pace: &Pace, count: usize, wait: Duration) -> io::Result<()> {
        for _ in 0..count {
            let id = self.swarm.open()?;
            self.swarm.say(id, pace.first);
            if pace.finishes {
                self.swarm.finish(id);
            }
        }
        let mut next = Instant::now() + SECOND;
        let deadline = Instant::now() + wait;
        while self.swarm.len() > 0 && Instant::now() < deadline {
            for (id, happening) in self.swarm.turn(Duration::from_millis(50))? {
                match happening {
                    Happening::Ended(end) => self.note(id, end),
                    Happening::Connected | Happening::Arrived | Happening::Flushed => {}
                }
            }
            if Instant::now() >= next {
                next += SECOND;
                for id in self.swarm.ids() {
                    self.swarm.say(id, pace.then);
                }
            }
            self.watch.look(self.server)?;
        }
        Ok(())
    }

    fn note(&mut self, id: Id, end: End) {
        let Some(link) = self.swarm.leave(id) else { return };
        self.kept.push(link.opened.elapsed());
        let status =
            link.inbox.get(9..12).map_or_else(|| "nothing".into(), String::from_utf8_lossy);
        *self.saw.entry(format!("{status}, {end:?}")).or_default() += 1;
    }

    /// For five seconds, `count` clients a second that leave in the rudest ways; then waits until the
    /// server holds none of them any more. Says how many there were.
    fn vanish(&mut self, count: usize, wait: Duration) -> io::Result<usize> {
        let mut opened = 0;
        for _ in 0..50 {
            let due = Instant::now() + SECOND / 10;
            for _ in 0..count / 10 {
                self.swarm.open()?;
                opened += 1;
            }
            while Instant::now() < due {
                for (id, happening) in self.swarm.turn(due - Instant::now())? {
                    if !matches!(happening, Happening::Connected) {
                        continue;
                    }
                    if id % 3 > 0 {
                        self.swarm.say(id, HALF_A_HEAD);
                    }
                    if id % 3 == 2 {
                        drop(self.swarm.leave(id));
                    } else {
                        self.swarm.reset(id);
                    }
                }
                self.watch.look(self.server)?;
            }
        }
        let last = Instant::now();
        while last.elapsed() < wait {
            if self.server.reading()?.descriptors <= self.watch.before.descriptors {
                self.kept.push(last.elapsed());
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(opened)
    }
}

fn row(name: &str, count: usize, mut crowd: Crowd<'_>, honest: Honest) -> io::Result<()> {
    let honest = honest.finish()?;
    crowd.kept.sort_unstable();
    let at = |place: usize| {
        crowd
            .kept
            .get(place)
            .map_or_else(|| "-".into(), |kept| format!("{:.2}", kept.as_secs_f64()))
    };
    let saw = crowd.saw.iter().map(|(what, times)| format!("{times} × {what}"));
    let saw = saw.collect::<Vec<_>>().join("; ");
    let saw = if saw.is_empty() { "-".to_owned() } else { saw };
    let grown = report::growth(crowd.watch.before.rss, crowd.watch.peak.rss);
    let last = crowd.kept.len().saturating_sub(1);
    let [success, p99, max] = honest.cells();
    report::row(&[
        name.to_owned(),
        format!("{} / {} / {}", at(0), at(last / 2), at(last)),
        crowd.swarm.len().to_string(),
        saw,
        success,
        p99,
        max,
        report::megabytes(grown),
        (grown / count.cast_signed() as i64).to_string(),
    ]);
    Ok(())
}
