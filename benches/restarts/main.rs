//! Restart programs: what clients notice, and what the counts come to, while servers are upgraded,
//! restarted and killed.
//!
//!     cargo bench --bench restarts -- [--OPTION VALUE]... SCENARIO...
//!
//! Every scenario starts servers of its own on a loopback port, is bounded in time, prints Markdown tables,
//! and fails if a request has failed that should not, or a count is wrong; how fast it was is only told.
//! `caller` is one connection, `load` the clients, `score` what they have seen, `campaign` restarts in the
//! midst of it; then there is one file for each kind of scenario.

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measuring program reads clocks, arguments and counters, and prints what it saw"
)]

mod caller;
mod campaign;
mod cost;
mod kills;
#[expect(dead_code, reason = "other programs need more of it")]
#[path = "../lab/mod.rs"]
mod lab;
mod load;
mod options;
mod process;
mod rolling;
mod score;
mod scrapes;
mod slots;

use lab::program::Program;
use options::Options;
use std::{env, process::ExitCode};

const RESTARTS: Program<Options> = Program {
    name: "restarts",
    scenarios: &[
        ("upgrades", "a supervisor becomes the version on disk", rolling::upgrades),
        (
            "rolling",
            "of processes on a port one is started, the oldest stopped",
            rolling::start_first,
        ),
        (
            "stop-first",
            "of processes on a port the oldest is stopped, one started",
            rolling::stop_first,
        ),
        ("kills", "of processes on a port one is killed, one started", kills::one_of_several),
        ("only-worker", "the only worker of a supervisor is killed", kills::the_only_worker),
        ("scrapes", "what scrapes tell against what clients know", scrapes::run),
        ("slots", "what many lives, one after the other, leave behind", slots::run),
        ("cost", "counting in shared memory against counting in private", cost::run),
    ],
    help: options::HELP,
};

fn main() -> ExitCode {
    RESTARTS.run(Options::parse(env::args().skip(1)))
}
