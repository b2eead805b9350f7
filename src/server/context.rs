//! What all connections of a worker share, and what happens at the edges of an iteration of the event loop.

use std::{net::SocketAddr, time::Duration};

use crate::{
    app::{App, Timestamp},
    http::conn::Buffers,
    logging::access::{AccessLog, ClientAddress},
    metrics,
    server::{delivery::SendBudget, process_stats::ProcessStats},
    sys::clock::Clock,
};

/// Maximum number of bytes per read. A deeper pipeline takes several turns; a request head takes one.
pub const READ_BYTES: usize = 8 * 1024;

/// What all connections of a worker share.
#[derive(Debug)]
pub struct WorkerContext {
    /// Parses, handles and records requests.
    pub app: App,
    /// The time.
    pub clock: Clock,
    /// Reads the figures of this process, where the system has them.
    pub process_stats: Option<ProcessStats>,
    /// Lent to the connection that runs.
    pub buffers: Buffers,
    /// What large send buffers may hold.
    pub send_budget: SendBudget,
    /// Time for which sent data may stay unacknowledged once the kernel has all of it.
    pub unacknowledged: Duration,
    /// The buffer that sockets are read into.
    pub input: Box<[u8; READ_BYTES]>,
    /// The destination of the access log, if there is one.
    pub access_log: Option<AccessLog>,
}

impl WorkerContext {
    /// Begins an iteration: reads the clock and, at most once a second, the figures of this process. So a scrape
    /// reports figures that are at most a second old, without a wake-up of their own.
    pub fn begin_iteration(&mut self) {
        self.clock.tick();
        if let Some(stats) = &mut self.process_stats
            && let Some(process) = stats.read_when_due(self.clock.now_ns())
        {
            self.app.set_process(&process);
        }
    }

    /// Ends an iteration: writes the access log, so that no line waits while the loop does.
    pub fn end_iteration(&mut self) {
        self.take_log_lines();
        if let Some(log) = &mut self.access_log {
            let dropped = log.flush(self.clock.now_ns());
            self.app.counters().add(metrics::ACCESS_LOG_DROPPED, dropped);
        }
    }

    /// Records the responses made since the last call, with the time since the wake-up as their duration. Call it
    /// before they are written.
    pub fn end_batch(&mut self) {
        self.app.end_batch(self.clock.since_tick_ns());
        self.take_log_lines();
    }

    /// The time of this iteration.
    pub const fn timestamp(clock: &Clock) -> Timestamp<'_> {
        Timestamp { now_ns: clock.now_ns(), unix_ms: clock.unix_ms(), preamble: clock.preamble() }
    }

    /// The address of a client, if it is going to be logged.
    pub fn loggable(&self, address: SocketAddr) -> Option<Box<ClientAddress>> {
        self.app.is_logging().then(|| Box::new(ClientAddress::of(address)))
    }

    /// Reopens the file of the access log, if there is one.
    pub fn reopen_access_log(&mut self) {
        self.take_log_lines();
        if let Some(log) = &mut self.access_log {
            log.reopen();
        }
    }

    /// Writes the rest of the access log at the end of the process.
    pub fn close_access_log(&mut self) {
        if let Some(log) = &mut self.access_log {
            log.close();
        }
    }

    fn take_log_lines(&mut self) {
        if let (Some(log), Some(lines)) = (&mut self.access_log, self.app.log_lines()) {
            log.append(lines);
        }
    }
}
