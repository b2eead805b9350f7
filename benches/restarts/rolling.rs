//! Restarts in which no request may fail: upgrades in place, and rolling restarts of independent processes.

use crate::{experiment::Task, harness::server::Server, options::Options};
use std::{
    collections::VecDeque,
    io::{self, Error},
};

const RESTARTS: usize = 6;
pub(crate) const PROCESSES: usize = 2;
const WORKERS: usize = 2;

/// Upgrades a supervisor to the binary on disk.
pub(crate) fn upgrades(options: &Options) -> io::Result<()> {
    let workers = format!("--workers {}", options.workers.unwrap_or(WORKERS));
    let mut server = Server::start(&options.command("127.0.0.1:0", &workers), None)?;
    let task = Task::new(server.address, options, options.restarts.unwrap_or(RESTARTS));
    let experiment = task.run(|| server.upgrade())?;
    server.check_running()?;
    experiment.finish(|_| false)?;
    server.stop()?;
    print_warnings(&server.warnings());
    Ok(())
}

/// Starts a process and stops the oldest when the new one serves.
pub(crate) fn start_first(options: &Options) -> io::Result<()> {
    rolling(options, |processes| {
        processes.start()?;
        processes.stop()
    })
}

/// Stops the oldest process and starts another when it has exited.
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
    let experiment = task.run(|| {
        processes.check_running()?;
        restart(&mut processes)
    })?;
    processes.check_running()?;
    experiment.finish(|_| false)?;
    processes.finish()
}

/// Independent processes on one port, the oldest first.
#[derive(Debug)]
pub(crate) struct Processes<'options> {
    options: &'options Options,
    pub(crate) alive: VecDeque<Server>,
    warnings: Vec<String>,
}

impl<'options> Processes<'options> {
    pub(crate) fn start_all(options: &'options Options, count: usize) -> io::Result<Self> {
        let first = Server::start(&options.command("127.0.0.1:0", ""), None)?;
        let alive = VecDeque::from([first]);
        let mut processes = Self { options, alive, warnings: Vec::new() };
        for _ in 1..count {
            processes.start()?;
        }
        Ok(processes)
    }

    pub(crate) fn address(&self) -> io::Result<std::net::SocketAddr> {
        let first = self.alive.front().ok_or_else(|| Error::other("no process is left"))?;
        Ok(first.address)
    }

    /// Starts a process and waits until it serves.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let address = self.address()?.to_string();
        self.alive.push_back(Server::start(&self.options.command(&address, ""), None)?);
        Ok(())
    }

    /// Stops the oldest process by SIGTERM.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let mut oldest = self.oldest()?;
        oldest.stop()?;
        self.warnings.extend(oldest.warnings());
        Ok(())
    }

    /// Stops all processes and prints the warnings in their logs, which are no failures of requests.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while !self.alive.is_empty() {
            self.stop()?;
        }
        print_warnings(&self.warnings);
        Ok(())
    }

    /// Removes the oldest process.
    pub(crate) fn oldest(&mut self) -> io::Result<Server> {
        self.alive.pop_front().ok_or_else(|| Error::other("no process is left"))
    }

    /// Returns an error if a process has exited.
    pub(crate) fn check_running(&mut self) -> io::Result<()> {
        self.alive.iter_mut().try_for_each(Server::check_running)
    }
}

fn print_warnings(warnings: &[String]) {
    for warning in warnings {
        println!("- log: {warning}");
    }
}
