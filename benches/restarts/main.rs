//! Restart programs: failed requests, latency and metrics while servers are upgraded, restarted and killed.
//!
//!     cargo bench --bench restarts -- [--OPTION VALUE]... SCENARIO...
//!
//! Every scenario starts its own servers on a loopback port, is bounded in time, prints Markdown tables, and
//! fails if a request failed unexpectedly or a metric is wrong. Speed is only reported.
//! `client` is one connection, `load` all clients, `stats` their results, `experiment` restarts under load; the
//! other files have the scenarios.

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measuring program reads clocks, arguments and counters, and prints what it saw"
)]

mod client;
mod cost;
mod experiment;
#[expect(dead_code, reason = "other programs use more of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod kills;
mod load;
mod options;
mod process;
mod rolling;
mod saturation;
mod scrapes;
mod slots;
mod stats;
mod waits;
mod workers;

use harness::program::Program;
use options::Options;
use std::{env, process::ExitCode};

const RESTARTS: Program<Options> = Program {
    name: "restarts",
    scenarios: &[
        ("upgrades", "a supervisor upgrades to the binary on disk", rolling::upgrades),
        (
            "rolling",
            "of several processes on a port, one is started, then the oldest stopped",
            rolling::start_first,
        ),
        (
            "stop-first",
            "of several processes on a port, the oldest is stopped, then one started",
            rolling::stop_first,
        ),
        (
            "kills",
            "of several processes on a port, one is killed, then one started",
            kills::one_of_several,
        ),
        ("only-worker", "the only worker of a supervisor is killed", kills::the_only_worker),
        ("scrapes", "scraped totals compared with the counts of the clients", scrapes::run),
        (
            "slots",
            "slots, sockets and files left by many processes, one after the other",
            slots::run,
        ),
        ("stopped-worker", "one of two workers is stopped for 5 s", waits::stopped_worker),
        ("stopped-process", "one of two processes is stopped for 5 s", waits::stopped_process),
        ("busy", "one of two workers cannot run for half of the time", waits::busy),
        ("saturated", "CPU time with a connection per request and many workers", saturation::run),
        ("startup", "the time until all workers serve", workers::startup),
        ("spread", "connections of each worker at light load", workers::spread),
        ("burst", "processes while SIGHUPs come faster than upgrades", workers::burst),
        ("cost", "CPU time of counting in shared and in private memory", cost::run),
    ],
    help: options::HELP,
};

fn main() -> ExitCode {
    RESTARTS.run(Options::parse(env::args().skip(1)))
}
