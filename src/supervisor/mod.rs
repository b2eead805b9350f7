//! The supervisor: starts, watches, restarts and upgrades the workers. It serves no requests itself.
//!
//! The supervisor opens the listening sockets, one for each worker and address, and holds them until it exits.
//! Every worker inherits all of them: while one worker has exited, hangs or cannot start, its neighbours accept in
//! its place. Only the supervisor is a member of the group of the port. Workers are forked while the process has a
//! single thread, and share the pages of the table. A worker that exits is restarted at once. Signals are read from
//! a descriptor, so no code here runs in a signal handler.

mod child;
mod execute;
mod sockets;
mod stop;
mod upgrade;
mod watchdog;

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use log::{error, info};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::{
    sys::signalfd::SignalFd,
    unistd::{Pid, setpgid},
};

pub use self::{
    execute::{REHEARSED, return_to_previous},
    watchdog::hang_limit_ns,
};
use crate::{
    config::{Config, InheritedWorker},
    group::{Channel, Group, ListenerId, Sharing},
    notify::{Heartbeat, socket::Notifier},
    sys::{self, Fork, clock::Clock, signals},
};

use child::{Child, ProcessState, Worker};
use upgrade::Upgrade;

/// Tokens of the signals, of the channels to workers, and of the group.
const SIGNALS: Token = Token(0);
const FIRST_WORKER: usize = 1;
const FIRST_GROUP: usize = 1024;

/// Opens memory that another process has sent. Returns a descriptor that keeps it, or `None` if it cannot be used.
pub type OpenMemory = fn(OwnedFd) -> Option<OwnedFd>;

/// The process in which [`run`] has returned.
#[derive(Debug)]
pub enum Returned {
    /// The supervisor. All workers have exited.
    Ended,
    /// A new worker process.
    Worker(Box<WorkerInit>),
}

/// What a worker process starts with.
#[derive(Debug)]
pub struct WorkerInit {
    /// The number of the worker, from 0.
    pub number: usize,
    /// All listeners of the supervisor, and the channel to it.
    pub group: Group,
    /// Another descriptor of that channel, for status reports.
    pub reports: OwnedFd,
    /// Whether it replaces a worker that has exited.
    pub is_replacement: bool,
}

struct Supervisor<'c> {
    config: &'c Config,
    clock: Clock,
    signals: SignalFd,
    poll: Poll,
    /// The listeners of all workers, and the other processes on the port.
    group: Group,
    /// The state of sharing that the workers have received.
    sharing: Sharing,
    children: Vec<Child>,
    /// Opens memory for shared metrics.
    open_memory: OpenMemory,
    /// Number of other workers on the port at start.
    others: u64,
    /// Workers of the previous version, which are stopped when those of this one are ready.
    old: Vec<Worker>,
    /// Workers of the previous version that are stopping.
    leaving: Vec<Worker>,
    /// When they are killed. The next upgrade waits for them.
    leaving_until_ns: Option<u64>,
    state: SupervisorState,
    upgrade: Upgrade,
    notifier: Notifier,
    /// When workers are checked for heartbeats.
    heartbeat: Heartbeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SupervisorState {
    /// Not all workers have become ready yet.
    Starting,
    Serving,
    /// Workers are stopping, and are killed at this time.
    Stopping {
        until_ns: u64,
    },
}

/// What a forked worker receives from its supervisor.
struct Forked {
    number: usize,
    own: Vec<ListenerId>,
    channel: OwnedFd,
    is_replacement: bool,
}

/// Runs `workers` workers until a signal to stop is received and they have exited. Returns in each worker
/// process, too.
///
/// `open_memory` is called if the processes on the port agree on other memory for shared metrics. `others` is the
/// number of other workers on the port.
pub fn run(
    config: &Config,
    (workers, others): (usize, u64),
    mut group: Group,
    open_memory: OpenMemory,
) -> Result<Returned, Box<dyn Error>> {
    let (poll, signals) = (Poll::new()?, signals::open()?);
    let registry = poll.registry();
    registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
    group.register(registry, FIRST_GROUP)?;
    let clock = Clock::new();
    let inherited = config.inherited.as_ref();
    let mut supervisor = Supervisor {
        config,
        signals,
        poll,
        sharing: group.sharing(),
        group,
        children: (0..workers).map(|_| Child::new()).collect(),
        open_memory,
        others,
        old: inherited.map_or(Ok(Vec::new()), |inherited| adopt_workers(&inherited.workers))?,
        leaving: inherited.map_or(Ok(Vec::new()), |inherited| adopt_workers(&inherited.leaving))?,
        leaving_until_ns: None,
        state: SupervisorState::Starting,
        upgrade: Upgrade::new(inherited, clock.now_ns())?,
        notifier: Notifier::new(config.service_manager.notify.as_deref()),
        heartbeat: Heartbeat::new(hang_limit_ns(config), 2),
        clock,
    };
    supervisor.leaving_until_ns = Some(supervisor.exit_deadline_ns());
    // Children of the program before may have exited already.
    supervisor.reap();
    let mut events = Events::with_capacity(FIRST_GROUP);
    loop {
        supervisor.clock.tick();
        if let Some(forked) = supervisor.start_children() {
            return Ok(Returned::Worker(Box::new(supervisor.into_worker(forked)?)));
        }
        if supervisor.has_ended() {
            return Ok(Returned::Ended);
        }
        supervisor.wait(&mut events)?;
        supervisor.handle(&events)?;
    }
}

/// Adopts workers that the previous version of this program has started.
fn adopt_workers(workers: &[InheritedWorker]) -> io::Result<Vec<Worker>> {
    let adopt = |worker: &InheritedWorker| {
        let channel = Channel::adopt(sys::adopt(worker.channel)?);
        Ok(Worker { pid: worker.pid, channel })
    };
    workers.iter().map(adopt).collect()
}

impl Supervisor<'_> {
    /// Handles the events of one wait, and whatever is due.
    fn handle(&mut self, events: &Events) -> io::Result<()> {
        self.clock.tick();
        for event in events {
            if let Some(token) = event.token().0.checked_sub(FIRST_GROUP) {
                self.group.ready(token);
            }
        }
        self.update_readiness();
        while let Some(event) = signals::read(&self.signals)? {
            match event {
                signals::Event::ChildExited => self.reap(),
                signals::Event::Hangup => self.request_upgrade(),
                // The workers have the access logs.
                signals::Event::Reopen => self.reopen_access_logs(),
                signals::Event::Stop(signal) => self.stop(signal),
            }
        }
        self.advance_upgrade();
        self.group.check(self.clock.now_ns());
        self.move_to_agreed_memory();
        self.forward_changes();
        self.enforce();
        self.check_workers();
        Ok(())
    }

    /// Starts the workers that are due. In the process of a new worker, returns what it starts with.
    fn start_children(&mut self) -> Option<Forked> {
        let now_ns = self.clock.now_ns();
        for place in 0..self.children.len() {
            let is_due = self.children.get(place).is_some_and(
                |child| matches!(child.state, ProcessState::Due { at_ns } if at_ns <= now_ns),
            );
            if !is_due || self.is_stopping() {
                continue;
            }
            match self.start(place) {
                Ok(None) => {}
                Ok(forked) => return forked,
                Err(error) => {
                    error!("cannot start worker {place}: {error}");
                    if let Some(child) = self.children.get_mut(place) {
                        child.mark_exited(now_ns);
                    }
                }
            }
        }
        None
    }

    fn start(&mut self, place: usize) -> io::Result<Option<Forked>> {
        let own = self.listeners_of(place);
        let (ours, channel) = Channel::open()?;
        let raw = ours.as_fd().as_raw_fd();
        let token = Token(FIRST_WORKER + place);
        self.poll.registry().register(&mut SourceFd(&raw), token, Interest::READABLE)?;
        match sys::fork()? {
            Fork::Parent(pid) => {
                if let Some(child) = self.children.get_mut(place) {
                    child.mark_started(Worker { pid, channel: ours }, self.clock.now_ns());
                    info!("started worker {place} (pid {pid})");
                }
                Ok(None)
            }
            Fork::Child => {
                let is_replacement = self.children.get(place).is_some_and(|child| child.exits > 0);
                Ok(Some(Forked { number: place, own, channel, is_replacement }))
            }
        }
    }

    /// Makes this forked process a worker. If it fails, the process must exit.
    fn into_worker(self, forked: Forked) -> io::Result<WorkerInit> {
        // Signals from the terminal go to the supervisor only, which forwards them.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        let reports = forked.channel.try_clone()?;
        let group = self.group.into_worker(&forked.own, forked.channel);
        let Forked { number, is_replacement, .. } = forked;
        Ok(WorkerInit { number, group, reports, is_replacement })
    }

    /// Waits for a signal, a worker that becomes ready, another process, or the next deadline.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let due = self.children.iter().filter_map(|child| match child.state {
            ProcessState::Due { at_ns } => Some(at_ns),
            ProcessState::Running { .. } | ProcessState::Stopped => None,
        });
        let due_ns = match self.state {
            SupervisorState::Stopping { until_ns } => until_ns,
            SupervisorState::Starting | SupervisorState::Serving => {
                due.fold(self.heartbeat.due_ns(), u64::min)
            }
        };
        let deadlines =
            [self.group.next_check_ns(), self.upgrade.deadline_ns(), self.leaving_until_ns];
        let due_ns = deadlines.into_iter().flatten().fold(due_ns, u64::min);
        let timeout = Duration::from_nanos(due_ns.saturating_sub(now_ns));
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Returns whether the supervisor is stopping and all workers have exited.
    fn has_ended(&self) -> bool {
        self.is_stopping() && self.workers().next().is_none()
    }

    const fn is_stopping(&self) -> bool {
        matches!(self.state, SupervisorState::Stopping { .. })
    }

    /// Iterates over all workers, including those of the previous version.
    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.children.iter().filter_map(Child::worker).chain(&self.old).chain(&self.leaving)
    }
}
