//! Destination of the access log: stdout or a file, each written without blocking.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, OFlags, accessat},
    pipe::PIPE_BUF,
};

use crate::logging;
use crate::logging::access::lines::LINE_BYTES_MAX;

// Every write to a pipe ends at a line end.
const _: () = assert!(LINE_BYTES_MAX <= PIPE_BUF);

/// A file that is opened for appending, or stdout.
#[derive(Debug)]
pub(super) struct Destination {
    file: File,
    mode: WriteMode,
    /// None: stdout.
    path: Option<PathBuf>,
}

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMode {
    /// All at once. The kernel locks a regular file during a write, so lines of several processes do not interleave.
    File,
    /// In chunks of at most `PIPE_BUF` bytes, which a pipe accepts completely or not at all, and only while it is
    /// writable. So lines of several processes do not interleave here either.
    PipeBuf,
}

impl Destination {
    /// Opens a file, which is created if it does not exist. Without a path it is stdout.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = match path {
            // Client addresses and targets are not world-readable.
            Some(path) => options().create(true).append(true).mode(0o640).open(path)?,
            None => stdout()?,
        };
        let is_file = file.metadata()?.is_file();
        let mode = if is_file { WriteMode::File } else { WriteMode::PipeBuf };
        Ok(Self { file, mode, path: path.map(Path::to_path_buf) })
    }

    /// Checks that [`Destination::open`] would succeed, without creating a file: one that another user creates, or one
    /// created in the middle of a rotation, would be in the way of the server.
    pub(super) fn check(path: Option<&Path>) -> io::Result<()> {
        let Some(path) = path else { return stdout().map(drop) };
        match options().append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let access = Access::WRITE_OK | Access::EXEC_OK;
                let directory = parent.unwrap_or_else(|| Path::new("."));
                Ok(accessat(CWD, directory, access, AtFlags::EACCESS)?)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Returns the path of the file; none: stdout.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Writes lines until all are written or the next write would block. Returns the number of bytes written.
    pub(super) fn write(&self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = lines.get(written..) {
            let outcome = match self.mode {
                WriteMode::File => (&self.file).write(rest),
                WriteMode::PipeBuf => logging::write_ready(&self.file, first_lines(rest, PIPE_BUF)),
            };
            match outcome {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                // After a partial write the next attempt returns the error.
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

/// Non-blocking: opening a FIFO without a reader fails instead of blocking, and a full pipe does not block a write.
/// Regular files ignore it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

/// Returns stdout under a descriptor of its own, as the logger redirects the usual one while it prints a line.
fn stdout() -> io::Result<File> {
    let shared: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    if shared.metadata()?.is_file() {
        return Ok(shared); // shares its file position with the process log
    }
    // Other processes share this open file description of a pipe or terminal and do not expect O_NONBLOCK, so it is
    // opened again. Where that fails (a socket, another user's pipe, no /proc) the shared one is used: another
    // process may then fill it between poll and write.
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    Ok(options().write(true).open(path).unwrap_or(shared))
}

/// Returns the leading lines that together have at most `most` bytes.
fn first_lines(lines: &[u8], most: usize) -> &[u8] {
    let piece = lines.get(..most).unwrap_or(lines);
    let length = memchr::memrchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
    piece.get(..length).unwrap_or(piece)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd};

    use super::*;

    const LINE: &[u8] = &[b'x'; 100];

    fn lines(count: usize) -> Vec<u8> {
        [LINE, b"\n"].concat().repeat(count)
    }

    #[test]
    fn chunks_end_at_line_ends() {
        for (lines, most, expected) in [
            ("a\nb\n", 10, "a\nb\n"),
            ("a\nb\n", 4, "a\nb\n"),
            ("a\nb\n", 3, "a\n"),
            ("a\nb\n", 2, "a\n"),
            ("ab\n", 2, "ab"),
        ] {
            assert_eq!(
                first_lines(lines.as_bytes(), most),
                expected.as_bytes(),
                "{lines:?} {most}"
            );
        }
    }

    #[test]
    fn a_pipe_accepts_whole_lines_and_the_rest_is_left() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let destination = Destination { file, mode: WriteMode::PipeBuf, path: None };
        let all = lines(10_000);
        let (written, outcome) = destination.write(&all);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(written > PIPE_BUF && written.is_multiple_of(LINE.len() + 1), "{written}");
        let mut read = vec![0; written];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, all[..written]);
        let (written, outcome) = destination.write(&lines(3));
        outcome.unwrap();
        assert_eq!(written, lines(3).len());
        drop(reader);
        let (written, outcome) = destination.write(LINE);
        assert_eq!((written, outcome.unwrap_err().kind()), (0, io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_full_device_accepts_nothing_and_a_missing_directory_is_an_error() {
        let full = Destination::open(Some(Path::new("/dev/full"))).unwrap();
        let (written, outcome) = full.write(&lines(3));
        assert_eq!((written, outcome.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
        let missing = Destination::open(Some(Path::new("/dev/null/log"))).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_check_creates_no_file() {
        let check =
            |path: &str| Destination::check(Some(Path::new(path))).map_err(|error| error.kind());
        check("/dev/full").unwrap();
        let path = std::env::temp_dir().join(format!("fibsrv-check-{}.log", std::process::id()));
        check(path.to_str().unwrap()).unwrap();
        assert!(!path.exists());
        check("no-such-file.log").unwrap();
        assert_eq!(check("/dev/null/log"), Err(io::ErrorKind::NotADirectory));
        assert_eq!(check("/nowhere/a.log"), Err(io::ErrorKind::NotFound));
    }
}
