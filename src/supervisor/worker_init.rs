//! How a forked process becomes a worker.

use std::{io, os::fd::OwnedFd};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid, setpgid},
};

use crate::group::Group;

/// What a worker starts with.
#[derive(Debug)]
pub struct WorkerInit {
    /// The number of the worker, from 0.
    pub number: usize,
    /// All listeners of the supervisor, its own ones among them, and the channel to the supervisor.
    pub group: Group,
    /// Written to when it is ready, and as a heartbeat.
    pub ready: OwnedFd,
    /// Whether it replaces a worker that has exited.
    pub is_replacement: bool,
    /// The supervisor.
    pub parent: Pid,
}

impl WorkerInit {
    /// Makes this process a worker. Call it first of all; if it fails, the process has to exit.
    pub fn enter_worker(&self) -> io::Result<()> {
        // The kernel signals when the supervisor exits; if it has exited already, it never does.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != self.parent {
            return Err(io::Error::other("the supervisor has exited"));
        }
        // Ctrl-C at the terminal is for the supervisor, which passes it on.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        Ok(())
    }
}
