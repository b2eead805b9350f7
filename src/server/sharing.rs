//! The part of the event loop in sharing the port with other processes.

use std::os::fd::{AsFd as _, OwnedFd};

use log::warn;

use crate::{
    app::RouteSet,
    group::Sharing,
    metrics::shared::{Coverage, SharedMemory, SharedMemoryError},
    server::Server,
};

impl Server {
    /// Handles requests of the supervisor, looks for other processes on the port, and pauses the listeners while the
    /// connection limit is reached.
    pub(super) fn update_listeners(&mut self) {
        if let Some(stop) = self.listeners.group_mut().take_stop() {
            self.handle_stop(stop);
        }
        let now_ns = self.context.clock.now_ns();
        self.listeners.check(now_ns);
        if let Some(memory) = self.listeners.group_mut().take_agreed_memory() {
            self.move_counters(memory);
        }
        for routes in [RouteSet::Public, RouteSet::Admin] {
            if self.next_room_ns(routes, now_ns) == Some(now_ns) {
                self.listeners.resume(routes);
            } else {
                self.listeners.pause(routes);
            }
        }
        self.context.app.set_coverage(match self.listeners.sharing() {
            Sharing::Complete => Coverage::Complete,
            Sharing::Incomplete => Coverage::Incomplete,
        });
    }

    /// Continues to count in the memory that the processes on the port have agreed on.
    fn move_counters(&mut self, memory: OwnedFd) {
        let outcome = memory.try_clone().map_err(SharedMemoryError::from).and_then(|memory| {
            let memory = SharedMemory::from_fd_at_once(memory)?;
            self.context.app.move_counters(&memory)?;
            Ok(memory.fd().try_clone_to_owned()?)
        });
        let group = self.listeners.group_mut();
        match outcome {
            Ok(held) => group.set_memory(Some(held)),
            // Another process is opening it.
            Err(SharedMemoryError::Busy) => group.agree_on(memory),
            Err(error) => {
                warn!("cannot count in the memory of other processes: {error}");
                group.reject_memory(memory.as_fd());
            }
        }
    }
}
