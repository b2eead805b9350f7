//! The parent of several workers: it serves nothing, and sees to it that they do.
//!
//! It owns the listening sockets, one for each worker and address, for all its life, so that whoever waits in a
//! queue is served by the next worker if the one that had it dies. Workers are forked before there is any
//! thread, and share the pages of the table. A dead one is replaced at once on the same sockets. Signals are
//! read from a descriptor: nothing here runs in a handler.

mod child;
mod sockets;
mod upgrade;
mod watchdog;
mod worker_init;

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use log::{error, info, warn};
use mio::net::TcpListener;
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        signalfd::SignalFd,
        wait::WaitStatus,
    },
    unistd::{Pid, getpid},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    config::{Config, OpenedBy},
    notify::{
        Heartbeat,
        socket::{Notification, Notifier},
    },
    sys::{
        self, Fork,
        clock::Clock,
        listener::{ListenError, listen, may_stand_for},
        signals,
    },
};
pub use worker_init::WorkerInit;

use child::{Child, State, WorkerReadiness};

/// How much longer than its workers may take to leave the supervisor waits before it ends them.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Who has returned from [`run`].
#[derive(Debug)]
pub enum Outcome {
    /// The supervisor, whose workers have ended.
    Ended,
    /// A new worker, in a process of its own, which is to serve.
    Worker(WorkerInit),
}

struct Supervisor<'c> {
    config: &'c Config,
    clock: Clock,
    signals: SignalFd,
    /// The sockets of all workers: those of an address follow each other.
    sockets: Vec<TcpListener>,
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
    /// When workers are looked after, if the service manager asks for that.
    heartbeat: Option<Heartbeat>,
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

/// Keeps `workers` workers until told to stop. Returns in each of their processes, too.
///
/// `sockets` are listening sockets to begin with, and `region` is the memory that the workers count in, which
/// is handed on in an upgrade.
pub fn run(
    config: &Config,
    (workers, others): (usize, u64),
    sockets: Vec<TcpListener>,
    region: Option<BorrowedFd<'_>>,
) -> Result<Outcome, Box<dyn Error>> {
    let inherited = config.inherited.as_ref();
    let sockets = open_sockets(config, workers, sockets)?;
    let mut supervisor = Supervisor {
        config,
        clock: Clock::new(),
        signals: signals::open()?,
        sockets,
        children: (0..workers).map(|_| Child::new()).collect(),
        region,
        others,
        old: inherited.map(|inherited| inherited.workers.clone()).unwrap_or_default(),
        leaving: inherited.map(|inherited| inherited.leaving.clone()).unwrap_or_default(),
        stage: UpgradeState::Starting,
        notifier: Notifier::new(config.service_manager.notify.as_deref()),
        heartbeat: config.service_manager.watchdog_ns.map(Heartbeat::for_limit),
    };
    loop {
        supervisor.clock.tick();
        if let Some(init) = supervisor.start_children() {
            return Ok(Outcome::Worker(init));
        }
        if supervisor.has_ended() {
            return Ok(Outcome::Ended);
        }
        supervisor.wait()?;
        supervisor.clock.tick();
        supervisor.hear_workers();
        while let Some(event) = signals::read(&supervisor.signals)? {
            match event {
                signals::Event::ChildExited => supervisor.reap(),
                signals::Event::Hangup => supervisor.upgrade(),
                // The access logs are theirs.
                signals::Event::Reopen => tell(&supervisor.alive(), Signal::SIGUSR1),
                signals::Event::Stop(signal) => supervisor.stop(signal),
            }
        }
        supervisor.enforce();
        supervisor.look_after_workers();
    }
}

/// One socket for each worker and address, beginning with those given; no more than those if a service manager
/// has opened them. Sockets are never closed, even if there are more than workers: somebody may wait in their
/// queues.
fn open_sockets(
    config: &Config,
    workers: usize,
    mut sockets: Vec<TcpListener>,
) -> Result<Vec<TcpListener>, ListenError> {
    if config.opened_by() == OpenedBy::ServiceManager {
        return Ok(sockets);
    }
    for address in &config.listen {
        let is_of = |socket: &&TcpListener| {
            socket.local_addr().is_ok_and(|found| may_stand_for(found, *address))
        };
        let found: Vec<&TcpListener> = sockets.iter().filter(is_of).collect();
        // With port 0 the first socket decides, and the others share its port.
        let first = found.first().map_or(Ok(*address), |socket| socket.local_addr());
        let mut address = first.map_err(|error| ListenError::new(*address, error))?;
        for _ in found.len()..workers {
            let socket = listen(address, config.listeners)?;
            address = socket.local_addr().map_err(|error| ListenError::new(address, error))?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

impl Supervisor<'_> {
    /// Starts the workers that are due. Returns what one is born with, in its process.
    fn start_children(&mut self) -> Option<WorkerInit> {
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
                Ok(init) => return init,
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

    fn start(&mut self, place: usize) -> io::Result<Option<WorkerInit>> {
        let listeners = self.sockets_of(place)?;
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let parent = getpid();
        match sys::fork()? {
            Fork::Parent(pid) => {
                let now_ns = self.clock.now_ns();
                if let Some(child) = self.children.get_mut(place) {
                    child.born(pid, now_ns);
                    child.service = WorkerReadiness::Pending(reading);
                    info!("worker {place} is process {pid}");
                }
                Ok(None)
            }
            Fork::Child => {
                let is_replacement = self.children.get(place).is_some_and(|child| child.deaths > 0);
                let ready = writing;
                Ok(Some(WorkerInit { number: place, listeners, ready, is_replacement, parent }))
            }
        }
    }

    /// Waits for a signal, for a worker that serves, or for something to be due.
    fn wait(&self) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let due = self.children.iter().filter_map(|child| match child.state {
            State::Due { at_ns } => Some(at_ns),
            State::Alive { .. } | State::Gone => None,
        });
        let due_ns = match self.stage {
            UpgradeState::Stopping { until_ns } => Some(until_ns),
            UpgradeState::Starting | UpgradeState::Serving => {
                due.chain(self.heartbeat.as_ref().map(Heartbeat::due_ns)).min()
            }
        };
        let timeout = due_ns.map(|due_ns| {
            let ns = i64::try_from(due_ns.saturating_sub(now_ns)).unwrap_or(i64::MAX);
            Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
        });
        let mut files = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let awaited = self.children.iter().filter_map(Child::awaited);
        files.extend(awaited.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in which workers serve by now.
    fn hear_workers(&mut self) {
        for child in &mut self.children {
            let Some(pipe) = child.awaited() else { continue };
            match rustix::io::read(pipe, &mut [0; 1]) {
                Ok(1..) => child.mark_ready(),
                // It has died without, which a signal tells as well.
                Ok(0) => child.service = WorkerReadiness::Unknown,
                Err(_) => {} // nothing yet
            }
        }
        if self.stage == UpgradeState::Starting && self.children.iter().all(Child::serves) {
            self.stage = UpgradeState::Serving;
            tell(&self.old, Signal::SIGTERM);
            self.leaving.append(&mut self.old);
            let addresses = self.addresses().into_keys().collect();
            info!("{}", self.config.startup_line(&addresses, self.others));
            self.report_ready("");
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
            for (place, child) in self.children.iter_mut().enumerate() {
                if child.pid() != Some(pid) {
                    continue;
                }
                if is_stopping {
                    child.state = State::Gone;
                    info!("worker {place}, process {pid}, {how}");
                } else {
                    child.died(now_ns);
                    warn!("worker {place}, process {pid}, {how}: it is replaced");
                }
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
                let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.as_fd()).collect();
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
