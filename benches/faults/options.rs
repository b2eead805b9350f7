//! Options of the command line.

use crate::harness::args::{self, EXECUTABLE, number};
use std::time::{Duration, SystemTime};

/// The options in the help text.
pub(crate) const HELP: &str = "
    --server COMMAND   run by a shell; {port} becomes a free port, else the address is read from
                       the line 'listening on ADDRESS' (default: this build's fibsrv on port 0)
    --clients N        number of attacking clients (each scenario has its default; idle: the only step)
    --seconds N        duration of flood and burst
    --wait N           seconds that slow, unread and flood wait to be closed (default: 90)
    --path PATH        target of the requests of unread (default: /api/fibonacci/10000)
    --count N          requests of each client of unread (default: 2000)
    --requests N       requests of random (default: 1000000)
    --largest N        largest n of random (default: 10000)
    --seed N           the seed of random (default: from the clock)";

/// Parsed options.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) server: String,
    pub(crate) clients: Option<usize>,
    pub(crate) seconds: Option<u64>,
    pub(crate) wait: Duration,
    pub(crate) path: String,
    pub(crate) count: usize,
    pub(crate) requests: usize,
    pub(crate) largest: usize,
    pub(crate) seed: u64,
}

impl Options {
    /// Parses options and names of scenarios.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<(Self, Vec<String>), String> {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut options = Self {
            server: format!("{EXECUTABLE} --listen 127.0.0.1:0"),
            clients: None,
            seconds: None,
            wait: Duration::from_secs(90),
            path: "/api/fibonacci/10000".to_owned(),
            count: 2000,
            requests: 1_000_000,
            largest: 10_000,
            seed: since_epoch.map_or(1, |age| u64::from(age.subsec_nanos())),
        };
        let names = args::parse(args, |option, value| options.set(option, value))?;
        Ok((options, names))
    }

    fn set(&mut self, option: &str, value: String) -> Result<(), String> {
        match option {
            "--server" => self.server = value,
            "--path" => self.path = value,
            "--clients" => self.clients = Some(number(&value)?),
            "--seconds" => self.seconds = Some(number(&value)?),
            "--wait" => self.wait = Duration::from_secs(number(&value)?),
            "--count" => self.count = number(&value)?,
            "--requests" => self.requests = number(&value)?,
            "--largest" => self.largest = number(&value)?,
            "--seed" => self.seed = number(&value)?,
            _ => return args::unknown(option),
        }
        Ok(())
    }
}
