//! Fault programs: what the server costs, and what its honest clients notice, while others are idle,
//! slow, greedy, too many or malformed.
//!
//!     cargo bench --bench faults -- [--OPTION VALUE]... SCENARIO...
//!
//! Every scenario starts its own server on a loopback port, is bounded in time, and prints a Markdown
//! table. `watch` looks at the process from outside, `swarm` is the client engine, `honest` the
//! well-behaved clients measured beside every attack; then there is one file for each scenario. `lab` is
//! what other programs need as well.

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measuring program reads clocks, arguments and counters, and prints what it saw"
)]

mod burst;
mod descriptors;
mod honest;
mod idle;
#[path = "../lab/mod.rs"]
mod lab;
mod options;
mod oracle;
mod random;
mod slow;
mod swarm;
mod unread;
mod watch;

use lab::program::Program;
use options::Options;
use std::{env, process::ExitCode};

const FAULTS: Program<Options> = Program {
    name: "faults",
    scenarios: &[
        ("idle", "kept connections that do nothing", idle::run),
        ("slow", "clients that send nothing, too little or half", slow::run),
        (
            "unread",
            "clients that ask for much and read nothing, or 200 bytes a second",
            unread::run,
        ),
        ("flood", "clients that pipeline without end and read nothing", unread::flood),
        ("descriptors", "more clients than the server may have open files", descriptors::run),
        ("burst", "thousands of new connections at a time", burst::run),
        ("random", "random requests, each answer checked", random::run),
    ],
    help: options::HELP,
};

fn main() -> ExitCode {
    FAULTS.run(Options::parse(env::args().skip(1)))
}
