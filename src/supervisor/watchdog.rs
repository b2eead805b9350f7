//! Seeing to it that workers do not only exist but live, and telling the service manager about all of them.

use log::error;
use nix::sys::signal::Signal;

use crate::notify::socket::Notification;
use crate::supervisor::{Supervisor, UpgradeState, child::Child, tell};

impl Supervisor<'_> {
    /// When it is time, ends workers that hang, so that they are replaced, and tells the service manager that
    /// the service lives: it does while any worker serves. Should that not be so for long, all of it is to be
    /// started anew, this process included.
    pub(super) fn look_after_workers(&mut self) {
        let now_ns = self.clock.now_ns();
        let is_time = self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.beat(now_ns));
        if !is_time || matches!(self.stage, UpgradeState::Stopping { .. }) {
            return;
        }
        for (place, child) in self.children.iter_mut().enumerate() {
            if let Some(pid) = child.is_hung() {
                error!("worker {place}, process {pid}, gives no sign of life and is killed");
                tell(&[pid], Signal::SIGKILL);
            }
        }
        // The version before serves until this one does.
        if !self.old.is_empty() || self.children.iter().any(Child::serves) {
            self.notifier.tell(Notification::Alive);
        }
    }

    /// Tells that all workers serve, if they do, and what else there is to say.
    pub(super) fn report_ready(&mut self, remark: &str) {
        if self.stage == UpgradeState::Serving {
            let (version, workers) = (env!("CARGO_PKG_VERSION"), self.children.len());
            let status = format!("version {version} serves, with {workers} workers{remark}");
            self.notifier.tell(Notification::Ready(&status));
        }
    }
}
