//! Where lines go: stdout or a file, and how each is written to without waiting.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, pipe::PIPE_BUF};

use crate::logging;
use crate::logging::access::lines::LINE_BYTES_MAX;

// So every piece ends at a line end.
const _: () = assert!(LINE_BYTES_MAX <= PIPE_BUF);

/// A file that is only ever appended to, or stdout.
#[derive(Debug)]
pub(super) struct Destination {
    file: File,
    manner: WriteMode,
    /// None if it is stdout.
    path: Option<PathBuf>,
}

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMode {
    /// All at once. What several processes append to a file is not mixed up: the kernel locks it for a write.
    File,
    /// In pieces that a pipe takes whole or not at all, and only when it takes one without waiting. So they are
    /// not mixed up with those of other processes either.
    PipeBuf,
}

impl Destination {
    /// Opens a file, which is made if it is not there; without a path it is stdout.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = match path {
            // Who asked for what is not for everybody to read.
            Some(path) => options().create(true).append(true).mode(0o640).open(path)?,
            None => stdout()?,
        };
        let is_file = file.metadata()?.is_file();
        let manner = if is_file { WriteMode::File } else { WriteMode::PipeBuf };
        Ok(Self { file, manner, path: path.map(Path::to_path_buf) })
    }

    /// Where it is, unless it is stdout.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Writes lines until they are all taken, or no more of them can be without waiting. Says how many bytes
    /// were taken.
    pub(super) fn write(&self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut taken = 0;
        while let Some(rest @ [_, ..]) = lines.get(taken..) {
            let outcome = match self.manner {
                WriteMode::File => (&self.file).write(rest),
                WriteMode::PipeBuf => logging::write_ready(&self.file, first_lines(rest, PIPE_BUF)),
            };
            match outcome {
                Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
                // If it was not all, the next attempt tells why.
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }
}

/// For a pipe without a reader to open at all, and for one with a slow reader not to keep us waiting. Files pay
/// no attention.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

/// Stdout, by a descriptor of its own: that of the process is lent to the logger at times.
fn stdout() -> io::Result<File> {
    let shared: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    if shared.metadata()?.is_file() {
        return Ok(shared); // by the position that it shares with the process log
    }
    // Others have the same pipe or terminal open, and have not asked for it not to block. It is opened once
    // more for us. Where that cannot be done (a socket, another user's pipe, no /proc) it does without: then
    // another process may fill it between our asking and our writing.
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    Ok(options().write(true).open(path).unwrap_or(shared))
}

/// The lines at the front that together are no longer than `most` bytes.
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
    fn pieces_end_at_line_ends() {
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
    fn a_pipe_takes_whole_lines_and_the_rest_is_left() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let destination = Destination { file, manner: WriteMode::PipeBuf, path: None };
        let all = lines(10_000);
        let (taken, outcome) = destination.write(&all);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(taken > PIPE_BUF && taken.is_multiple_of(LINE.len() + 1), "{taken}");
        let mut read = vec![0; taken];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, all[..taken]);
        let (taken, outcome) = destination.write(&lines(3));
        outcome.unwrap();
        assert_eq!(taken, lines(3).len());
        drop(reader);
        let (taken, outcome) = destination.write(LINE);
        assert_eq!((taken, outcome.unwrap_err().kind()), (0, io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_device_that_is_full_takes_nothing_and_a_missing_folder_is_an_error() {
        let full = Destination::open(Some(Path::new("/dev/full"))).unwrap();
        let (taken, outcome) = full.write(&lines(3));
        assert_eq!((taken, outcome.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
        let missing = Destination::open(Some(Path::new("/dev/null/log"))).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotADirectory);
    }
}
