//! The supervisor: starts, watches and restarts the workers. It serves no requests itself.
//!
//! The supervisor owns the listening sockets, one for each worker and address, until it exits. If a worker
//! exits, the next one accepts the connections that wait in its queue. Workers are forked while the process
//! has a single thread, and share the pages of the table. A worker that exits is restarted at once on the
//! same sockets. Signals are read from a descriptor, so no code here runs in a signal handler.

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

/// Time that workers get beyond the longest possible drain before the supervisor kills them.
const KILL_DELAY_NS: u64 = 5_000_000_000;

/// The process in which [`run`] has returned.
#[derive(Debug)]
pub enum Outcome {
    /// The supervisor. All workers have exited.
    Ended,
    /// A new worker process.
    Worker(WorkerInit),
}

struct Supervisor<'c> {
    config: &'c Config,
    clock: Clock,
    signals: SignalFd,
    /// The sockets of all workers. Those of an address are in a row.
    sockets: Vec<TcpListener>,
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
    /// When workers are checked for heartbeats. Without a watchdog they are not.
    heartbeat: Option<Heartbeat>,
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

/// Runs `workers` workers until a signal to stop is received and they have exited. Returns in each worker
/// process, too.
///
/// `sockets` are listening sockets that are open already. `region` is the memory for shared metrics, which
/// the next program inherits in an upgrade. `others` is the number of other workers on the port.
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
        state: SupervisorState::Starting,
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
        supervisor.update_readiness();
        while let Some(event) = signals::read(&supervisor.signals)? {
            match event {
                signals::Event::ChildExited => supervisor.reap(),
                signals::Event::Hangup => supervisor.upgrade(),
                // The workers write the access logs.
                signals::Event::Reopen => send_signal(&supervisor.all_pids(), Signal::SIGUSR1),
                signals::Event::Stop(signal) => supervisor.stop(signal),
            }
        }
        supervisor.enforce();
        supervisor.check_workers();
    }
}

/// Returns one socket for each worker and address: those in `sockets`, and new ones where they are too few.
/// Opens none if the service manager has opened `sockets`.
///
/// Sockets are never closed, even if there are more than workers: clients may be waiting in their queues.
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
        // With port 0 the kernel chooses the port of the first socket, and the others use the same port.
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
    /// Starts the workers that are due. In a worker process, returns what it starts with.
    fn start_children(&mut self) -> Option<WorkerInit> {
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
                Ok(init) => return init,
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

    /// Forks the worker at `place`. In its process, returns what it starts with.
    fn start(&mut self, place: usize) -> io::Result<Option<WorkerInit>> {
        let listeners = self.sockets_of(place)?;
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let parent = getpid();
        match sys::fork()? {
            Fork::Parent(pid) => {
                let now_ns = self.clock.now_ns();
                if let Some(child) = self.children.get_mut(place) {
                    child.mark_started(pid, now_ns);
                    child.readiness = WorkerReadiness::Pending(reading);
                    info!("started worker {place} (pid {pid})");
                }
                Ok(None)
            }
            Fork::Child => {
                let is_replacement = self.children.get(place).is_some_and(|child| child.exits > 0);
                let ready = writing;
                Ok(Some(WorkerInit { number: place, listeners, ready, is_replacement, parent }))
            }
        }
    }

    /// Waits for a signal, for a worker to become ready, or for the next deadline.
    fn wait(&self) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let due = self.children.iter().filter_map(|child| match child.state {
            State::Due { at_ns } => Some(at_ns),
            State::Running { .. } | State::Stopped => None,
        });
        let due_ns = match self.state {
            SupervisorState::Stopping { until_ns } => Some(until_ns),
            SupervisorState::Starting | SupervisorState::Serving => {
                due.chain(self.heartbeat.as_ref().map(Heartbeat::due_ns)).min()
            }
        };
        let timeout = due_ns.map(|due_ns| {
            let ns = i64::try_from(due_ns.saturating_sub(now_ns)).unwrap_or(i64::MAX);
            Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
        });
        let mut files = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let pipes = self.children.iter().filter_map(Child::pending_pipe);
        files.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Records which workers have become ready. When all are, stops the workers of the previous version.
    fn update_readiness(&mut self) {
        for child in &mut self.children {
            let Some(pipe) = child.pending_pipe() else { continue };
            match rustix::io::read(pipe, &mut [0; 1]) {
                Ok(1..) => child.mark_ready(),
                // The worker has exited before it was ready. SIGCHLD reports that as well.
                Ok(0) => child.readiness = WorkerReadiness::Unknown,
                Err(_) => {} // nothing yet
            }
        }
        if self.state == SupervisorState::Starting && self.children.iter().all(Child::is_ready) {
            self.state = SupervisorState::Serving;
            send_signal(&self.old, Signal::SIGTERM);
            self.leaving.append(&mut self.old);
            let addresses = self.addresses().into_keys().collect();
            info!("{}", self.config.startup_line(&addresses, self.others));
            self.report_ready("");
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
            for (place, child) in self.children.iter_mut().enumerate() {
                if child.pid() != Some(pid) {
                    continue;
                }
                if is_stopping {
                    child.state = State::Stopped;
                    info!("worker {place} (pid {pid}) {how}");
                } else {
                    child.mark_exited(now_ns);
                    warn!("worker {place} (pid {pid}) {how}; restarting");
                }
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
                let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.as_fd()).collect();
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
