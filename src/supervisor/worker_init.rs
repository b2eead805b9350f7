//! Initialization of a forked worker process.

use std::{io, os::fd::OwnedFd};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid, setpgid},
};

use crate::group::Group;

/// What a worker process starts with.
#[derive(Debug)]
pub struct WorkerInit {
    /// The number of the worker, from 0.
    pub number: usize,
    /// All listeners of the supervisor, and the channel to it.
    pub group: Group,
    /// The pipe on which it reports that it is ready, and sends heartbeats.
    pub ready: OwnedFd,
    /// Whether it replaces a worker that has exited.
    pub is_replacement: bool,
    /// The process ID of the supervisor.
    pub parent: Pid,
}

impl WorkerInit {
    /// Makes this process a worker. Call it first in the forked process. If it fails, the process must exit.
    pub fn enter_worker(&self) -> io::Result<()> {
        // The kernel sends this signal when the supervisor exits, for any reason. If it has exited already,
        // there is no signal.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != self.parent {
            return Err(io::Error::other("the supervisor has exited"));
        }
        // Signals from the terminal go to the supervisor only, which forwards them.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        Ok(())
    }
}
