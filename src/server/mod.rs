//! The event loop of a worker.
//!
//! One iteration: wait for events, run the connections that are ready, handle expired deadlines, accept new
//! connections, hand numbers to the compute thread. It parses and renders nothing. No error of one connection ends
//! the loop or affects another connection: the loop returns after a graceful shutdown, or when the poll fails.

mod accept;
pub mod compute;
pub mod connection;
pub mod connections;
pub mod context;
pub mod delivery;
pub mod drain;
pub mod listeners;
pub mod process_stats;
mod sharing;
mod shutdown;
pub mod timers;

use std::{io, mem, time::Duration};

use log::error;
use mio::{Events, Poll, Token, Waker, event::Event};

use crate::{
    app::{Completed, ConnectionId, RouteSet},
    group::Group,
    http::conn::TimeoutKind,
    logging::throttle::LogThrottle,
    metrics,
    notify::{StatusReporter, socket::Notification},
    server::{
        compute::Compute,
        connection::Outcome,
        connections::Connections,
        context::WorkerContext,
        drain::Drain,
        listeners::{FIRST_LISTENER, Listeners},
        timers::TURNS_BEFORE_EXPIRY,
    },
    sys::{
        rlimit::FdBudget,
        signals::{OnHangup, Signals, WorkerSignal},
    },
};

/// Maximum number of events per poll.
const EVENTS_MAX: usize = 1024;

/// Tokens beside those of connections, which are their keys from zero up, and those of listeners.
const SIGNALS: Token = Token(usize::MAX - 1);
const COMPUTED: Token = Token(usize::MAX - 2);

/// A worker.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    connections: Connections,
    context: WorkerContext,
    compute: Compute,
    /// Connections that have yielded, each once. They run again in the next iteration, without an event.
    yielded: Vec<usize>,
    fd_budget: FdBudget,
    full_throttle: LogThrottle,
    admin_full_throttle: LogThrottle,
    error_throttle: LogThrottle,
    drain: Drain,
    reporter: StatusReporter,
}

impl Server {
    /// Returns a worker that accepts from the listeners of `group`.
    pub fn new(
        group: Group,
        connections: Connections,
        context: WorkerContext,
        fd_budget: FdBudget,
        drain: Drain,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let signals = Signals::register(poll.registry(), SIGNALS)?;
        let waker = Waker::new(poll.registry(), COMPUTED)?;
        let compute = Compute::new(waker, context.app.table().clone());
        let listeners = Listeners::new(poll.registry(), group)?;
        Ok(Self {
            poll,
            signals,
            listeners,
            connections,
            context,
            compute,
            yielded: Vec::new(),
            fd_budget,
            full_throttle: LogThrottle::default(),
            admin_full_throttle: LogThrottle::default(),
            error_throttle: LogThrottle::default(),
            drain,
            reporter: StatusReporter::default(),
        })
    }

    /// Reports the status of the worker through `reporter` from now on, beginning with readiness.
    pub fn report_to(&mut self, reporter: StatusReporter, status: &str) {
        self.reporter = reporter;
        self.reporter.send(Notification::Ready(status));
    }

    /// Sets what SIGHUP means from now on. A worker ignores it.
    pub const fn set_on_hangup(&mut self, on_hangup: OnHangup) {
        self.signals.set_on_hangup(on_hangup);
    }

    /// Counts that this worker replaces one that has exited.
    pub fn count_restart(&self) {
        self.context.app.counters().add(metrics::WORKER_RESTARTS, 1);
    }

    /// Serves until a graceful shutdown is complete.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.wait(&mut events)?;
            self.reporter.heartbeat(self.context.clock.now_ns());
            let yielded = mem::take(&mut self.yielded);
            for event in &events {
                self.handle(event)?;
            }
            for key in yielded {
                self.run_scheduled(key);
            }
            self.expire();
            if self.drain.is_draining() {
                self.drain_backlog();
            } else {
                self.accept();
            }
            self.submit_jobs();
            self.log_mismatches();
            self.update_listeners();
            let is_over = self.advance_shutdown();
            self.context.end_iteration();
            if is_over {
                self.context.close_access_log();
                return Ok(());
            }
        }
    }

    /// Waits for events, until the next deadline at most, and begins an iteration.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let previous_ns = self.context.clock.now_ns();
        let due_ns = self.next_wake_up_ns(previous_ns);
        let timeout = due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(previous_ns)));
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.context.begin_iteration();
        if let Some(due_ns) = due_ns {
            self.connections.resume(previous_ns, due_ns, self.context.clock.now_ns());
        }
        Ok(())
    }

    /// Until when there is nothing to do without an event.
    fn next_wake_up_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.yielded.is_empty() {
            return Some(now_ns);
        }
        // Once drained, this process accepts nothing more.
        let accepts = |routes| routes != RouteSet::Admin || !self.is_drained();
        let listeners = self.listeners.iter().filter(|entry| accepts(entry.routes));
        let listeners = listeners.filter_map(|entry| {
            let earliest_ns = entry.state.next_accept_ns()?;
            Some(self.next_room_ns(entry.routes, now_ns)?.max(earliest_ns))
        });
        let deadlines = [
            self.connections.next_wake_up_ns(now_ns),
            self.drain.next_deadline_ns(),
            self.reporter.next_beat_ns(),
            self.listeners.next_check_ns(),
        ];
        let paused = [RouteSet::Public, RouteSet::Admin].into_iter();
        let paused = paused.filter(|routes| accepts(*routes) && self.listeners.is_paused(*routes));
        let room = paused.filter_map(|routes| self.next_room_ns(routes, now_ns));
        listeners.chain(room).chain(deadlines.into_iter().flatten()).min()
    }

    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match event.token() {
            SIGNALS => self.handle_signals()?,
            COMPUTED => self.deliver_completed(),
            token if token >= FIRST_LISTENER => self.listeners.ready(token),
            Token(key) => self.handle_connection(key, event),
        }
        Ok(())
    }

    fn handle_signals(&mut self) -> io::Result<()> {
        for request in self.signals.pending()? {
            match request {
                WorkerSignal::Stop(signal) => self.begin_shutdown(signal),
                WorkerSignal::Reopen => self.context.reopen_access_log(),
            }
        }
        Ok(())
    }

    fn handle_connection(&mut self, key: usize, event: &Event) {
        // It may have been removed earlier in this iteration.
        let Some(connection) = self.connections.get_mut(key) else { return };
        if event.is_error() {
            return self.remove_connection(key); // the client has reset it
        }
        if event.is_read_closed() {
            connection.mark_read_closed();
        } else if event.is_priority() {
            connection.mark_urgent();
        }
        // The first event of a new connection says only that it is writable, when there is nothing to write.
        let is_ready = event.is_readable() || event.is_read_closed() || connection.is_writing();
        // A scheduled connection runs later in this iteration.
        if is_ready && !connection.is_scheduled() {
            self.drive(key);
        }
    }

    /// Runs one turn of a connection.
    fn drive(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let outcome = connection.turn(&mut self.context);
        self.apply_outcome(key, outcome);
    }

    fn apply_outcome(&mut self, key: usize, outcome: Outcome) {
        match outcome {
            Outcome::WouldBlock => self.connections.set_deadline(key, self.context.clock.now_ns()),
            Outcome::Yield => {
                self.connections.set_deadline(key, self.context.clock.now_ns());
                self.context.app.counters().add(metrics::CONNECTION_YIELDS, 1);
                self.schedule(key);
            }
            Outcome::Closed => self.remove_connection(key),
        }
    }

    /// Has a connection run in the next iteration without an event.
    fn schedule(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.schedule()
        {
            self.yielded.push(key);
        }
    }

    fn run_scheduled(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.unschedule();
            self.drive(key);
        }
    }

    fn remove_connection(&mut self, key: usize) {
        // Dropping the socket closes it and removes it from the poll.
        let Some(connection) = self.connections.remove(key) else { return };
        self.context.app.counters().decrement(metrics::CONNECTIONS);
        self.context.app.end(connection.session());
    }

    /// Closes connections whose deadline has passed, after a response if one is due.
    fn expire(&mut self) {
        while let Some(key) = self.connections.pop_expired(self.context.clock.now_ns()) {
            if self.still_waits(key) && !self.renews_deadline(key) {
                let Some(connection) = self.connections.get_mut(key) else { continue };
                connection.expire(&self.context.app);
                self.drive(key);
            }
        }
    }

    /// Whether the expired deadline is the end of a period of a write or of lingering, and the client is fast enough.
    /// Then sets the next.
    fn renews_deadline(&mut self, key: usize) -> bool {
        let period_ns = self.connections.limit_ns(TimeoutKind::Write);
        let renews =
            self.connections.get_mut(key).is_some_and(|found| found.renew_deadline(period_ns));
        if renews {
            self.connections.set_deadline(key, self.context.clock.now_ns());
            self.schedule(key); // its last turn may have ended before the socket was empty
        }
        renews
    }

    /// Lets a connection read what its socket holds. Returns whether it waits for the same as before: then its client
    /// is late. After a pause of this process, or beyond a full batch of events, a complete request may be waiting.
    fn still_waits(&mut self, key: usize) -> bool {
        for _ in 0..TURNS_BEFORE_EXPIRY {
            let Some(connection) = self.connections.get_mut(key) else { return false };
            let wait = connection.wait();
            let outcome = connection.turn(&mut self.context);
            if outcome == Outcome::Closed || connection.wait() != wait {
                self.apply_outcome(key, outcome);
                return false;
            }
            if outcome == Outcome::WouldBlock {
                return true;
            }
        }
        self.schedule(key); // its socket may have more
        true
    }

    /// Hands jobs to the compute thread.
    fn submit_jobs(&mut self) {
        while let Some(job) = self.context.app.next_job() {
            let key = job.key();
            if let Err(error) = self.compute.submit(job) {
                error!("cannot submit F({}) to the compute thread: {error}", key.n);
                for waiter in self.context.app.fail(key) {
                    self.resume(waiter, None);
                }
            }
        }
    }

    fn log_mismatches(&mut self) {
        for (n, mismatch) in self.context.app.take_mismatches() {
            error!("F({n}) failed verification ({mismatch:?}); computed again");
        }
    }

    /// Delivers computed numbers to the connections that wait for them.
    #[cold]
    fn deliver_completed(&mut self) {
        for completed in self.compute.take_completed() {
            let waiters = self.context.app.complete(&completed);
            self.submit_jobs(); // the thread has nothing to do meanwhile
            for waiter in waiters {
                self.resume(waiter, Some(&completed));
            }
        }
    }

    /// Has a connection respond to the request that waits for a number.
    fn resume(&mut self, waiter: ConnectionId, completed: Option<&Completed>) {
        let Some(connection) = self.connections.get_by_id_mut(waiter) else { return };
        let outcome = connection.resume(completed, &mut self.context);
        self.apply_outcome(waiter.key, outcome);
    }
}
