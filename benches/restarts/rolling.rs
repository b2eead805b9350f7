//! Restarts of all kinds in which nobody may lose anything: upgrades in place, and independent processes
//! restarted one by one.

use crate::{campaign::Task, lab::server::Server, options::Options};
use std::{
    collections::VecDeque,
    io::{self, Error},
};

const RESTARTS: usize = 6;
pub(crate) const PROCESSES: usize = 2;
const WORKERS: &str = "--workers 2";

/// A supervisor told to become the version on disk.
pub(crate) fn upgrades(options: &Options) -> io::Result<()> {
    let mut server = Server::start(&options.command("127.0.0.1:0", WORKERS), None)?;
    let task = Task::new(server.address, options, options.restarts.unwrap_or(RESTARTS));
    let campaign = task.run(|| server.upgrade())?;
    server.check()?;
    campaign.finish(|_| false)?;
    server.stop()?;
    complain(&server.complaints());
    Ok(())
}

/// A process is started, and when it serves the oldest is told to stop.
pub(crate) fn start_first(options: &Options) -> io::Result<()> {
    rolling(options, |processes| {
        processes.start()?;
        processes.stop()
    })
}

/// The oldest process is told to stop, and when it has, another is started.
pub(crate) fn stop_first(options: &Options) -> io::Result<()> {
    rolling(options, |processes| {
        processes.stop()?;
        processes.start()
    })
}

fn rolling(
    options: &Options,
    mut restart: impl FnMut(&mut Processes<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut processes = Processes::start_all(options, options.processes.unwrap_or(PROCESSES))?;
    let task = Task::new(processes.address()?, options, options.restarts.unwrap_or(RESTARTS));
    let campaign = task.run(|| {
        processes.check()?;
        restart(&mut processes)
    })?;
    processes.check()?;
    campaign.finish(|_| false)?;
    processes.finish()
}

/// Independent processes on one port, the oldest first.
#[derive(Debug)]
pub(crate) struct Processes<'options> {
    options: &'options Options,
    pub(crate) alive: VecDeque<Server>,
    complaints: Vec<String>,
}

impl<'options> Processes<'options> {
    pub(crate) fn start_all(options: &'options Options, count: usize) -> io::Result<Self> {
        let first = Server::start(&options.command("127.0.0.1:0", ""), None)?;
        let alive = VecDeque::from([first]);
        let mut processes = Self { options, alive, complaints: Vec::new() };
        for _ in 1..count {
            processes.start()?;
        }
        Ok(processes)
    }

    pub(crate) fn address(&self) -> io::Result<std::net::SocketAddr> {
        let first = self.alive.front().ok_or_else(|| Error::other("no process is left"))?;
        Ok(first.address)
    }

    /// One more, which serves when this returns.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let address = self.address()?.to_string();
        self.alive.push_back(Server::start(&self.options.command(&address, ""), None)?);
        Ok(())
    }

    /// Stops the oldest, in order.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let mut oldest = self.oldest()?;
        oldest.stop()?;
        self.complaints.extend(oldest.complaints());
        Ok(())
    }

    /// Stops all, and shows what they have complained of: it is no failure of a request, and is not to be
    /// overlooked.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while !self.alive.is_empty() {
            self.stop()?;
        }
        complain(&self.complaints);
        Ok(())
    }

    /// Takes the oldest out.
    pub(crate) fn oldest(&mut self) -> io::Result<Server> {
        self.alive.pop_front().ok_or_else(|| Error::other("no process is left"))
    }

    /// An error if one has ended by itself.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        self.alive.iter_mut().try_for_each(Server::check)
    }
}

fn complain(complaints: &[String]) {
    for complaint in complaints {
        println!("- log: {complaint}");
    }
}
