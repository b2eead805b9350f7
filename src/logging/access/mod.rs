//! The access log: one line per response, collected during an iteration of the event loop and written at its end.
//!
//! [`lines::Lines`] formats the lines; this module writes them to stdout or to a file. Nothing here blocks: lines that
//! cannot be written at once are dropped and counted, and a throttled warning reports the count. Not here: the metrics,
//! and when an iteration ends.

pub mod address;
mod backlog;
mod destination;
mod encoder;
pub mod lines;
mod request_fields;
mod trace_context;

pub use {address::ClientAddress, lines::LineFormat, lines::LogEntry};

use std::{io, path::PathBuf};

use log::{error, info, warn};

use crate::logging::throttle::LogThrottle;
use backlog::Backlog;
use destination::Destination;

/// With this many bytes collected, lines are written before the iteration ends.
const COLLECTED_BYTES_HIGH: usize = 64 * 1024;

/// Format and destination of an access log.
#[derive(Clone, Debug)]
pub struct AccessLogOptions {
    /// Format of the lines.
    pub format: LineFormat,
    /// File to append to; none: stdout.
    pub file: Option<PathBuf>,
}

impl AccessLogOptions {
    fn error(&self, error: &io::Error) -> io::Error {
        let name = match &self.file {
            Some(file) => file.display().to_string(),
            None => "on stdout".to_owned(),
        };
        io::Error::new(error.kind(), format!("cannot open the access log {name}: {error}"))
    }
}

/// An open access log.
#[derive(Debug)]
pub struct AccessLog {
    backlog: Backlog,
    destination: Destination,
    losses: Losses,
    throttle: LogThrottle,
}

/// Counts of dropped lines.
#[derive(Debug, Default)]
struct Losses {
    /// Since the log was opened.
    total: u64,
    /// Since the last [`AccessLog::flush`].
    recent: u64,
    /// Why the most recent line was dropped.
    reason: Option<io::Error>,
}

impl AccessLog {
    /// Opens the file, or stdout. The error names the file.
    pub fn open(options: &AccessLogOptions) -> io::Result<Self> {
        let destination = Destination::open(options.file.as_deref());
        let destination = destination.map_err(|error| options.error(&error))?;
        Ok(Self {
            backlog: Backlog::default(),
            destination,
            losses: Losses::default(),
            throttle: LogThrottle::default(),
        })
    }

    /// Checks that the file can be opened, without creating it.
    pub fn check(options: &AccessLogOptions) -> io::Result<()> {
        Destination::check(options.file.as_deref()).map_err(|error| options.error(&error))
    }

    /// Takes complete lines out of `lines`, for [`Self::flush`] to write. Writes at once if there are many.
    pub fn append(&mut self, lines: &mut Vec<u8>) {
        self.backlog.bytes.append(lines);
        if self.backlog.bytes.len() >= COLLECTED_BYTES_HIGH {
            self.write();
        }
    }

    /// Writes the collected lines. Returns the number of lines dropped since the last call, and logs a throttled
    /// warning if there were any.
    pub fn flush(&mut self, now_ns: u64) -> u64 {
        self.write();
        let dropped = std::mem::take(&mut self.losses.recent);
        if dropped > 0 {
            self.throttle.warn(now_ns, || self.losses.report("so far"));
        }
        dropped
    }

    /// Reopens the file by its path, after log rotation has renamed it. Lines collected so far go to the old file. If
    /// the new file cannot be opened, the old one stays in use.
    pub fn reopen(&mut self) {
        let Some(path) = self.destination.path() else { return };
        match Destination::open(Some(path)) {
            Ok(new) => {
                info!("reopened the access log {}", path.display());
                self.write();
                let begun = self.backlog.discard_partial();
                self.losses.add(begun, None);
                self.destination = new;
            }
            Err(error) => {
                let path = path.display();
                error!(
                    "cannot reopen the access log {path}: {error}; still writing to the old file"
                );
            }
        }
    }

    /// Writes the remaining lines at the end of the process and logs the total number of dropped lines. Earlier
    /// warnings may have been dropped too.
    pub fn close(&mut self) {
        self.write();
        if self.losses.total > 0 {
            warn!("{}", self.losses.report("in total"));
        }
    }

    fn write(&mut self) {
        if self.backlog.bytes.is_empty() {
            return;
        }
        let (written, outcome) = self.destination.write(&self.backlog.bytes);
        let dropped = self.backlog.advance(written);
        self.losses.add(dropped, outcome.err());
    }
}

impl Losses {
    fn add(&mut self, lines: u64, reason: Option<io::Error>) {
        self.total += lines;
        self.recent += lines;
        if reason.is_some() {
            self.reason = reason;
        }
    }

    fn report(&self, period: &str) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("dropped {} access log lines {period}{reason}", self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &mut AccessLog, text: &str) {
        log.append(&mut format!("{text}\n").into_bytes());
    }

    fn open(file: &str) -> AccessLog {
        let options = AccessLogOptions { format: LineFormat::Combined, file: Some(file.into()) };
        AccessLog::open(&options).unwrap()
    }

    #[test]
    fn dropped_lines_are_counted_once() {
        let mut log = open("/dev/full");
        for _ in 0..3 {
            add(&mut log, "/");
        }
        assert_eq!((log.flush(0), log.flush(0)), (3, 0));
        add(&mut log, "/");
        assert_eq!(log.flush(1), 1);
        let text = log.losses.report("in total");
        assert!(text.starts_with("dropped 4 access log lines in total: No space"), "{text}");
    }

    #[test]
    fn collected_lines_are_bounded() {
        let mut log = open("/dev/null");
        let target = format!("/{}", "x".repeat(1_000));
        for _ in 0..1_000 {
            add(&mut log, &target);
            assert!(log.backlog.bytes.len() < COLLECTED_BYTES_HIGH);
        }
        assert!(!log.backlog.bytes.is_empty());
        assert_eq!((log.flush(0), log.backlog.bytes.len()), (0, 0));
    }

    #[test]
    fn the_error_names_a_file_that_cannot_be_opened() {
        let options =
            AccessLogOptions { format: LineFormat::Json, file: Some("/dev/null/log".into()) };
        let error = AccessLog::open(&options).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the access log /dev/null/log: "), "{error}");
    }
}
