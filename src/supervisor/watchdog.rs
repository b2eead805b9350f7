//! Watchdog: kills hung workers, and reports the status of all workers to the service manager.

use log::error;
use nix::sys::signal::Signal;

use crate::notify::socket::Notification;
use crate::supervisor::{Supervisor, SupervisorState, child::Child, send_signal};

impl Supervisor<'_> {
    /// Kills hung workers, so that they are restarted, and sends a heartbeat to the service manager if any
    /// worker is ready. Does nothing until the next check is due.
    ///
    /// If no worker is ready for long, the service manager restarts the whole service, this process included.
    pub(super) fn check_workers(&mut self) {
        let now_ns = self.clock.now_ns();
        let is_due = self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.beat(now_ns));
        if !is_due || matches!(self.state, SupervisorState::Stopping { .. }) {
            return;
        }
        for (place, child) in self.children.iter_mut().enumerate() {
            if let Some(pid) = child.is_hung() {
                error!("worker {place} (pid {pid}) missed its heartbeat; killing it");
                send_signal(&[pid], Signal::SIGKILL);
            }
        }
        // The previous version serves until this one is ready.
        if !self.old.is_empty() || self.children.iter().any(Child::is_ready) {
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
