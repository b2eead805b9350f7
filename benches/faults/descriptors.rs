//! More clients than the server may have open files: what it does while it cannot accept, and how
//! soon it goes on.

use crate::{
    honest::Honest,
    lab::{
        reply::{ASK, take_f20},
        report,
        server::Server,
    },
    options::Options,
    swarm::{Happening, Id, Manner, Swarm},
};
use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

const OPEN_FILES: usize = 64;
const CLIENTS: usize = 300;
const HOLDERS: usize = 100;
/// How long the server is left exhausted while it is watched. The holders have not used up a
/// deadline of 10 s by then.
const SPAN: Duration = Duration::from_secs(4);
const SETTLES: Duration = Duration::from_secs(1);
const GIVE_UP: Duration = Duration::from_secs(15);

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "clients",
        "answered",
        "CPU % while exhausted",
        "wake-ups/s",
        "old connection %",
        "p99 ms",
        "reopened",
        "log lines, bytes",
        "waiting",
        "served after room appeared, ms: first / all",
    ]);
    let count = options.clients.unwrap_or(CLIENTS);
    let logged = measure(options, &format!("{count} ask and stay"), 0, count)?;
    let rest = count.saturating_sub(HOLDERS);
    measure(options, &format!("{HOLDERS} in mid-request, then {rest} ask"), HOLDERS, rest)?;
    println!("\nThe first line logged: {}", logged.lines().next().unwrap_or("none"));
    Ok(())
}

/// `holders` take the descriptors with half a request, which no server can close to make room;
/// `askers` ask, and stay. Returns what was logged meanwhile.
fn measure(options: &Options, name: &str, holders: usize, askers: usize) -> io::Result<String> {
    let server = Server::start(&options.server, Some(OPEN_FILES))?;
    let old = Honest::start_with(server.address, 10, 1)?;
    let logged = server.log_text();
    let mut crowd = Crowd::new(&server)?;
    let holders = crowd.open(holders, b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: local")?;
    crowd.listen(SETTLES / 2)?;
    crowd.open(askers, ASK)?;
    crowd.listen(SETTLES)?;

    let (cpu, wakeups) = server.observe(SPAN);
    crowd.listen(Duration::ZERO)?;
    let served_before = crowd.answered.len();
    let log = server.log_text();
    let news = log.get(logged.len()..).unwrap_or_default();

    for id in holders.into_iter().chain(crowd.answered.drain()) {
        drop(crowd.swarm.leave(id));
    }
    crowd.leaves = true;
    let waiting = crowd.swarm.len();
    let times = crowd.listen(GIVE_UP)?;
    let left = crowd.swarm.len();
    let old = old.finish()?;
    report::row(&[
        name.to_owned(),
        served_before.to_string(),
        format!("{cpu:.2}"),
        format!("{wakeups:.1}"),
        old.success(),
        old.quantile(0.99),
        old.reopened.to_string(),
        format!("{}, {}", news.lines().count(), news.len()),
        if left == 0 { waiting.to_string() } else { format!("{waiting} ({left} never served)") },
        times.map_or_else(
            || "-".to_owned(),
            |(first, last)| format!("{} / {}", report::millis(first), report::millis(last)),
        ),
    ]);
    Ok(news.to_owned())
}

struct Crowd {
    swarm: Swarm,
    answered: HashSet<Id>,
    /// Whether who is answered leaves at once, which makes room for the next.
    leaves: bool,
}

impl Crowd {
    fn new(server: &Server) -> io::Result<Self> {
        let swarm = Swarm::new(server.address, Manner::Reading)?;
        Ok(Self { swarm, answered: HashSet::new(), leaves: false })
    }

    fn open(&mut self, count: usize, says: &[u8]) -> io::Result<Vec<Id>> {
        let ids = (0..count).map(|_| self.swarm.open()).collect::<io::Result<Vec<_>>>()?;
        for id in &ids {
            self.swarm.say(*id, says);
        }
        Ok(ids)
    }

    /// Takes answers for a while, or until all have left; says when the first and the last came.
    fn listen(&mut self, span: Duration) -> io::Result<Option<(Duration, Duration)>> {
        let start = Instant::now();
        let mut served: Option<(Duration, Duration)> = None;
        loop {
            let rest = span.saturating_sub(start.elapsed());
            for (id, happening) in self.swarm.turn(rest)? {
                match happening {
                    Happening::Connected | Happening::Flushed => {}
                    Happening::Arrived => {
                        let inbox = self.swarm.link(id).map(|link| &mut link.inbox);
                        if inbox.and_then(take_f20) == Some(true) {
                            let now = start.elapsed();
                            served = Some((served.map_or(now, |first| first.0), now));
                            self.answered.insert(id);
                            if self.leaves {
                                drop(self.swarm.leave(id));
                            }
                        }
                    }
                    Happening::Ended(_) => drop(self.swarm.leave(id)),
                }
            }
            if start.elapsed() >= span || (self.leaves && self.swarm.len() == 0) {
                return Ok(served);
            }
        }
    }
}
