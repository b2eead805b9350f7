//! Options of the command line.

use crate::{
    harness::args::{self, EXECUTABLE, number},
    load::Mix,
};

/// The options in the help text.
pub(crate) const HELP: &str = "
    --restarts N    upgrades or rolling restarts (default: 6; slots: 50)
    --requests N    minimum number of responses while restarting (default: 40000)
    --kills N       number of kills (default: 5)
    --processes N   independent processes on the port (default: 2; scrapes: 3)
    --workers N     workers of a supervisor (default: 2; spread: 4; burst: 32; startup: 64)
    --scrapes N     scrapes at rest (default: 50)
    --work US       approximate CPU time of the server per request in microseconds (default: 0)
    --clients N     clients with a connection for each request (default: 8; with work 64)
    --flags FLAGS   further flags for the servers
    --server PATH   the executable (default: this build's fibsrv)
    --beside PATH   another one, measured in the same rounds by busy and saturated; may be repeated";

/// A fifth of the default grace, so that a restart does not take longer than its effect on the clients.
const GRACE: &str = "--drain-grace 1s";

/// Chunks that the server parses in about a microsecond.
const CHUNKS_PER_US: usize = 40;

/// Parsed options.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) restarts: Option<usize>,
    pub(crate) requests: u64,
    pub(crate) kills: usize,
    pub(crate) processes: Option<usize>,
    pub(crate) workers: Option<usize>,
    pub(crate) scrapes: usize,
    work: usize,
    clients: Option<usize>,
    flags: String,
    server: String,
    beside: Vec<String>,
}

impl Options {
    /// Parses options and names of scenarios.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<(Self, Vec<String>), String> {
        let mut options = Self {
            restarts: None,
            requests: 40_000,
            kills: 5,
            processes: None,
            workers: None,
            scrapes: 50,
            work: 0,
            clients: None,
            flags: String::new(),
            server: EXECUTABLE.to_owned(),
            beside: Vec::new(),
        };
        let names = args::parse(args, |option, value| options.set(option, value))?;
        Ok((options, names))
    }

    fn set(&mut self, option: &str, value: String) -> Result<(), String> {
        match option {
            "--restarts" => self.restarts = Some(number(&value)?),
            "--requests" => self.requests = number(&value)?,
            "--kills" => self.kills = number(&value)?,
            "--processes" => self.processes = Some(number(&value)?),
            "--workers" => self.workers = Some(number(&value)?),
            "--scrapes" => self.scrapes = number(&value)?,
            "--work" => self.work = number(&value)?,
            "--clients" => self.clients = Some(number(&value)?),
            "--flags" => self.flags = value,
            "--server" => self.server = value,
            "--beside" => self.beside.push(value),
            _ => return args::unknown(option),
        }
        Ok(())
    }

    /// Returns the command that starts a server on this address.
    pub(crate) fn command(&self, address: &str, flags: &str) -> String {
        self.command_of(&self.server, address, flags)
    }

    /// Returns the command that starts one of the executables on this address.
    pub(crate) fn command_of(&self, executable: &str, address: &str, flags: &str) -> String {
        format!("{executable} --listen {address} {GRACE} {flags} {}", self.flags)
    }

    /// The executables to compare, the one under test last.
    pub(crate) fn executables(&self) -> impl Iterator<Item = &str> {
        self.beside.iter().chain([&self.server]).map(String::as_str)
    }

    /// Returns the number of clients of each kind.
    pub(crate) fn mix(&self) -> Mix {
        let default = if self.work > 0 { 64 } else { 8 };
        Mix {
            single_request: self.clients.unwrap_or(default),
            keep_alive_clients: 24,
            idle_clients: 8,
            slow_readers: 6,
            slow_senders: 6,
            chunks: self.work * CHUNKS_PER_US,
        }
    }
}
