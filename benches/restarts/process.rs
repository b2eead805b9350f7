//! Operations on a server: stop, upgrade, kill, and what `/proc` says about it.

use crate::harness::{process::state, server::Server};
use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open},
};
use socket2::SockRef;
use std::{
    fs,
    io::{self, BufRead as _, BufReader, Error},
    net::SocketAddr,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

/// Maximum time for a stop or an upgrade.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

impl Server {
    /// Returns an error if the server has exited.
    pub(crate) fn check_running(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.exit_error(status)),
        }
    }

    /// Sends SIGTERM and waits until the server exits with success.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.check_running()?;
        Self::signal(self.child.id(), Signal::TERM);
        let mut status = None;
        await_condition("exit of the server", || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if !status.success() => Err(self.exit_error(status)),
            _ => Ok(()),
        }
    }

    /// Sends SIGHUP and waits until the binary on disk serves.
    pub(crate) fn upgrade(&mut self) -> io::Result<()> {
        const SERVES: &str = " workers, listening on ";
        let before = self.log_text().matches(SERVES).count();
        Self::signal(self.child.id(), Signal::HUP);
        await_condition("start of the new version", || {
            self.check_running()?;
            Ok(self.log_text().matches(SERVES).count() > before)
        })
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.check_running()?;
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Returns the warnings and errors in the log.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let log = self.log_text();
        let is_warning = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        log.lines().filter(is_warning).map(str::to_owned).collect()
    }

    /// Stops the process by a signal, so that it accepts no more connections, and returns the addresses of the
    /// clients whose connections it has accepted.
    pub(crate) fn halt(&mut self) -> io::Result<Vec<SocketAddr>> {
        self.check_running()?;
        accepted_when_stopped(self.child.id())
    }

    fn exit_error(&self, status: ExitStatus) -> Error {
        let (id, log) = (self.child.id(), self.log_text());
        Error::other(format!("the server, process {id}, has exited with {status}:\n{log}"))
    }
}

/// Stops a process by a signal and returns the addresses of the clients whose connections it has accepted.
pub(crate) fn accepted_when_stopped(pid: u32) -> io::Result<Vec<SocketAddr>> {
    let process = pidfd_open(halt(pid)?, PidfdFlags::empty())?;
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        // A duplicate, which is closed at the end of this iteration.
        let file: OwnedFd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
        let address = SockRef::from(&file).peer_addr().ok();
        found.extend(address.and_then(|address| address.as_socket()));
    }
    Ok(found)
}

/// Opens the shared memory with the metrics of a process.
pub(crate) fn memory_of(pid: u32) -> io::Result<OwnedFd> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().starts_with("/memfd:fibsrv-metrics") {
            return Ok(fs::File::options().read(true).write(true).open(path)?.into());
        }
    }
    Err(Error::other(format!("process {pid} shares no memory")))
}

/// Stops a process by a signal and waits until it is stopped.
pub(crate) fn halt(pid: u32) -> io::Result<Pid> {
    let id = Pid::from_raw(pid.cast_signed()).ok_or_else(|| Error::other("no process"))?;
    Server::signal(pid, Signal::STOP);
    await_condition("stop of the process", || Ok(state(pid) == Some('T')))?;
    Ok(id)
}

/// Polls a condition that has no event to wait for.
pub(crate) fn await_condition(
    what: &str,
    mut holds: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > STEP_TIMEOUT {
            return Err(Error::other(format!("no {what} after {STEP_TIMEOUT:?}")));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// The number of connections in the accept queues of this port.
pub(crate) fn accept_queue_length(address: SocketAddr) -> io::Result<usize> {
    let port = format!(":{:04X}", address.port());
    let table = BufReader::new(fs::File::open("/proc/net/tcp")?);
    let mut count = 0;
    for line in table.lines().skip(1) {
        let line = line?;
        let columns = line.split_whitespace().collect::<Vec<_>>();
        let &[_, local, _, state, queues, ..] = columns.as_slice() else { continue };
        if state != "0A" {
            break; // listening sockets come first, and the others are many
        }
        if local.ends_with(&port) {
            let queue = queues.split_once(':').map(|pair| usize::from_str_radix(pair.1, 16));
            count += queue.and_then(Result::ok).unwrap_or_default();
        }
    }
    Ok(count)
}
