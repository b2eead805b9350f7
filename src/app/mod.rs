//! The application: from a request to a recorded response.
//!
//! No sockets, no threads and no clock: the time, the state of the process and numbers computed on another thread
//! are arguments. [`App::advance`] does everything that happens on a connection between two I/O operations.

mod assets;
mod fibonacci;
mod handled;
mod handlers;
mod numbers;
mod precondition;
mod query;
mod recorder;
mod representation;
mod response_table;
pub mod route;
mod route_set;
mod session;

pub use assets::Asset;
pub use numbers::{AT_ONCE_MAX_N, Completed, ConnectionId, Job, NumberLimits};
pub use recorder::{Exchange, Recorder};
pub use response_table::ResponseTable;
pub use route_set::RouteSet;
pub use session::{Session, Timestamp};

use fibonacci::FibonacciHandler;
use handlers::Handlers;

use crate::{
    fibonacci::{CacheKey, Mismatch, Table},
    http::request::{head::Parser, limits::Limits},
    metrics::{
        Build, Process, Slot,
        shared::{Coverage, SharedMemory, SharedMemoryError},
    },
};

/// The application of one worker.
#[derive(Debug)]
pub struct App {
    parser: Parser,
    handlers: Handlers,
    recorder: Recorder,
}

/// What an application is made of, beside its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bounds on requests.
    pub limits: Limits,
    /// Bounds on numbers.
    pub numbers: NumberLimits,
    /// The version that the metrics report.
    pub build: Build,
}

impl App {
    /// Returns an application that has responded to nothing.
    pub fn new(table: ResponseTable, settings: Settings, recorder: Recorder) -> Self {
        let fibonacci = FibonacciHandler::new(table, settings.numbers);
        Self {
            parser: Parser::new(settings.limits),
            handlers: Handlers::new(fibonacci, settings.build),
            recorder,
        }
    }

    /// The numbers from which larger ones are computed.
    pub const fn table(&self) -> &Table {
        self.handlers.fibonacci.numbers.table()
    }

    /// Makes `/readyz` fail from now on.
    pub const fn set_unready(&mut self) {
        self.handlers.set_unready();
    }

    /// Sets whether the metrics include those of all processes on the port.
    pub fn set_coverage(&self, coverage: Coverage) {
        self.recorder.set_coverage(coverage);
    }

    /// Continues to count in other shared memory.
    pub fn move_counters(&mut self, memory: &SharedMemory) -> Result<(), SharedMemoryError> {
        self.recorder.move_counters(memory)
    }

    /// The counters of this worker. The event loop counts connections in them.
    pub fn counters(&self) -> &Slot {
        self.recorder.counters()
    }

    /// Records what the operating system counts for this process. Scrapes of any worker report it.
    pub fn set_process(&mut self, process: &Process) {
        self.recorder.counters_mut().record_process(process);
    }

    /// Completes the records of all responses since the last call, which took `duration_ns`.
    pub fn end_batch(&mut self, duration_ns: u64) {
        self.recorder.end_batch(duration_ns);
    }

    /// Complete lines of the access log, for the caller to take out. None if there is no access log.
    pub const fn log_lines(&mut self) -> Option<&mut Vec<u8>> {
        self.recorder.log_lines()
    }

    /// Whether there is an access log.
    pub const fn is_logging(&self) -> bool {
        self.recorder.is_logging()
    }

    /// Returns the next number for the compute thread, unless the thread has enough to do.
    pub fn next_job(&mut self) -> Option<Job> {
        self.handlers.fibonacci.numbers.next_job()
    }

    /// Caches what has been computed. Returns the connections that wait for it: call [`App::resume`] for each, while
    /// `completed` still holds the number in memory.
    pub fn complete(&mut self, completed: &Completed) -> Vec<ConnectionId> {
        let counters = self.recorder.counters();
        self.handlers.fibonacci.numbers.complete(completed, counters)
    }

    /// Takes the numbers whose first result failed verification since the last call. They have been computed again.
    pub fn take_mismatches(&mut self) -> Vec<(u64, Mismatch)> {
        self.handlers.fibonacci.numbers.take_mismatches()
    }

    /// Gives up a number that cannot be computed. Returns the connections that wait for it: call [`App::resume`] for
    /// each.
    pub fn fail(&mut self, key: CacheKey) -> Vec<ConnectionId> {
        let counters = self.recorder.counters();
        self.handlers.fibonacci.numbers.fail(key, counters)
    }
}

#[cfg(test)]
mod tests;
