//! The CPU time of a request on a connection of its own, with as many clients as keep all workers busy.

use crate::{
    harness::{report, server::Server},
    options::Options,
    waits::Clients,
};
use std::{io, thread, time::Duration};

const WORKERS: [usize; 3] = [2, 8, 64];
const CLIENTS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);

/// Compares executables, one after the other in each round.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    report::head(&[
        "workers",
        "executable",
        "µs per request, median",
        "ratio to the first, quartiles",
    ]);
    for workers in WORKERS {
        let mut servers = Vec::new();
        for executable in options.executables() {
            let flags = format!("--workers {workers}");
            servers
                .push(Server::start(&options.command_of(executable, "127.0.0.1:0", &flags), None)?);
        }
        let mut costs = vec![Vec::new(); servers.len()];
        for round in 0..ROUNDS {
            for position in 0..servers.len() {
                // Each is first equally often.
                let index = (position + round) % servers.len();
                let Some((server, its)) = servers.get(index).zip(costs.get_mut(index)) else {
                    continue;
                };
                let before = server.cpu();
                let clients = Clients::start(server.address, CLIENTS, Duration::ZERO);
                thread::sleep(ROUND);
                let requests = clients.finish()?.len();
                let used = server.cpu().saturating_sub(before);
                its.push(used.as_secs_f64() * 1e6 / requests as f64);
            }
        }
        let first = costs.first().cloned().unwrap_or_default();
        for (executable, its) in options.executables().zip(&costs) {
            let ratios = its.iter().zip(&first).map(|(cost, first)| cost / first).collect();
            let [_, median, _] = quartiles(its.clone());
            let ratios = quartiles(ratios).join(", ");
            report::row(&[workers.to_string(), executable.to_owned(), median, ratios]);
        }
    }
    Ok(())
}

fn quartiles(mut figures: Vec<f64>) -> [String; 3] {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |quarter| figures.get(figures.len() * quarter / 4).copied();
    [1, 2, 3].map(|quarter| format!("{:.3}", at(quarter).unwrap_or_default()))
}
