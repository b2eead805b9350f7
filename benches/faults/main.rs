//! Fault programs: what the server costs, and what its honest clients notice, while others are idle,
//! slow, greedy, too many or malformed.
//!
//!     cargo bench --bench faults -- [--OPTION VALUE]... SCENARIO...
//!
//! Every scenario starts its own server on a loopback port, is bounded in time, and prints a Markdown
//! table. `server` watches the process from outside, `swarm` is the client engine, `honest` the
//! well-behaved clients measured beside every attack; then there is one file for each scenario.

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a measuring program reads clocks, arguments and counters, and prints what it saw"
)]

mod burst;
mod descriptors;
mod dice;
mod honest;
mod idle;
mod options;
mod oracle;
mod random;
mod reply;
mod report;
mod server;
mod slow;
mod swarm;
mod unread;

use options::Options;
use std::{env, fs, io, process::ExitCode, thread};

type Scenario = fn(&Options) -> io::Result<()>;

/// Every scenario by name.
const SCENARIOS: [(&str, &str, Scenario); 7] = [
    ("idle", "kept connections that do nothing", idle::run),
    ("slow", "clients that send nothing, too little or half", slow::run),
    ("unread", "clients that ask for much and read nothing, or 200 bytes a second", unread::run),
    ("flood", "clients that pipeline without end and read nothing", unread::flood),
    ("descriptors", "more clients than the server may have open files", descriptors::run),
    ("burst", "thousands of new connections at a time", burst::run),
    ("random", "random requests, each answer checked", random::run),
];

fn main() -> ExitCode {
    let (options, names) = match Options::parse(env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(problem) => return fail(&problem),
    };
    if names.is_empty() {
        println!("cargo bench --bench faults -- [--OPTION VALUE]... SCENARIO...\n");
        for (name, about, _) in SCENARIOS {
            println!("    {name:13}{about}");
        }
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    raise_descriptor_limit();
    for name in names {
        let Some((_, about, scenario)) = SCENARIOS.iter().find(|entry| entry.0 == name) else {
            return fail(&format!("there is no scenario {name}"));
        };
        println!("\n### {name}: {about}\n\n{}\n", machine());
        if let Err(problem) = scenario(&options) {
            return fail(&format!("{name}: {problem}"));
        }
    }
    ExitCode::SUCCESS
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("faults: {problem}");
    ExitCode::FAILURE
}

/// What else the machine is doing: figures taken beside a busy neighbour are worth little.
fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    format!("(load average before: {load} on {processors} processors)")
}

/// Thousands of clients need as many descriptors: take what the hard limit allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        eprintln!("faults: cannot raise the limit of open files: {problem}");
    }
}
