//! Process events: `simple_logger` formats the lines, and they are written to stdout without blocking.
//!
//! `simple_logger` prints with `println!`, which panics when the pipe is broken or the disk is full, and blocks when
//! the pipe is full. A client that can cause a log line could then stop the server. So stdout is redirected to a
//! file in memory while a line is printed, and the line is copied from there with one non-blocking write. Lines that
//! cannot be written are dropped and counted; the count is logged before the next line that can be.

pub mod access;
pub mod throttle;

use std::{
    error::Error,
    fs::File,
    io::{self, Seek as _, Write as _},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    process,
    sync::{Mutex, PoisonError},
};

use log::{LevelFilter, Log, Metadata, Record};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    stdio::dup2_stdout,
};
use simple_logger::SimpleLogger;

/// Maximum length of a line; the rest is cut off. It equals `PIPE_BUF`: a writable pipe accepts that much at once
/// and without interleaving.
const LINE_BYTES_MAX: usize = 4096;

/// Installs the logger. It writes events of `level` and above to stdout.
pub fn start(level: LevelFilter) -> Result<(), Box<dyn Error>> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?.into();
    let (capture, missing) = match memory_file() {
        Ok(memory) => (Some(StdoutCapture { memory, stdout }), None),
        Err(error) => (None, Some(error)),
    };
    log::set_boxed_logger(Box::new(Logger {
        printer: SimpleLogger::new().with_level(level).with_utc_timestamps(),
        state: Mutex::new(State { capture, process: process::id(), dropped: 0 }),
    }))?;
    log::set_max_level(level);
    if let Some(error) = missing {
        log::warn!("memfd_create is not available ({error}); log lines may wait for stdout");
    }
    Ok(())
}

struct Logger {
    printer: SimpleLogger,
    state: Mutex<State>,
}

struct State {
    /// Without it lines are printed directly.
    capture: Option<StdoutCapture>,
    /// The process that made the memory file; a forked process needs its own.
    process: u32,
    /// Number of lines dropped since the last line that was written.
    dropped: u64,
}

impl State {
    fn renew(&mut self) -> io::Result<()> {
        if let Some(capture) = &mut self.capture {
            capture.memory = memory_file()?;
        }
        self.process = process::id();
        Ok(())
    }
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("fibsrv log", MemfdFlags::CLOEXEC)?.into())
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
        if state.process != process::id() && state.renew().is_err() {
            return; // there is no other place to report it
        }
        let State { capture, dropped, .. } = &mut *state;
        let Some(capture) = capture else { return self.printer.log(record) };
        if *dropped > 0 {
            let mut notice = Record::builder();
            // The level of the next line, so that this one is not filtered out.
            notice.level(record.level()).target(module_path!());
            let text = format_args!("dropped {dropped} log lines");
            if capture.print(&self.printer, &notice.args(text).build()).is_ok() {
                *dropped = 0;
            }
        }
        if capture.print(&self.printer, record).is_err() {
            *dropped += 1; // there is no other place to report it
        }
    }

    fn flush(&self) {}
}

/// Redirects stdout to a file in memory while a line is printed.
struct StdoutCapture {
    memory: File,
    /// The real stdout, which is restored after each line.
    stdout: File,
}

impl StdoutCapture {
    /// Prints a line and copies it to the real stdout.
    fn print(&mut self, printer: &SimpleLogger, record: &Record<'_>) -> io::Result<()> {
        self.memory.set_len(0)?;
        self.memory.rewind()?;
        dup2_stdout(&self.memory)?;
        printer.log(record);
        dup2_stdout(&self.stdout)?;
        let mut line = [0; LINE_BYTES_MAX];
        let length = self.memory.read_at(&mut line, 0)?;
        let [.., last] = &mut line;
        *last = b'\n'; // ends a line that was cut
        write_at_once(&self.stdout, line.get(..length).unwrap_or_default())
    }
}

/// Writes a whole line, or returns an error if that would block.
fn write_at_once(file: &File, line: &[u8]) -> io::Result<()> {
    if write_ready(file, line)? < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Writes as much as possible without blocking and returns the number of bytes written. A pipe accepts up to
/// `PIPE_BUF` bytes completely or not at all.
pub(crate) fn write_ready(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    let mut files = [PollFd::new(file, PollFlags::OUT)];
    poll(&mut files, Some(&Timespec::default()))?;
    if !files.iter().any(|file| file.revents().contains(PollFlags::OUT)) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    file.write(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Read as _, os::fd::OwnedFd};

    use super::*;

    fn pipe() -> (io::PipeReader, File) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, OwnedFd::from(writer).into())
    }

    #[test]
    fn a_pipe_accepts_whole_lines_until_it_is_full_and_again_once_it_is_read() {
        let (mut reader, writer) = pipe();
        let line = [b'x'; LINE_BYTES_MAX];
        let written = (0..10_000).take_while(|_| write_at_once(&writer, &line).is_ok()).count();
        assert!((1..10_000).contains(&written));
        let error = write_at_once(&writer, &line).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut all = vec![0; written * line.len()];
        reader.read_exact(&mut all).unwrap();
        write_at_once(&writer, b"one more\n").unwrap();
        drop(writer);
        all.clear();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"one more\n", "nothing of the line that did not fit");
    }

    #[test]
    fn errors_are_returned() {
        let (reader, writer) = pipe();
        drop(reader);
        let gone = write_at_once(&writer, b"line\n").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = write_at_once(&full, b"line\n").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
