//! Watchdog: kills hung workers, and reports the status of all workers to the service manager.

use std::os::fd::{AsFd as _, AsRawFd as _};

use log::{error, info, warn};
use mio::unix::SourceFd;
use nix::sys::signal::Signal;

use crate::{
    config::Config,
    notify::socket::Notification,
    supervisor::{Supervisor, SupervisorState, child::Child, stop::send_signal},
};

/// Time without a heartbeat after which a worker is killed. A shorter watchdog interval takes precedence.
const HANG_LIMIT_NS: u64 = 6_000_000_000;

/// Returns the time without a heartbeat after which a worker is killed.
pub fn hang_limit_ns(config: &Config) -> u64 {
    config.service_manager.watchdog_ns.unwrap_or(HANG_LIMIT_NS).min(HANG_LIMIT_NS)
}

impl Supervisor<'_> {
    /// Records which workers are ready. Once all are, the start or the upgrade is complete.
    pub(super) fn update_readiness(&mut self) {
        let mut ready = Vec::new();
        for (place, child) in self.children.iter_mut().enumerate() {
            let Some(channel) = child.update_readiness() else { continue };
            // Heartbeats are read when workers are checked, and need no event.
            let raw = channel.as_fd().as_raw_fd();
            if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&raw)) {
                warn!("cannot deregister a channel: {error}");
            }
            ready.push(place);
        }
        for place in &ready {
            self.announce(*place);
        }
        if !ready.is_empty() {
            self.group.announce();
        }
        if self.state == SupervisorState::Starting && self.children.iter().all(Child::is_ready) {
            self.complete_upgrade();
            info!(
                "{}",
                self.config.startup_line(
                    &self.group.own_addresses(),
                    self.group.admin_addresses(),
                    self.others
                )
            );
            self.report_ready("");
        }
    }

    /// Kills hung workers, so that they are restarted, and sends a heartbeat to the service manager if any worker is
    /// ready. Does nothing until the next check is due.
    ///
    /// If no worker is ready for long, the service manager restarts the whole service, this process included.
    pub(super) fn check_workers(&mut self) {
        if !self.heartbeat.beat(self.clock.now_ns()) || self.is_stopping() {
            return;
        }
        for (place, child) in self.children.iter_mut().enumerate() {
            if let Some(pid) = child.is_hung() {
                error!("worker {place} (pid {pid}) missed its heartbeat; killing it");
                send_signal(pid, Signal::SIGKILL);
            }
        }
        // The previous version serves until this one is ready.
        let serves = !self.old.is_empty() || self.children.iter().any(Child::is_ready);
        if serves && self.config.service_manager.watchdog_ns.is_some() {
            self.notifier.send(Notification::Alive);
        }
    }

    /// Reports that all workers are ready, if they are. `remark` is appended to the status.
    pub(super) fn report_ready(&mut self, remark: &str) {
        if self.state == SupervisorState::Serving {
            let (version, workers) = (env!("CARGO_PKG_VERSION"), self.children.len());
            let status = format!("version {version} is ready with {workers} workers{remark}");
            self.notifier.send(Notification::Ready(&status));
        }
    }
}
