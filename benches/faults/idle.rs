//! Kept connections that do nothing: what each costs, what they cost together, and what is given back.

use crate::{
    honest::Honest,
    lab::{
        reply::{ASK, take_f20},
        report::{self, change},
        server::Server,
    },
    options::Options,
    swarm::{Happening, Manner, Swarm},
};
use std::{
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

const STEPS: [usize; 3] = [1_000, 10_000, 18_500];
/// Connections being opened at a time: below any backlog.
const OPENING: usize = 100;
const OPEN_WITHIN: Duration = Duration::from_secs(20);
const SETTLES: Duration = Duration::from_secs(1);
/// How long nobody asks anything, and how long the active client asks alone and beside the others.
const SPAN: Duration = Duration::from_secs(5);
/// The active client: enough requests a second for a p99 that means something.
const RATE: u32 = 400;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "connections",
        "RSS each, bytes",
        "RSS, MB",
        "given back",
        "CPU %",
        "wake-ups/s",
        "active p50 ms alone → beside",
        "p99 ms alone → beside",
        "closed by the server",
    ]);
    for count in options.clients.map_or_else(|| STEPS.to_vec(), |count| vec![count]) {
        report::row(&step(options, count)?);
    }
    Ok(())
}

fn step(options: &Options, count: usize) -> io::Result<Vec<String>> {
    let server = Server::start(&options.server, None)?;
    let active = || -> io::Result<_> {
        let honest = Honest::start_with(server.address, RATE, 1)?;
        thread::sleep(SPAN);
        honest.finish()
    };
    let alone = active()?;
    let before = server.reading()?.rss;
    let mut swarm = Swarm::new(server.address, Manner::Reading)?;
    fill(&mut swarm, count)?;
    thread::sleep(SETTLES);
    let held = server.reading()?.rss;

    let (cpu, wakeups) = server.observe(SPAN);

    let beside = active()?;
    let happened = swarm.turn(Duration::ZERO)?;
    let closed = happened.iter().filter(|one| matches!(one.1, Happening::Ended(_))).count();
    drop(swarm);
    thread::sleep(2 * SETTLES);
    let after = server.reading()?.rss;

    let grown = report::growth(before, held);
    let returned = report::growth(after, held);
    Ok(vec![
        count.to_string(),
        (grown / count.cast_signed() as i64).to_string(),
        format!("{:.1}", held as f64 / 1e6),
        format!("{:.0} %", 100.0 * returned as f64 / grown.max(1) as f64),
        format!("{:.3}", cpu),
        format!("{wakeups:.1}"),
        change(alone.quantile(0.5), beside.quantile(0.5)),
        change(alone.quantile(0.99), beside.quantile(0.99)),
        closed.to_string(),
    ])
}

/// Opens connections until `count` of them have had one answer.
fn fill(swarm: &mut Swarm, count: usize) -> io::Result<()> {
    let deadline = Instant::now() + OPEN_WITHIN;
    let mut answered = 0;
    while answered < count {
        while swarm.len() < count.min(answered + OPENING) {
            let id = swarm.open()?;
            swarm.say(id, ASK);
        }
        for (id, happening) in swarm.turn(Duration::from_millis(100))? {
            match happening {
                Happening::Arrived => {
                    let inbox = swarm.link(id).map(|link| &mut link.inbox);
                    if inbox.and_then(take_f20) == Some(true) {
                        answered += 1;
                    }
                }
                Happening::Connected | Happening::Flushed => {}
                Happening::Ended(end) => {
                    let problem = format!("connection {} ended: {end:?}", swarm.len());
                    return Err(Error::other(problem));
                }
            }
        }
        if Instant::now() > deadline {
            return Err(Error::other(format!("only {answered} of {count} were answered")));
        }
    }
    Ok(())
}
