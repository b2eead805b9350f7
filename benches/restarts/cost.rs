//! What it costs to count in memory that others share, against counting in memory of one's own.
//!
//! There is no flag for that: a process that may write no file as large as the region counts for itself.
//! Two processes of the same kind differ by more than what is looked for, so there are several of each, and
//! a second one that counts for itself shows how far two that do the same are apart.

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
const TRIPLES: usize = 5;
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_millis(80);
/// So many connections keep the server from falling asleep, which would cost more than all the rest.
const CONNECTIONS: usize = 8;
const DEPTHS: [usize; 2] = [1, 16];

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let mut triples: [Vec<[f64; 3]>; DEPTHS.len()] = Default::default();
    for _ in 0..TRIPLES {
        let servers = [start(options, 1)?, start(options, 0)?, start(options, 0)?];
        for (depth, costs) in DEPTHS.iter().zip(&mut triples) {
            for round in 0..ROUNDS {
                // Each comes first, second and last as often as the others.
                let mut round_costs = [0.0; 3];
                for place in 0..round_costs.len() {
                    let place = (place + round) % round_costs.len();
                    let pair = servers.get(place).zip(round_costs.get_mut(place));
                    let Some((server, its_cost)) = pair else { continue };
                    *its_cost = cost(server, *depth)?;
                }
                costs.push(round_costs);
            }
        }
    }
    report::head(&[
        "processor time per request, µs",
        "shared",
        "private",
        "shared ÷ private, quartiles",
        "private ÷ private, quartiles",
    ]);
    for (depth, costs) in DEPTHS.iter().zip(&triples) {
        let of = |figure: fn(&[f64; 3]) -> f64| {
            let mut figures: Vec<f64> = costs.iter().map(figure).collect();
            figures.sort_unstable_by(f64::total_cmp);
            let at = |quarter| figures.get(figures.len() * quarter / 4).copied();
            [1, 2, 3].map(|quarter| format!("{:.3}", at(quarter).unwrap_or_default()))
        };
        let [_, shared, _] = of(|costs| costs[0]);
        let [_, private, _] = of(|costs| costs[1]);
        let ratios = of(|costs| costs[0] / costs[1]).join(", ");
        let control = of(|costs| costs[2] / costs[1]).join(", ");
        report::row(&[format!("pipelined by {depth}"), shared, private, ratios, control]);
    }
    Ok(())
}

/// A server that shares its metrics, or does not.
fn start(options: &Options, shared: u64) -> io::Result<Server> {
    let command = options.command("127.0.0.1:0", "");
    let server = match shared {
        0 => Server::start(&format!("sh -c '{NO_REGION} {command}'"), None)?,
        _ => Server::start(&command, None)?,
    };
    let found = value(&scrape(server.address)?, "fibsrv_metrics_shared ")?;
    if found == shared {
        return Ok(server);
    }
    Err(Error::other(format!("fibsrv_metrics_shared is {found}")))
}

/// Processor time of a server per request on kept connections, in microseconds.
fn cost(server: &Server, depth: usize) -> io::Result<f64> {
    let requests = request("", 0).repeat(depth);
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        callers.push(Caller::new(server.address, HOME, None)?);
    }
    let mut ask = || -> Result<u32, Loss> {
        for caller in &mut callers {
            caller.connect()?;
            caller.say(&requests)?;
        }
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            for caller in &mut callers {
                for _ in 0..depth {
                    caller.hear(F20, Pace::AT_ONCE)?;
                    count += 1;
                }
                caller.say(&requests)?;
            }
        }
        Ok(count)
    };
    let before = server.cpu();
    let count = ask()?;
    let used = server.cpu().saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(count))
}
