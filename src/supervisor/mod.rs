//! The parent of several workers: it serves nothing itself, and keeps them running.
//!
//! It is the member for all its workers among the processes on the port. It opens one listening socket for each worker
//! and address and holds them until it exits, and every worker inherits all of them: while one has exited, hangs or cannot
//! start, its neighbours accept in its place. Workers are forked before there is any thread, and share the pages of the
//! table. One that exits is replaced at once. Signals are read from a descriptor.

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

/// How much longer than its workers may take to shut down the supervisor waits before it kills them.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Tokens: the signals, the pipes of the workers, and the group.
const SIGNALS: Token = Token(0);
const FIRST_WORKER: usize = 1;
const FIRST_GROUP: usize = 1024;

/// Who has returned from [`run`].
#[derive(Debug)]
pub enum Outcome {
    /// The supervisor, whose workers have ended.
    Ended,
    /// A new worker, in a process of its own, which is to serve.
    Worker(Box<WorkerInit>),
}

struct Supervisor<'c> {
    config: &'c Config,
    clock: Clock,
    signals: SignalFd,
    poll: Poll,
    /// The listeners of all workers, and the other processes on the port.
    group: Group,
    /// What the workers have been told.
    sharing: Sharing,
    children: Vec<Child>,
    /// The memory that the workers count in, to be handed on.
    region: Option<BorrowedFd<'c>>,
    /// Number of workers of other processes on the port at start.
    others: u64,
    /// Workers of the program before an upgrade, which leave when those of this one serve.
    old: Vec<Pid>,
    /// Those that have been told to: told twice, a worker leaves at once.
    leaving: Vec<Pid>,
    stage: UpgradeState,
    notifier: Notifier,
    /// When workers are checked.
    heartbeat: Heartbeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpgradeState {
    /// Not all workers have served yet.
    Starting,
    Serving,
    /// Workers have been told to end, and are ended the hard way at this time.
    Stopping {
        until_ns: u64,
    },
}

/// What a new worker gets from its supervisor.
struct Forked {
    number: usize,
    own: Vec<ListenerId>,
    channel: OwnedFd,
    ready: OwnedFd,
    is_replacement: bool,
    parent: Pid,
}

/// Keeps `workers` workers running until it receives a signal to stop. Returns in each of their processes, too.
///
/// `region` is the memory that the workers count in, which is passed on in an upgrade.
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
        stage: UpgradeState::Starting,
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
    /// Handles what has happened while it waited.
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
                // The access logs are theirs.
                signals::Event::Reopen => tell(&self.alive(), Signal::SIGUSR1),
                signals::Event::Stop(signal) => self.stop(signal),
            }
        }
        self.group.check(self.clock.now_ns());
        self.forward_changes();
        self.enforce();
        self.check_workers();
        Ok(())
    }

    /// Starts the workers that are due. Returns what one starts with, in its process.
    fn start_children(&mut self) -> Option<Forked> {
        let now_ns = self.clock.now_ns();
        for place in 0..self.children.len() {
            let is_due = self.children.get(place).is_some_and(
                |child| matches!(child.state, State::Due { at_ns } if at_ns <= now_ns),
            );
            if !is_due || matches!(self.stage, UpgradeState::Stopping { .. }) {
                continue;
            }
            match self.start(place) {
                Ok(None) => {}
                Ok(forked) => return forked,
                Err(error) => {
                    error!("cannot start worker {place}: {error}");
                    if let Some(child) = self.children.get_mut(place) {
                        child.died(now_ns);
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
                    child.born(pid, now_ns);
                    child.service = WorkerReadiness::Pending(reading);
                    child.channel = Some(ours);
                    info!("worker {place} is process {pid}");
                }
                Ok(None)
            }
            Fork::Child => {
                let is_replacement = self.children.get(place).is_some_and(|child| child.deaths > 0);
                Ok(Some(Forked { number: place, own, channel, ready, is_replacement, parent }))
            }
        }
    }

    /// Waits for a signal, for a worker that is ready, for another process, or for something to be due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let due = self.children.iter().filter_map(|child| match child.state {
            State::Due { at_ns } => Some(at_ns),
            State::Alive { .. } | State::Gone => None,
        });
        let due_ns = match self.stage {
            UpgradeState::Stopping { until_ns } => until_ns,
            UpgradeState::Starting | UpgradeState::Serving => {
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

    /// Takes in who has died.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match signals::reap() {
                Ok(Some(WaitStatus::Exited(pid, status))) => {
                    (pid, format!("ended with status {status}"))
                }
                Ok(Some(WaitStatus::Signaled(pid, signal, _))) => {
                    (pid, format!("was ended by {signal}"))
                }
                Ok(None) => return,
                Ok(Some(_)) => continue,
                Err(error) => return warn!("cannot ask for dead workers: {error}"),
            };
            if self.old.contains(&pid) || self.leaving.contains(&pid) {
                self.old.retain(|old| *old != pid);
                self.leaving.retain(|leaving| *leaving != pid);
                info!("process {pid} of the version before {how}");
                continue;
            }
            let now_ns = self.clock.now_ns();
            let is_stopping = matches!(self.stage, UpgradeState::Stopping { .. });
            let mut exited = None;
            for (place, child) in self.children.iter_mut().enumerate() {
                if child.pid() != Some(pid) {
                    continue;
                }
                exited = Some(place);
                if is_stopping {
                    child.state = State::Gone;
                    info!("worker {place}, process {pid}, {how}");
                } else {
                    child.died(now_ns);
                    warn!("worker {place}, process {pid}, {how}: it is replaced");
                }
            }
            // It may have been woken for connections that it has not accepted.
            if let Some(place) = exited {
                self.announce(place);
            }
        }
    }

    /// Passes on that it is time to end; the second time workers leave at once.
    fn stop(&mut self, signal: Signal) {
        let mut whom = self.alive();
        if self.stage == UpgradeState::Starting || self.stage == UpgradeState::Serving {
            let is_interactive = signals::is_interactive(signal);
            let hint = if is_interactive { "; press Ctrl-C again to exit at once" } else { "" };
            info!("received {signal}; stopping {} workers{hint}", self.alive().len());
            self.notifier.tell(Notification::Stopping("the workers finish their connections"));
            whom = self.untold();
            let times = self.config.drain;
            let times = if is_interactive { times.interactive() } else { times };
            let longest_ns = times.longest_ns();
            let until_ns =
                self.clock.now_ns().saturating_add(longest_ns).saturating_add(PATIENCE_NS);
            self.stage = UpgradeState::Stopping { until_ns };
            for child in &mut self.children {
                if child.pid().is_none() {
                    child.state = State::Gone;
                }
            }
        }
        // Workers have a process group of their own, so Ctrl-C reaches the supervisor only.
        tell(&whom, signal);
    }

    /// Ends workers that should have left long ago.
    fn enforce(&mut self) {
        let UpgradeState::Stopping { until_ns } = self.stage else { return };
        if until_ns <= self.clock.now_ns() {
            let left = self.alive();
            error!("{} workers do not leave and are killed", left.len());
            tell(&left, Signal::SIGKILL);
            self.stage = UpgradeState::Stopping { until_ns: u64::MAX };
        }
    }

    /// Becomes the program that is on disk now, if that starts.
    fn upgrade(&mut self) {
        if matches!(self.stage, UpgradeState::Stopping { .. }) {
            return;
        }
        let program = self.config.invocation.program.display();
        info!("told to become the version in {program}");
        self.notifier.tell(Notification::Reloading("becoming another version"));
        let error = match upgrade::check_binary(&self.config.invocation) {
            Ok(()) => {
                let sockets = self.group.to_inherit();
                let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
                let workers = (&self.untold()[..], &self.leaving[..]);
                upgrade::execute(
                    &self.config.invocation,
                    (&sockets, self.config.opened_by()),
                    workers,
                    self.region,
                )
            }
            Err(error) => error,
        };
        error!("{program} does not start, and this version goes on: {error}");
        // There is no way to tell that it has failed, other than in words.
        self.report_ready("; the version on disk does not start");
    }

    /// The processes of all workers, those of the version before included.
    fn alive(&self) -> Vec<Pid> {
        self.untold().into_iter().chain(self.leaving.iter().copied()).collect()
    }

    /// Those that have not been told to leave.
    fn untold(&self) -> Vec<Pid> {
        self.children.iter().filter_map(Child::pid).chain(self.old.iter().copied()).collect()
    }

    fn has_ended(&self) -> bool {
        matches!(self.stage, UpgradeState::Stopping { .. }) && self.alive().is_empty()
    }
}

fn tell(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // One that has died meanwhile is not there to be told.
        if let Err(error) = kill(*pid, signal)
            && error != Errno::ESRCH
        {
            warn!("cannot send {signal} to {pid}: {error}");
        }
    }
}
