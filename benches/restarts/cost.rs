//! What it costs to count in memory that others share, against counting in memory of one's own.
//!
//! There is no flag for that: a process that may write no file as large as the region counts for itself.

use crate::{
    caller::{Caller, Loss, Pace},
    lab::{report, server::Server},
    load::{F20, HOME, request},
    options::Options,
    scrapes::{scrape, value},
};
use std::{
    io::{self, Error},
    time::{Duration, Instant},
};

/// In units of 512 or 1024 bytes, as shells differ: either is less than the region, and enough for the log.
const NO_REGION: &str = "ulimit -f 200 && exec";
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(300);

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let command = options.command("127.0.0.1:0", "");
    let shared = Server::start(&command, None)?;
    let private = Server::start(&format!("sh -c '{NO_REGION} {command}'"), None)?;
    for (server, expected) in [(&shared, 1), (&private, 0)] {
        let found = value(&scrape(server.address)?, "fibsrv_metrics_shared ")?;
        if found != expected {
            return Err(Error::other(format!("fibsrv_metrics_shared is {found}")));
        }
    }
    report::head(&["processor time per request, µs", "shared", "private", "ratio, quartiles"]);
    for (name, depth) in [("one at a time", 1), ("pipelined by 16", 16)] {
        let [mut ours, mut theirs, mut ratios] = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            // Each goes first every other time.
            let [one, other] = if round % 2 == 0 {
                [cost(&shared, depth)?, cost(&private, depth)?]
            } else {
                let other = cost(&private, depth)?;
                [cost(&shared, depth)?, other]
            };
            ours.push(one);
            theirs.push(other);
            ratios.push(one / other);
        }
        let [low, middle, high] = quartiles(&mut ratios);
        report::row(&[
            name.to_owned(),
            format!("{:.3}", quartiles(&mut ours)[1]),
            format!("{:.3}", quartiles(&mut theirs)[1]),
            format!("{low:.3}, {middle:.3}, {high:.3}"),
        ]);
    }
    Ok(())
}

/// Processor time of a server per request of a kept connection, in microseconds.
fn cost(server: &Server, depth: usize) -> io::Result<f64> {
    let requests = request("", 0).repeat(depth);
    let mut caller = Caller::new(server.address, HOME, None)?;
    let mut ask = || -> Result<u32, Loss> {
        caller.connect()?;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            caller.say(&requests)?;
            for _ in 0..depth {
                caller.hear(F20, Pace::AT_ONCE)?;
            }
            count += 1;
        }
        Ok(count)
    };
    let before = server.cpu();
    let count = ask()?;
    let used = server.cpu().saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(count) / depth as f64)
}

fn quartiles(figures: &mut [f64]) -> [f64; 3] {
    figures.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| figures.get(figures.len() * quarter / 4).copied().unwrap_or_default())
}
