//! Fault programs: the resources of the server and the latency of probe clients while other clients are
//! idle, slow, not reading, too many, or send malformed requests.
//!
//!     cargo bench --bench faults -- [--OPTION VALUE]... SCENARIO...
//!
//! Every scenario starts its own server on a loopback port, is bounded in time, and prints a Markdown
//! table. `monitor` measures the process, `client_pool` has the clients, `probe` the well-behaved clients
//! measured during every attack; the other files have the scenarios. `harness` is shared with other
//! programs.

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measuring program reads clocks, arguments and counters, and prints what it saw"
)]

mod burst;
mod cases;
mod client_pool;
mod descriptors;
#[expect(dead_code, reason = "other programs use more of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod idle;
mod monitor;
mod options;
mod probe;
mod random;
mod slow;
mod unread;

use harness::program::Program;
use options::Options;
use std::{env, process::ExitCode};

const FAULTS: Program<Options> = Program {
    name: "faults",
    scenarios: &[
        ("idle", "idle keep-alive connections", idle::run),
        ("slow", "clients that send nothing, too little or half", slow::run),
        (
            "unread",
            "clients that request much and read nothing, or 200 bytes per second",
            unread::run,
        ),
        ("flood", "clients that pipeline without end and read nothing", unread::flood),
        ("descriptors", "more clients than the server may have open files", descriptors::run),
        ("burst", "thousands of new connections at a time", burst::run),
        ("random", "random requests, each response checked", random::run),
    ],
    help: options::HELP,
};

fn main() -> ExitCode {
    FAULTS.run(Options::parse(env::args().skip(1)))
}
