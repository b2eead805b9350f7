//! The cost of counting in shared memory, compared with private memory.
//!
//! There is no flag for private memory: a process uses it if the limit of file sizes is below the size of the
//! shared memory. Processes differ by more than the expected effect, so there are several of each, and a
//! second private one shows how much two equal processes differ.

use crate::{
    client::{Client, Pace, RequestError},
    harness::{f20::F20, report, server::Server},
    load::{LOCAL_ADDRESS, request},
    options::Options,
    scrapes::{scrape, value},
};
use std::{
    io::{self, Error},
    time::{Duration, Instant},
};

/// In units of 512 or 1024 bytes, depending on the shell: both are less than the size of the shared memory.
const NO_SHARED_MEMORY: &str = "ulimit -f 200 && exec";
const TRIPLES: usize = 5;
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_millis(80);
/// Enough connections to keep the server from sleeping, which would cost more than counting.
const CONNECTIONS: usize = 8;
const DEPTHS: [usize; 2] = [1, 16];

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let mut triples: [Vec<[f64; 3]>; DEPTHS.len()] = Default::default();
    for _ in 0..TRIPLES {
        let servers = [start(options, 1)?, start(options, 0)?, start(options, 0)?];
        for (depth, costs) in DEPTHS.iter().zip(&mut triples) {
            for round in 0..ROUNDS {
                // Each is first, second and last equally often.
                let mut round_costs = [0.0; 3];
                for position in 0..round_costs.len() {
                    let index = (position + round) % round_costs.len();
                    let pair = servers.get(index).zip(round_costs.get_mut(index));
                    let Some((server, its_cost)) = pair else { continue };
                    *its_cost = cost(server, *depth)?;
                }
                costs.push(round_costs);
            }
        }
    }
    report::head(&[
        "CPU time per request, µs",
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

/// Starts a server with shared (1) or private (0) metrics.
fn start(options: &Options, shared: u64) -> io::Result<Server> {
    let command = options.command("127.0.0.1:0", "");
    let server = match shared {
        0 => Server::start(&format!("sh -c '{NO_SHARED_MEMORY} {command}'"), None)?,
        _ => Server::start(&command, None)?,
    };
    let found = value(&scrape(server.address)?, "fibsrv_metrics_shared ")?;
    if found == shared {
        return Ok(server);
    }
    Err(Error::other(format!("fibsrv_metrics_shared is {found}")))
}

/// CPU time of a server per request on keep-alive connections, in microseconds.
fn cost(server: &Server, depth: usize) -> io::Result<f64> {
    let requests = request("", 0).repeat(depth);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.address, LOCAL_ADDRESS, None)?);
    }
    let mut run = || -> Result<u32, RequestError> {
        for client in &mut clients {
            client.connect()?;
            client.send(&requests)?;
        }
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            for client in &mut clients {
                for _ in 0..depth {
                    client.receive(F20, Pace::AT_ONCE)?;
                    count += 1;
                }
                client.send(&requests)?;
            }
        }
        Ok(count)
    };
    let before = server.cpu();
    let count = run()?;
    let used = server.cpu().saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(count))
}
