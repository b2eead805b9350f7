//! Process events: one line each on stdout or stderr, in one of three formats, written without blocking.
//!
//! Every line carries the process id and, in a worker, its number. A client that can cause a log line must not be able
//! to stop the server, so lines that cannot be written at once are dropped and counted; the count is logged before the
//! next line that can be written.

pub mod access;
mod event;
mod output;
pub mod throttle;

use std::{
    error::Error,
    fs::File,
    io,
    os::fd::AsFd as _,
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use event::Identity;
pub(crate) use output::write_ready;
use output::{StdoutCapture, write_at_once};

use crate::sys::clock;

/// What to log, how and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Minimum severity.
    pub level: LevelFilter,
    /// Format of the lines.
    pub format: EventFormat,
    /// Destination.
    pub stream: Stream,
}

/// Format of process events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// Text of `simple_logger`.
    Text,
    /// A JSON object.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// Destination of process events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Number of this worker; [`NO_WORKER`] in other processes. The logger is global, and so is what its lines carry.
static WORKER: AtomicU32 = AtomicU32::new(NO_WORKER);
const NO_WORKER: u32 = u32::MAX;

/// Sets the number that log lines of this process carry from now on.
pub fn set_worker(number: usize) {
    WORKER.store(u32::try_from(number).unwrap_or(NO_WORKER), Ordering::Relaxed);
}

/// Installs the logger.
pub fn start(options: LogOptions) -> Result<(), Box<dyn Error>> {
    let file = match options.stream {
        Stream::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
    };
    let (capture, missing) = match options.format {
        EventFormat::Text => match StdoutCapture::new() {
            Ok(capture) => (Some(capture), None),
            Err(error) => (None, Some(error)),
        },
        EventFormat::Json | EventFormat::Logfmt => (None, None),
    };
    log::set_boxed_logger(Box::new(Logger {
        printer: SimpleLogger::new().with_level(options.level).with_utc_timestamps(),
        format: options.format,
        state: Mutex::new(LogStream { file: file.into(), capture, dropped: 0 }),
    }))?;
    log::set_max_level(options.level);
    if let Some(error) = missing {
        log::warn!("cannot use --log-format text: memfd_create: {error}; using logfmt");
    }
    Ok(())
}

struct Logger {
    printer: SimpleLogger,
    format: EventFormat,
    state: Mutex<LogStream>,
}

struct LogStream {
    file: File,
    /// Formats text; without it lines are logfmt.
    capture: Option<StdoutCapture>,
    /// Number of lines dropped since the last line that was written.
    dropped: u64,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = state.dropped;
        if dropped > 0 {
            let mut notice = Record::builder();
            // The level of the next line, so that this one is not filtered out.
            notice.level(record.level()).target(module_path!());
            let text = format_args!("dropped {dropped} log lines");
            if self.write(&mut state, &notice.args(text).build()).is_ok() {
                state.dropped = 0;
            }
        }
        if self.write(&mut state, record).is_err() {
            state.dropped += 1; // there is no other place to report it
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn write(&self, state: &mut LogStream, record: &Record<'_>) -> io::Result<()> {
        let number = WORKER.load(Ordering::Relaxed);
        let worker = (number != NO_WORKER).then_some(number);
        let identity = Identity { pid: process::id(), worker };
        let line = match (&mut state.capture, self.format) {
            (Some(capture), _) => {
                let mut identified = Record::builder();
                identified.metadata(record.metadata().clone());
                let text = format_args!("{identity} {}", record.args());
                capture.print(&self.printer, &identified.args(text).build())?
            }
            (None, EventFormat::Json) => event::json(record, identity, clock::wall_ms()),
            (None, EventFormat::Text | EventFormat::Logfmt) => {
                event::logfmt(record, identity, clock::wall_ms())
            }
        };
        write_at_once(&state.file, &line)
    }
}
