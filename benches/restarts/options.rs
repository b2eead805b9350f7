//! What the command line can change.

use crate::{
    lab::words::{self, EXECUTABLE, number},
    load::Mix,
};

/// The options, for the help text.
pub(crate) const HELP: &str = "
    --restarts N    upgrades or rolling restarts (default: 6; slots: 50)
    --requests N    until at least so many were answered while restarting (default: 40000)
    --kills N       how many processes are killed (default: 5)
    --processes N   independent processes on the port (default: 2; scrapes: 3)
    --scrapes N     scrapes at rest (default: 50)
    --work US       microseconds of work that a request costs the server, about (default: 0)
    --newcomers N   clients with a connection for each request (default: 8; with work 64)
    --flags FLAGS   further flags for the servers
    --server PATH   the executable (default: this build's fibsrv)";

/// Servers that leave have kept connections ask once more for so long. A fifth of the default, so that a
/// restart does not take longer than clients need to see one.
const GRACE: &str = "--drain-grace 1s";

/// Chunks of a body that take the server a microsecond to parse.
const CHUNKS_PER_US: usize = 40;

/// The command line, checked.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) restarts: Option<usize>,
    pub(crate) requests: u64,
    pub(crate) kills: usize,
    pub(crate) processes: Option<usize>,
    pub(crate) scrapes: usize,
    work: usize,
    newcomers: Option<usize>,
    flags: String,
    server: String,
}

impl Options {
    /// The options and the names of scenarios.
    pub(crate) fn parse(
        words: impl Iterator<Item = String>,
    ) -> Result<(Self, Vec<String>), String> {
        let mut options = Self {
            restarts: None,
            requests: 40_000,
            kills: 5,
            processes: None,
            scrapes: 50,
            work: 0,
            newcomers: None,
            flags: String::new(),
            server: EXECUTABLE.to_owned(),
        };
        let names = words::sort(words, |word, value| options.set(word, value))?;
        Ok((options, names))
    }

    fn set(&mut self, word: &str, value: String) -> Result<(), String> {
        match word {
            "--restarts" => self.restarts = Some(number(&value)?),
            "--requests" => self.requests = number(&value)?,
            "--kills" => self.kills = number(&value)?,
            "--processes" => self.processes = Some(number(&value)?),
            "--scrapes" => self.scrapes = number(&value)?,
            "--work" => self.work = number(&value)?,
            "--newcomers" => self.newcomers = Some(number(&value)?),
            "--flags" => self.flags = value,
            "--server" => self.server = value,
            _ => return words::unknown(word),
        }
        Ok(())
    }

    /// The command that starts a server on this address.
    pub(crate) fn command(&self, address: &str, flags: &str) -> String {
        format!("{} --listen {address} {GRACE} {flags} {}", self.server, self.flags)
    }

    /// Clients of all kinds.
    pub(crate) fn mix(&self) -> Mix {
        let usual = if self.work > 0 { 64 } else { 8 };
        Mix {
            newcomers: self.newcomers.unwrap_or(usual),
            regulars: 24,
            sleepers: 8,
            readers: 6,
            askers: 6,
            chunks: self.work * CHUNKS_PER_US,
        }
    }
}
