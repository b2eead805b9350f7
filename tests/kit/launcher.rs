//! Starts a server and waits until it listens.

use std::{
    io::{self, BufRead as _, BufReader, Error, ErrorKind, PipeReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Maximum time from the start of the process to the line that says where it listens.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);

/// A process that listens.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// Its log, from the line after the one with the address.
    pub(crate) log: BufReader<PipeReader>,
    pub(crate) address: SocketAddr,
    /// The lines before the one with the address.
    pub(crate) preface: String,
    /// The line with the address.
    pub(crate) startup_line: String,
}

/// The streams of a process that are its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    Stdout,
    StdoutAndStderr,
}

/// Starts a process and waits for the line `listening on ADDRESS` in its log. A process that does not get there is
/// killed.
pub(crate) fn launch(command: &mut Command, streams: Streams) -> io::Result<Launched> {
    let (reader, writer) = io::pipe()?;
    if streams == Streams::StdoutAndStderr {
        command.stderr(writer.try_clone()?);
    }
    let mut child = command.stdout(writer).spawn()?;
    // Closes the writing ends.
    command.stdout(Stdio::null());
    if streams == Streams::StdoutAndStderr {
        command.stderr(Stdio::null());
    }
    let (mut log, mut preface) = (BufReader::new(reader), String::new());
    match await_address(&mut log, &mut preface) {
        Ok((startup_line, address)) => Ok(Launched { child, log, address, preface, startup_line }),
        Err(error) => {
            drop(child.kill());
            let status = child.wait()?;
            Err(Error::new(error.kind(), format!("{error} ({status}): {preface:?}")))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time to start is limited")]
fn await_address(
    log: &mut BufReader<PipeReader>,
    preface: &mut String,
) -> io::Result<(String, SocketAddr)> {
    let deadline = Instant::now() + STARTUP_TIMEOUT;
    loop {
        if log.buffer().is_empty() {
            await_readable(log.get_ref(), deadline.saturating_duration_since(Instant::now()))?;
        }
        let mut line = String::new();
        if log.read_line(&mut line)? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the server ended at start"));
        }
        if let Some((_, address)) = line.trim().rsplit_once("listening on ") {
            // Other addresses may follow, or the end of a quoted message.
            let address = address.split([',', '"']).next().unwrap_or_default();
            let address = address.parse();
            let address = address.map_err(|_| Error::other(format!("no address: {line}")))?;
            return Ok((line, address));
        }
        preface.push_str(&line);
    }
}

/// Waits until the pipe has data or its end.
pub(crate) fn await_readable(pipe: &PipeReader, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(timeout).map_err(|_| Error::other("a long timeout"))?;
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(Error::new(ErrorKind::TimedOut, "nothing is logged")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
