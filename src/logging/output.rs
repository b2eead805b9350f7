//! Writes lines without blocking, and captures what `simple_logger` prints.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    process,
};

use log::{Log as _, Record};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    stdio::dup2_stdout,
};
use simple_logger::SimpleLogger;

/// Maximum length of a line; the rest is cut off. It equals `PIPE_BUF`: a writable pipe accepts that much at once
/// and without interleaving.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// Redirects stdout to a file in memory while `simple_logger` prints a line.
///
/// `simple_logger` prints with `println!`, which panics when the pipe is broken or the disk is full, and blocks when
/// the pipe is full.
pub(super) struct StdoutCapture {
    memory: File,
    /// The process that made the memory file; a forked process needs its own.
    process: u32,
    /// The real stdout, which is restored after each line.
    stdout: File,
}

impl StdoutCapture {
    pub(super) fn new() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self { memory: memory_file()?, process: process::id(), stdout })
    }

    /// Returns the line that `printer` prints for a record.
    pub(super) fn print(
        &mut self,
        printer: &SimpleLogger,
        record: &Record<'_>,
    ) -> io::Result<Vec<u8>> {
        if self.process != process::id() {
            self.memory = memory_file()?;
            self.process = process::id();
        }
        self.memory.set_len(0)?;
        self.memory.rewind()?;
        dup2_stdout(&self.memory)?;
        printer.log(record);
        dup2_stdout(&self.stdout)?;
        let mut line = vec![0; LINE_BYTES_MAX];
        let length = self.memory.read_at(&mut line, 0)?;
        if length == LINE_BYTES_MAX
            && let Some(last) = line.last_mut()
        {
            *last = b'\n'; // ends a line that was cut
        }
        line.truncate(length);
        Ok(line)
    }
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("fibsrv log", MemfdFlags::CLOEXEC)?.into())
}

/// Writes a whole line, or returns an error if that would block.
pub(super) fn write_at_once(file: &File, line: &[u8]) -> io::Result<()> {
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
