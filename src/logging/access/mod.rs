//! The access log: a line for each answer, gathered during a turn of the loop and written at its end.
//!
//! [`Lines`] makes text of what is known of a request and its answer. This module has it written to stdout or
//! to a file. Nothing here waits: a line that is not taken at once is dropped and counted, and the process log
//! is told now and then how many there were. Not here: what is counted, and when a turn ends.

mod address;
mod backlog;
mod destination;
mod encoder;
pub mod lines;

pub use {address::Address, lines::Entry, lines::Format};

use std::{io, path::PathBuf};

use log::{error, info, warn};

use crate::logging::throttle::LogThrottle;
use backlog::Backlog;
use destination::Destination;
use lines::Lines;

/// With so many bytes gathered the turn's end is not awaited.
const GATHERED_BYTES_HIGH: usize = 64 * 1024;

/// What is to be logged, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// How lines are spelled.
    pub format: Format,
    /// The file to append to; none for stdout.
    pub file: Option<PathBuf>,
}

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    lines: Lines,
    backlog: Backlog,
    destination: Destination,
    losses: Losses,
    complaints: LogThrottle,
}

/// Lines that were dropped.
#[derive(Debug, Default)]
struct Losses {
    /// All of them.
    total: u64,
    /// Those that [`AccessLog::flush`] has not told of.
    uncounted: u64,
    /// Why the last of them was.
    reason: Option<io::Error>,
}

impl AccessLog {
    /// Opens the file, or stdout. An error tells the file's name.
    pub fn open(options: &Options) -> io::Result<Self> {
        let destination = Destination::open(options.file.as_deref()).map_err(|error| {
            let name = match &options.file {
                Some(file) => file.display().to_string(),
                None => "on stdout".to_owned(),
            };
            io::Error::new(error.kind(), format!("cannot open the access log {name}: {error}"))
        })?;
        Ok(Self {
            lines: Lines::new(options.format),
            backlog: Backlog::default(),
            destination,
            losses: Losses::default(),
            complaints: LogThrottle::default(),
        })
    }

    /// Puts an answer down.
    #[inline(never)] // to leave the way of an answer short where nothing is logged
    pub fn add(&mut self, entry: &Entry<'_>) {
        self.lines.add(entry);
    }

    /// Takes in that the answers put down since the last call have taken so long.
    pub fn settle(&mut self, duration_ns: u64) {
        self.lines.settle(duration_ns, &mut self.backlog.bytes);
        if self.backlog.bytes.len() >= GATHERED_BYTES_HIGH {
            self.write();
        }
    }

    /// Writes what has been gathered. Returns how many lines were dropped since the last call; the process log
    /// is told as well, but not every time.
    pub fn flush(&mut self, now_ns: u64) -> u64 {
        self.write();
        let dropped = std::mem::take(&mut self.losses.uncounted);
        if dropped > 0 {
            self.complaints.tell(now_ns, || self.losses.text("so far"));
        }
        dropped
    }

    /// Opens the file anew, under its name: the one that is open may have been given another. What has been
    /// gathered goes to the old one. If there is no new one to be had the old one stays.
    pub fn reopen(&mut self) {
        let Some(path) = self.destination.path() else { return };
        match Destination::open(Some(path)) {
            Ok(new) => {
                info!("the access log {} is opened anew", path.display());
                self.write();
                let begun = self.backlog.give_up_begun();
                self.losses.note(begun, None);
                self.destination = new;
            }
            Err(error) => error!("cannot open the access log {} anew: {error}", path.display()),
        }
    }

    /// Writes what is left, at the end of the process, and tells how many lines were dropped in all: what was
    /// told of them before may not have been taken either.
    pub fn close(&mut self) {
        self.write();
        if self.losses.total > 0 {
            warn!("{}", self.losses.text("in all"));
        }
    }

    fn write(&mut self) {
        if self.backlog.bytes.is_empty() {
            return;
        }
        let (taken, outcome) = self.destination.write(&self.backlog.bytes);
        let dropped = self.backlog.taken(taken);
        self.losses.note(dropped, outcome.err());
    }
}

impl Losses {
    fn note(&mut self, lines: u64, reason: Option<io::Error>) {
        self.total += lines;
        self.uncounted += lines;
        if reason.is_some() {
            self.reason = reason;
        }
    }

    fn text(&self, when: &str) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{} lines of the access log were dropped {when}{reason}", self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Status;

    fn add(log: &mut AccessLog, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\n\r\n");
        let (status, bytes) = (Status::Ok, 1);
        log.add(&Entry { peer: None, unix_ms: 0, request: request.as_bytes(), status, bytes });
        log.settle(1_000);
    }

    fn open(file: &str) -> AccessLog {
        let options = Options { format: Format::Combined, file: Some(file.into()) };
        AccessLog::open(&options).unwrap()
    }

    #[test]
    fn what_is_not_taken_is_counted_once() {
        let mut log = open("/dev/full");
        for _ in 0..3 {
            add(&mut log, "/");
        }
        assert_eq!((log.flush(0), log.flush(0)), (3, 0));
        add(&mut log, "/");
        assert_eq!(log.flush(1), 1);
        let text = log.losses.text("in all");
        assert!(
            text.starts_with("4 lines of the access log were dropped in all: No space"),
            "{text}"
        );
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let mut log = open("/dev/null");
        let target = format!("/{}", "x".repeat(1_000));
        for _ in 0..1_000 {
            add(&mut log, &target);
            assert!(log.backlog.bytes.len() < GATHERED_BYTES_HIGH);
        }
        assert!(!log.backlog.bytes.is_empty());
        assert_eq!((log.flush(0), log.backlog.bytes.len()), (0, 0));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let options = Options { format: Format::Json, file: Some("/dev/null/log".into()) };
        let error = AccessLog::open(&options).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the access log /dev/null/log: "), "{error}");
    }
}
