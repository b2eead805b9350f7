//! The part of the event loop in sharing the port with other processes.

use crate::{group::Sharing, metrics::shared::Coverage, server::Server};

impl Server {
    /// Looks for other processes on the port, and pauses the listeners while the connection limit is reached.
    pub(super) fn update_listeners(&mut self) {
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
