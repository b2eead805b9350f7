//! Graceful shutdown: what the event loop does at each step of a drain.

use log::{info, warn};
use nix::sys::signal::Signal;

use crate::{
    app::RouteSet,
    group::Stop,
    notify::socket::Notification,
    server::{
        Server,
        drain::{Step, StopRequest},
    },
    sys::signals::is_interactive,
};

/// Time for which the exit waits for the request of a connection at an admin address.
const PROBE_NS: u64 = 1_000_000_000;

impl Server {
    /// Begins a graceful shutdown. A second signal ends it at once, unless a supervisor decides that.
    pub(super) fn begin_shutdown(&mut self, signal: Signal) {
        if self.signals.is_supervised() && self.drain.has_begun() {
            return;
        }
        let is_interactive = is_interactive(signal);
        if is_interactive {
            self.drain.shorten();
        }
        match self.drain.request_stop(self.context.clock.now_ns()) {
            StopRequest::Graceful => {
                let status = format!("finishing {} connections", self.connections.count());
                let hint = if is_interactive { "; press Ctrl-C again to exit at once" } else { "" };
                info!("received {signal}; {status}{hint}");
                self.reporter.send(Notification::Stopping(&status));
                self.context.app.set_unready();
            }
            StopRequest::Immediate => info!("received {signal} again; exiting at once"),
        }
    }

    /// Handles a request of the supervisor to stop.
    pub(super) fn handle_stop(&mut self, stop: Stop) {
        let now_ns = self.context.clock.now_ns();
        if !self.drain.has_begun() {
            let (reason, hint) = match stop {
                Stop::Replaced => ("a new worker is ready", ""),
                Stop::Interactive => ("received SIGINT", "; press Ctrl-C again to exit at once"),
                Stop::Graceful | Stop::Immediate => ("the supervisor is stopping", ""),
            };
            info!("{reason}; finishing {} connections{hint}", self.connections.count());
        }
        match stop {
            Stop::Replaced => self.drain.begin_without_delay(now_ns),
            Stop::Graceful => self.drain.begin(now_ns),
            Stop::Interactive => {
                self.drain.shorten();
                self.drain.begin(now_ns);
            }
            Stop::Immediate => self.drain.end(),
        }
        if stop != Stop::Replaced {
            self.context.app.set_unready();
        }
    }

    /// Performs the steps that are due. Returns whether the loop should end.
    pub(super) fn advance_shutdown(&mut self) -> bool {
        let now_ns = self.context.clock.now_ns();
        while let Some(step) = self.drain.step(now_ns) {
            match step {
                Step::StopAccepting => self.stop_accepting(),
                Step::CloseIdle => self.close_idle(),
                Step::CloseAll => {
                    warn!(
                        "drain timeout expired; closing {} connections",
                        self.connections.count()
                    );
                }
            }
        }
        let is_done =
            self.is_drained() && !self.connections.is_admin_active(now_ns.saturating_sub(PROBE_NS));
        is_done || self.drain.is_over()
    }

    /// Whether nothing is left to do but on admin addresses.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.is_draining()
            && self.connections.sharing_slots(RouteSet::Public) == 0
            && self.listeners.all_stopped()
    }

    /// Hands the listening sockets over to the other processes on the port, if there are any.
    ///
    /// The sockets stay open until this process exits. Closing one could reset the connections in its queue,
    /// and another process may share it, or may adopt it later.
    fn stop_accepting(&mut self) {
        self.listeners.release();
        for key in self.connections.keys() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.disable_keep_alive();
            }
        }
    }

    /// Accepts the connections left in queues that no other process accepts from.
    ///
    /// Each is accepted as soon as the connection limit allows.
    pub(super) fn drain_backlog(&mut self) {
        let is_drained = self.is_drained();
        for index in 0..self.listeners.places() {
            let is_admin =
                self.listeners.get_mut(index).is_some_and(|entry| entry.routes == RouteSet::Admin);
            if is_admin && is_drained {
                continue; // this process exits, and others may accept
            }
            while self.listeners.get_mut(index).is_some_and(|entry| entry.last_accepts > 0)
                && self.accept_from(index)
            {
                if let Some(entry) = self.listeners.get_mut(index) {
                    entry.last_accepts -= 1;
                }
            }
            if let Some(entry) = self.listeners.get_mut(index) {
                entry.end_last_accepts(self.context.clock.now_ns());
            }
        }
    }

    /// Closes idle connections in an orderly way: end of stream is sent first. Those of admin addresses stay open, as
    /// they do not delay the exit, and a probe may just have connected.
    fn close_idle(&mut self) {
        for key in self.connections.keys() {
            if self.connections.is_admin(key) {
                continue;
            }
            self.drive(key); // a request may be waiting in its socket
            if self
                .connections
                .get_mut(key)
                .is_some_and(crate::server::connection::Connection::close_if_idle)
            {
                self.drive(key);
            }
        }
    }
}
