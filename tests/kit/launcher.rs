//! Starts a server and waits until it listens.

use std::{
    io::{self, BufRead as _, BufReader, Error, ErrorKind},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
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
    pub(crate) log: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// The lines before the one with the address.
    pub(crate) preface: String,
}

/// Starts a process, which logs to its standard output, and waits for its line `listening on ADDRESS`. A
/// process that does not get there is killed.
pub(crate) fn launch(command: &mut Command) -> io::Result<Launched> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| Error::other("no pipe"))?;
    let (mut log, mut preface) = (BufReader::new(stdout), String::new());
    match await_address(&mut log, &mut preface) {
        Ok(address) => Ok(Launched { child, log, address, preface }),
        Err(error) => {
            drop(child.kill());
            let status = child.wait()?;
            Err(Error::new(error.kind(), format!("{error} ({status}): {preface:?}")))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time to start is limited")]
fn await_address(log: &mut BufReader<ChildStdout>, preface: &mut String) -> io::Result<SocketAddr> {
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
            return address.parse().map_err(|_| Error::other(format!("no address: {line}")));
        }
        preface.push_str(&line);
    }
}

/// Waits until the pipe has data or its end.
fn await_readable(pipe: &ChildStdout, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(timeout).map_err(|_| Error::other("a long timeout"))?;
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(Error::new(ErrorKind::TimedOut, "the server does not listen")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
