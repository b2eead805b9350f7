//! The logger: `simple_logger` words the lines, and stdout gets those that it takes at once.
//!
//! `simple_logger` prints with `println!`, which panics when a pipe's reader has gone or a disk is full, and
//! waits when the reader does not read. A stranger who can provoke a line could then stop the server. So
//! a line is printed on a sheet in memory, and offered to stdout from there. Lines that stdout does not
//! take are dropped, and their number is told when it takes lines again.

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

/// Longest line; the rest is cut off. It is the kernel's `PIPE_BUF`: a pipe that is ready for writing takes
/// so much without waiting, and in one piece.
const LINE_BYTES_MAX: usize = 4096;

/// Has stdout told what is logged from now on, at this level or graver.
pub fn start(level: LevelFilter) -> Result<(), Box<dyn Error>> {
    let sheet = StdoutCapture {
        memory: blank()?,
        stdout: io::stdout().as_fd().try_clone_to_owned()?.into(),
    };
    log::set_boxed_logger(Box::new(Logger {
        printer: SimpleLogger::new().with_level(level).with_utc_timestamps(),
        state: Mutex::new(State { sheet, process: process::id(), dropped: 0 }),
    }))?;
    log::set_max_level(level);
    Ok(())
}

struct Logger {
    printer: SimpleLogger,
    state: Mutex<State>,
}

struct State {
    sheet: StdoutCapture,
    /// Whose sheet that is: a forked process needs one of its own.
    process: u32,
    /// Lines that stdout has not taken, and has not been told of.
    dropped: u64,
}

impl State {
    fn renew(&mut self) -> io::Result<()> {
        self.sheet.memory = blank()?;
        self.process = process::id();
        Ok(())
    }
}

fn blank() -> io::Result<File> {
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
            return; // and nobody is left to tell why
        }
        let State { sheet, dropped, .. } = &mut *state;
        if *dropped > 0 {
            let mut notice = Record::builder();
            // The level of the line that follows, so that this one is not filtered out before it.
            notice.level(record.level()).target(module_path!());
            let text = format_args!("{dropped} log lines were dropped");
            if sheet.pass_on(&self.printer, &notice.args(text).build()).is_ok() {
                *dropped = 0;
            }
        }
        if sheet.pass_on(&self.printer, record).is_err() {
            *dropped += 1; // and nobody is left to tell why
        }
    }

    fn flush(&self) {}
}

/// What stands in for stdout while a line is printed.
struct StdoutCapture {
    memory: File,
    /// The real one, which has its place back before anybody else can print.
    stdout: File,
}

impl StdoutCapture {
    /// Prints a line and hands it on to the real stdout.
    fn pass_on(&mut self, printer: &SimpleLogger, record: &Record<'_>) -> io::Result<()> {
        self.memory.set_len(0)?;
        self.memory.rewind()?;
        dup2_stdout(&self.memory)?;
        printer.log(record);
        dup2_stdout(&self.stdout)?;
        let mut line = [0; LINE_BYTES_MAX];
        let length = self.memory.read_at(&mut line, 0)?;
        let [.., last] = &mut line;
        *last = b'\n'; // of a line that was cut
        write_at_once(&self.stdout, line.get(..length).unwrap_or_default())
    }
}

/// Writes a line if that is possible without waiting.
fn write_at_once(file: &File, line: &[u8]) -> io::Result<()> {
    if write_ready(file, line)? < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Writes what is taken at once, and says how many bytes that were. A pipe takes up to its `PIPE_BUF` whole or
/// not at all.
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
    fn a_pipe_takes_whole_lines_until_it_is_full_and_again_when_it_is_read() {
        let (mut reader, writer) = pipe();
        let line = [b'x'; LINE_BYTES_MAX];
        let taken = (0..10_000).take_while(|_| write_at_once(&writer, &line).is_ok()).count();
        assert!((1..10_000).contains(&taken));
        let refusal = write_at_once(&writer, &line).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
        let mut all = vec![0; taken * line.len()];
        reader.read_exact(&mut all).unwrap();
        write_at_once(&writer, b"one more\n").unwrap();
        drop(writer);
        all.clear();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"one more\n", "nothing of the line that was refused");
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
