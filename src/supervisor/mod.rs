//! The supervisor: starts, watches and restarts the workers. It serves no requests itself.
//!
//! The supervisor opens the listening sockets, one for each worker and address, and holds them until it exits.
//! Every worker inherits all of them: while one worker has exited, hangs or cannot start, its neighbours accept in
//! its place. Only the supervisor is a member of the group of the port. Workers are forked while the process has a
//! single thread, and share the pages of the table. A worker that exits is restarted at once. Signals are read from
//! a descriptor, so no code here runs in a signal handler.

mod child;
mod sockets;
mod upgrade;
mod watchdog;
mod worker_init;

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use log::{error, info, warn};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        signalfd::SignalFd,
        wait::WaitStatus,
    },
    unistd::{Pid, getpid},
};
use rustix::pipe::{PipeFlags, pipe_with};

pub use self::{watchdog::hang_limit_ns, worker_init::WorkerInit};
use crate::{
    config::Config,
    group::{Channel, Group, ListenerId, Sharing},
    notify::{
        Heartbeat,
        socket::{Notification, Notifier},
    },
    sys::{self, Fork, clock::Clock, signals},
};

use child::{Child, State, WorkerReadiness};

/// Time that workers get beyond the longest possible drain before the supervisor kills them.
const KILL_DELAY_NS: u64 = 5_000_000_000;

/// Tokens of the signals, of the pipes of the workers, and of the group.
const SIGNALS: Token = Token(0);
const FIRST_WORKER: usize = 1;
const FIRST_GROUP: usize = 1024;

/// The process in which [`run`] has returned.
#[derive(Debug)]
pub enum Outcome {
    /// The supervisor. All workers have exited.
    Ended,
    /// A new worker process.
    Worker(Box<WorkerInit>),
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
    /// The memory for shared metrics, which the next program inherits in an upgrade.
    region: Option<BorrowedFd<'c>>,
    /// Number of other workers on the port at start.
    others: u64,
    /// Workers of the previous version, which are stopped when those of this one are ready.
    old: Vec<Pid>,
    /// Workers of the previous version that are stopping. A second signal would make them exit at once.
    leaving: Vec<Pid>,
    state: SupervisorState,
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
    ready: OwnedFd,
    is_replacement: bool,
    parent: Pid,
}

/// Runs `workers` workers until a signal to stop is received and they have exited. Returns in each worker
/// process, too.
///
/// `region` is the memory for shared metrics, which the next program inherits in an upgrade. `others` is the number of
/// other workers on the port.
pub fn run(
    config: &Config,
    (workers, others): (usize, u64),
    mut group: Group,
    region: Option<BorrowedFd<'_>>,
) -> Result<Outcome, Box<dyn Error>> {
    let inherited = config.inherited.as_ref();
    let (poll, signals) = (Poll::new()?, signals::open()?);
    let registry = poll.registry();
    registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
    group.register(registry, FIRST_GROUP)?;
    let mut supervisor = Supervisor {
        config,
        clock: Clock::new(),
        signals,
        poll,
        sharing: group.sharing(),
        group,
        children: (0..workers).map(|_| Child::new()).collect(),
        region,
        others,
        old: inherited.map(|inherited| inherited.workers.clone()).unwrap_or_default(),
        leaving: inherited.map(|inherited| inherited.leaving.clone()).unwrap_or_default(),
        state: SupervisorState::Starting,
        notifier: Notifier::new(config.service_manager.notify.as_deref()),
        heartbeat: Heartbeat::for_limit(hang_limit_ns(config)),
    };
    // Children of the program before may have exited already.
    supervisor.reap();
    let mut events = Events::with_capacity(FIRST_GROUP);
    loop {
        supervisor.clock.tick();
        if let Some(forked) = supervisor.start_children() {
            let group = supervisor.group.into_worker(&forked.own, forked.channel);
            let Forked { number, ready, is_replacement, parent, .. } = forked;
            let init = WorkerInit { number, group, ready, is_replacement, parent };
            return Ok(Outcome::Worker(Box::new(init)));
        }
        if supervisor.has_ended() {
            return Ok(Outcome::Ended);
        }
        supervisor.wait(&mut events)?;
        supervisor.handle(&events)?;
    }
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
        self.read_readiness();
        while let Some(event) = signals::read(&self.signals)? {
            match event {
                signals::Event::ChildExited => self.reap(),
                signals::Event::Hangup => self.upgrade(),
                // The workers have the access logs.
                signals::Event::Reopen => send_signal(&self.all_pids(), Signal::SIGUSR1),
                signals::Event::Stop(signal) => self.stop(signal),
            }
        }
        self.group.check(self.clock.now_ns());
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
                |child| matches!(child.state, State::Due { at_ns } if at_ns <= now_ns),
            );
            if !is_due || matches!(self.state, SupervisorState::Stopping { .. }) {
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
        let (reading, ready) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let token = Token(FIRST_WORKER + place);
        let raw = reading.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&raw), token, Interest::READABLE)?;
        let parent = getpid();
        match sys::fork()? {
            Fork::Parent(pid) => {
                let now_ns = self.clock.now_ns();
                if let Some(child) = self.children.get_mut(place) {
                    child.mark_started(pid, now_ns);
                    child.readiness = WorkerReadiness::Pending(reading);
                    child.channel = Some(ours);
                    info!("started worker {place} (pid {pid})");
                }
                Ok(None)
            }
            Fork::Child => {
                let is_replacement = self.children.get(place).is_some_and(|child| child.exits > 0);
                Ok(Some(Forked { number: place, own, channel, ready, is_replacement, parent }))
            }
        }
    }

    /// Waits for a signal, a worker that becomes ready, another process, or the next deadline.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let due = self.children.iter().filter_map(|child| match child.state {
            State::Due { at_ns } => Some(at_ns),
            State::Running { .. } | State::Stopped => None,
        });
        let due_ns = match self.state {
            SupervisorState::Stopping { until_ns } => until_ns,
            SupervisorState::Starting | SupervisorState::Serving => {
                due.fold(self.heartbeat.due_ns(), u64::min)
            }
        };
        let due_ns = self.group.next_check_ns().map_or(due_ns, |check_ns| check_ns.min(due_ns));
        let timeout = Duration::from_nanos(due_ns.saturating_sub(now_ns));
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Reaps workers that have exited, and schedules their restart unless the supervisor is stopping.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match signals::reap() {
                Ok(Some(WaitStatus::Exited(pid, status))) => {
                    (pid, format!("exited with status {status}"))
                }
                Ok(Some(WaitStatus::Signaled(pid, signal, _))) => {
                    (pid, format!("exited with signal {} ({signal})", signal as i32))
                }
                Ok(None) => return,
                Ok(Some(_)) => continue,
                Err(error) => return warn!("cannot reap exited workers: {error}"),
            };
            if self.old.contains(&pid) || self.leaving.contains(&pid) {
                self.old.retain(|old| *old != pid);
                self.leaving.retain(|leaving| *leaving != pid);
                info!("process {pid} of the previous version {how}");
                continue;
            }
            let now_ns = self.clock.now_ns();
            let is_stopping = matches!(self.state, SupervisorState::Stopping { .. });
            let mut exited = None;
            for (place, child) in self.children.iter_mut().enumerate() {
                if child.pid() != Some(pid) {
                    continue;
                }
                exited = Some(place);
                if is_stopping {
                    child.state = State::Stopped;
                    info!("worker {place} (pid {pid}) {how}");
                } else {
                    child.mark_exited(now_ns);
                    warn!("worker {place} (pid {pid}) {how}; restarting");
                }
            }
            // The kernel may have woken it for connections that it has not accepted.
            if let Some(place) = exited {
                self.announce(place);
            }
        }
    }

    /// Stops the workers gracefully. A second signal makes them exit at once.
    fn stop(&mut self, signal: Signal) {
        let mut pids = self.all_pids();
        if self.state == SupervisorState::Starting || self.state == SupervisorState::Serving {
            let is_interactive = signals::is_interactive(signal);
            let hint = if is_interactive { "; press Ctrl-C again to exit at once" } else { "" };
            info!("received {signal}; stopping {} workers{hint}", self.all_pids().len());
            self.notifier.send(Notification::Stopping("workers are finishing their connections"));
            pids = self.not_yet_stopping();
            let times = self.config.drain;
            let times = if is_interactive { times.interactive() } else { times };
            let longest_ns = times.longest_ns();
            let until_ns =
                self.clock.now_ns().saturating_add(longest_ns).saturating_add(KILL_DELAY_NS);
            self.state = SupervisorState::Stopping { until_ns };
            for child in &mut self.children {
                if child.pid().is_none() {
                    child.state = State::Stopped;
                }
            }
        }
        // Workers have a process group of their own, so Ctrl-C reaches the supervisor only.
        send_signal(&pids, signal);
    }

    /// Kills workers that have not exited in time.
    fn enforce(&mut self) {
        let SupervisorState::Stopping { until_ns } = self.state else { return };
        if until_ns <= self.clock.now_ns() {
            let remaining = self.all_pids();
            error!("{} workers did not exit in time; killing them", remaining.len());
            send_signal(&remaining, Signal::SIGKILL);
            self.state = SupervisorState::Stopping { until_ns: u64::MAX };
        }
    }

    /// Upgrades in place to the program on disk. If that does not start, this version continues.
    fn upgrade(&mut self) {
        if matches!(self.state, SupervisorState::Stopping { .. }) {
            return;
        }
        let program = self.config.invocation.program.display();
        info!("received SIGHUP; upgrading to {program}");
        self.notifier.send(Notification::Reloading("upgrading"));
        let error = match upgrade::check_binary(&self.config.invocation) {
            Ok(()) => {
                let sockets = self.group.to_inherit();
                let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
                let workers = (&self.not_yet_stopping()[..], &self.leaving[..]);
                upgrade::execute(
                    &self.config.invocation,
                    (&sockets, self.config.opened_by()),
                    workers,
                    self.region,
                )
            }
            Err(error) => error,
        };
        error!("cannot upgrade to {program}: {error}; this version keeps running");
        // The protocol has no message for a failed reload, so only the status text reports it.
        self.report_ready("; the binary on disk does not start");
    }

    /// Returns the processes of all workers, including those of the previous version.
    fn all_pids(&self) -> Vec<Pid> {
        self.not_yet_stopping().into_iter().chain(self.leaving.iter().copied()).collect()
    }

    /// Returns the processes of the workers that the supervisor has not sent a signal to stop.
    fn not_yet_stopping(&self) -> Vec<Pid> {
        self.children.iter().filter_map(Child::pid).chain(self.old.iter().copied()).collect()
    }

    /// Returns whether the supervisor is stopping and all workers have exited.
    fn has_ended(&self) -> bool {
        matches!(self.state, SupervisorState::Stopping { .. }) && self.all_pids().is_empty()
    }
}

/// Sends a signal to processes.
fn send_signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // A process that has exited meanwhile is not an error.
        if let Err(error) = kill(*pid, signal)
            && error != Errno::ESRCH
        {
            warn!("cannot send {signal} to {pid}: {error}");
        }
    }
}
