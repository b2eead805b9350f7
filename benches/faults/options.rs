//! What the command line can change.

use crate::lab::words::{self, EXECUTABLE, number};
use std::time::{Duration, SystemTime};

/// The options, for the help text.
pub(crate) const HELP: &str = "
    --server COMMAND   run by a shell; {port} becomes a free port, else the address is read from
                       the line 'listening on ADDRESS' (default: this build's fibsrv on port 0)
    --clients N        how many attackers (each scenario has its default; idle: the only step)
    --seconds N        how long flood and burst go on
    --wait N           how many seconds slow, unread and flood wait to be cut off (default: 30)
    --path PATH        what unread asks for (default: /api/fibonacci/10000)
    --count N          how many times each of its clients asks (default: 2000)
    --requests N       how many requests random sends (default: 1000000)
    --largest N        the largest n that random asks for (default: 10000)
    --seed N           the seed of random (default: from the clock)";

/// The command line, checked.
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
    /// The options and the names of scenarios.
    pub(crate) fn parse(
        words: impl Iterator<Item = String>,
    ) -> Result<(Self, Vec<String>), String> {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut options = Self {
            server: format!("{EXECUTABLE} --listen 127.0.0.1:0"),
            clients: None,
            seconds: None,
            wait: Duration::from_secs(30),
            path: "/api/fibonacci/10000".to_owned(),
            count: 2000,
            requests: 1_000_000,
            largest: 10_000,
            seed: since_epoch.map_or(1, |age| u64::from(age.subsec_nanos())),
        };
        let names = words::sort(words, |word, value| options.set(word, value))?;
        Ok((options, names))
    }

    fn set(&mut self, word: &str, value: String) -> Result<(), String> {
        match word {
            "--server" => self.server = value,
            "--path" => self.path = value,
            "--clients" => self.clients = Some(number(&value)?),
            "--seconds" => self.seconds = Some(number(&value)?),
            "--wait" => self.wait = Duration::from_secs(number(&value)?),
            "--count" => self.count = number(&value)?,
            "--requests" => self.requests = number(&value)?,
            "--largest" => self.largest = number(&value)?,
            "--seed" => self.seed = number(&value)?,
            _ => return words::unknown(word),
        }
        Ok(())
    }
}
