//! A measuring program: scenarios by name, run one after the other.

use std::{fs, io, process::ExitCode, thread};

/// Its name, its scenarios, and a help text for its options.
#[derive(Debug)]
pub(crate) struct Program<Options: 'static> {
    pub(crate) name: &'static str,
    pub(crate) scenarios: &'static [Scenario<Options>],
    pub(crate) help: &'static str,
}

/// Name, description, and function.
pub(crate) type Scenario<Options> = (&'static str, &'static str, fn(&Options) -> io::Result<()>);

impl<Options> Program<Options> {
    /// Runs the scenarios with these names, or lists all if there are none. The program continues after a
    /// scenario that fails.
    pub(crate) fn run(&self, parsed: Result<(Options, Vec<String>), String>) -> ExitCode {
        let (options, names) = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => return self.fail(&problem),
        };
        if names.is_empty() {
            println!("cargo bench --bench {} -- [--OPTION VALUE]... SCENARIO...\n", self.name);
            for (name, about, _) in self.scenarios {
                println!("    {name:13}{about}");
            }
            println!("{}", self.help);
            return ExitCode::SUCCESS;
        }
        self.raise_descriptor_limit();
        let mut outcome = ExitCode::SUCCESS;
        for name in names {
            let Some((_, about, run)) = self.scenarios.iter().find(|entry| entry.0 == name) else {
                return self.fail(&format!("unknown scenario {name}"));
            };
            println!("\n### {name}: {about}\n\n{}\n", machine());
            if let Err(problem) = run(&options) {
                outcome = self.fail(&format!("{name}: {problem}"));
            }
        }
        outcome
    }

    fn fail(&self, problem: &str) -> ExitCode {
        eprintln!("{}: {problem}", self.name);
        ExitCode::FAILURE
    }

    /// Raises the limit of open files to the hard limit: each client needs a descriptor.
    fn raise_descriptor_limit(&self) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            eprintln!("{}: cannot raise the limit of open files: {problem}", self.name);
        }
    }
}

/// The load of the machine, which shows whether the figures are comparable.
fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    format!("(load average before: {load} on {cpus} CPUs)")
}
