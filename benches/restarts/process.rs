//! What restarts need of a server beyond its start: to be told, awaited, halted, killed.

use crate::lab::server::Server;
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

/// What a server is given to end in order, or to become another version.
const WITHIN: Duration = Duration::from_secs(30);
const LOOKS_EVERY: Duration = Duration::from_millis(1);

impl Server {
    /// An error if it has ended, which nobody has told it to.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Tells it to stop, and waits until it has, in order.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.check()?;
        Self::signal(self.child.id(), Signal::TERM);
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if !status.success() => Err(self.ended(status)),
            _ => Ok(()),
        }
    }

    /// Has it become the version on disk, and waits until that serves.
    pub(crate) fn upgrade(&mut self) -> io::Result<()> {
        const SERVES: &str = " workers, listening on ";
        let before = self.log_text().matches(SERVES).count();
        Self::signal(self.child.id(), Signal::HUP);
        until("the new version serves", || {
            self.check()?;
            Ok(self.log_text().matches(SERVES).count() > before)
        })
    }

    /// Ends it as nobody likes to be ended.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.check()?;
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// What it has written to the log and would not have if all were well.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.log_text();
        let is_grave = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        log.lines().filter(is_grave).map(str::to_owned).collect()
    }

    /// Halts it, so that it accepts nobody any more, and tells whom it has accepted. It stays halted.
    pub(crate) fn halt(&mut self) -> io::Result<Vec<SocketAddr>> {
        self.check()?;
        let id = halt(self.child.id())?;
        let process = pidfd_open(id, PidfdFlags::empty())?;
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.child.id()))? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            let Some(number) = number else { continue };
            // Which is ours as well from here to the end of this round.
            let file: OwnedFd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            let peer = SockRef::from(&file).peer_addr().ok();
            found.extend(peer.and_then(|peer| peer.as_socket()));
        }
        Ok(found)
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let (id, log) = (self.child.id(), self.log_text());
        Error::other(format!("the server, process {id}, has ended with {status}:\n{log}"))
    }
}

/// The memory in which a process counts, opened anew.
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

/// Stops a process of ours, or of a child of ours, and waits until it is.
pub(crate) fn halt(pid: u32) -> io::Result<Pid> {
    let id = Pid::from_raw(pid.cast_signed()).ok_or_else(|| Error::other("no process"))?;
    Server::signal(pid, Signal::STOP);
    until("the process is halted", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })?;
    Ok(id)
}

/// Waits for what cannot be awaited as an event.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > WITHIN {
            return Err(Error::other(format!("still not so after {WITHIN:?}: {what}")));
        }
        thread::sleep(LOOKS_EVERY);
    }
    Ok(())
}

/// How many connections wait to be accepted in the queues of this port.
pub(crate) fn waiting(address: SocketAddr) -> io::Result<usize> {
    let port = format!(":{:04X}", address.port());
    let table = BufReader::new(fs::File::open("/proc/net/tcp")?);
    let mut count = 0;
    for line in table.lines().skip(1) {
        let line = line?;
        let columns = line.split_whitespace().collect::<Vec<_>>();
        let &[_, local, _, state, queues, ..] = columns.as_slice() else { continue };
        if state != "0A" {
            break; // The listening ones come first, and the others are many.
        }
        if local.ends_with(&port) {
            let queue = queues.split_once(':').map(|pair| usize::from_str_radix(pair.1, 16));
            count += queue.and_then(Result::ok).unwrap_or_default();
        }
    }
    Ok(count)
}
