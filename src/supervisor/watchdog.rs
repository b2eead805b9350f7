//! Replaces workers that hang, and reports to the service manager for all of them.

use std::os::fd::AsRawFd as _;

use log::{error, info, warn};
use mio::unix::SourceFd;
use nix::sys::signal::Signal;

use crate::{
    config::Config,
    notify::socket::Notification,
    supervisor::{
        Supervisor, UpgradeState,
        child::{Child, WorkerReadiness},
        tell,
    },
};

/// How long a worker may be silent, unless a watchdog demands less.
const HANG_LIMIT_NS: u64 = 6_000_000_000;

/// How long a worker may be silent before it is replaced.
pub fn hang_limit_ns(config: &Config) -> u64 {
    config.service_manager.watchdog_ns.unwrap_or(HANG_LIMIT_NS).min(HANG_LIMIT_NS)
}

impl Supervisor<'_> {
    /// Records which workers are ready.
    pub(super) fn read_readiness(&mut self) {
        let mut ready = Vec::new();
        for (place, child) in self.children.iter_mut().enumerate() {
            let Some(pipe) = child.awaited() else { continue };
            match rustix::io::read(pipe, &mut [0; 1]) {
                Ok(1..) => {
                    // From now on it is read when workers are checked.
                    let raw = pipe.as_raw_fd();
                    if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&raw)) {
                        warn!("cannot deregister a pipe: {error}");
                    }
                    child.mark_ready();
                    ready.push(place);
                }
                // It has exited before, which a signal reports as well.
                Ok(0) => child.service = WorkerReadiness::Unknown,
                Err(_) => {} // nothing yet
            }
        }
        for place in &ready {
            self.announce(*place);
        }
        if !ready.is_empty() {
            self.group.announce();
        }
        if self.stage == UpgradeState::Starting && self.children.iter().all(Child::serves) {
            self.stage = UpgradeState::Serving;
            tell(&self.old, Signal::SIGTERM);
            self.leaving.append(&mut self.old);
            info!("{}", self.config.startup_line(&self.group.own_addresses(), self.others));
            self.report_ready("");
        }
    }

    /// When it is time, kills workers that hang, so that they are replaced, and sends a heartbeat to the service manager if
    /// any worker serves. While none does for long, the service manager is to restart all of it.
    pub(super) fn check_workers(&mut self) {
        if !self.heartbeat.beat(self.clock.now_ns())
            || matches!(self.stage, UpgradeState::Stopping { .. })
        {
            return;
        }
        for (place, child) in self.children.iter_mut().enumerate() {
            if let Some(pid) = child.is_hung() {
                error!("worker {place} (pid {pid}) missed its heartbeat; killing it");
                tell(&[pid], Signal::SIGKILL);
            }
        }
        // In an upgrade the old version serves until the new one does.
        let serves = !self.old.is_empty() || self.children.iter().any(Child::serves);
        if serves && self.config.service_manager.watchdog_ns.is_some() {
            self.notifier.tell(Notification::Alive);
        }
    }

    /// Reports that all workers serve, if they do, with a remark.
    pub(super) fn report_ready(&mut self, remark: &str) {
        if self.stage == UpgradeState::Serving {
            let (version, workers) = (env!("CARGO_PKG_VERSION"), self.children.len());
            let status = format!("version {version} serves, with {workers} workers{remark}");
            self.notifier.tell(Notification::Ready(&status));
        }
    }
}
