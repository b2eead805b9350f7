//! How a forked process becomes a worker.

use std::{io, os::fd::OwnedFd};

use mio::net::TcpListener;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid, setpgid},
};

/// What a worker is born with.
#[derive(Debug)]
pub struct WorkerInit {
    /// The number of the worker, from 0.
    pub number: usize,
    /// What it accepts from.
    pub listeners: Vec<TcpListener>,
    /// To be written to when it serves.
    pub ready: OwnedFd,
    /// Whether the worker before it has died.
    pub is_replacement: bool,
    /// The supervisor.
    pub parent: Pid,
}

impl WorkerInit {
    /// Makes this process a worker. To be called first of all in it; if it fails, the process has to end.
    pub fn enter_worker(&self) -> io::Result<()> {
        // Ends with its parent, however that ends; if it has ended already, nobody will tell.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != self.parent {
            return Err(io::Error::other("the supervisor is gone"));
        }
        // What is typed at the terminal is for the supervisor, which passes it on.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        Ok(())
    }
}
