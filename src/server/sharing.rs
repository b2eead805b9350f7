//! The part of the event loop in sharing the port with other processes.

use crate::{group::Sharing, metrics::shared::Coverage, server::Server};

impl Server {
    /// Handles requests of the supervisor, looks for other processes on the port, and pauses the listeners while the
    /// connection limit is reached.
    pub(super) fn update_listeners(&mut self) {
        if let Some(stop) = self.listeners.take_stop() {
            self.handle_stop(stop);
        }
        let now_ns = self.context.clock.now_ns();
        self.listeners.check(now_ns);
        if self.next_room_ns(now_ns) == Some(now_ns) {
            self.listeners.resume();
        } else {
            self.listeners.pause();
        }
        self.context.app.set_coverage(match self.listeners.sharing() {
            Sharing::Complete => Coverage::Complete,
            Sharing::Incomplete => Coverage::Incomplete,
        });
    }
}
