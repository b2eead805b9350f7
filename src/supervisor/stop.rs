//! The end of workers: reaping, restarting, and stopping all of them.

use log::{error, info, warn};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::Pid,
};

use crate::{
    group::{Stop, message::Message},
    notify::socket::Notification,
    supervisor::{
        Supervisor, SupervisorState,
        child::{ProcessState, Worker},
    },
    sys::signals,
};

/// Time that workers get beyond the longest possible drain before the supervisor kills them.
const KILL_DELAY_NS: u64 = 5_000_000_000;

impl Supervisor<'_> {
    /// Reaps processes that have exited, and schedules the restart of workers unless the supervisor is stopping.
    pub(super) fn reap(&mut self) {
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
            if self.end_rehearsal(pid, &how) {
                continue;
            }
            let is_old = [&self.old, &self.leaving].into_iter().flatten().any(|old| old.pid == pid);
            if is_old {
                self.old.retain(|old| old.pid != pid);
                self.leaving.retain(|leaving| leaving.pid != pid);
                info!("process {pid} of the previous version {how}");
            } else {
                self.record_exit(pid, &how);
            }
        }
    }

    fn record_exit(&mut self, pid: Pid, how: &str) {
        let is_stopping = self.is_stopping();
        let now_ns = self.clock.now_ns();
        let mut children = self.children.iter_mut().enumerate();
        let exited = children.find(|(_, child)| child.worker().is_some_and(|it| it.pid == pid));
        let Some((place, child)) = exited else { return };
        if is_stopping {
            child.state = ProcessState::Stopped;
            info!("worker {place} (pid {pid}) {how}");
        } else {
            child.mark_exited(now_ns);
            warn!("worker {place} (pid {pid}) {how}; restarting");
        }
        // The kernel may have woken it for connections that it has not accepted.
        self.announce(place);
    }

    /// Stops the workers gracefully. A second signal makes them exit at once.
    pub(super) fn stop(&mut self, signal: Signal) {
        if self.is_stopping() {
            return stop_all(self.workers(), Stop::Immediate);
        }
        let is_interactive = signals::is_interactive(signal);
        let (stop, hint, times) = if is_interactive {
            let hint = "; press Ctrl-C again to exit at once";
            (Stop::Interactive, hint, self.config.drain.interactive())
        } else {
            (Stop::Graceful, "", self.config.drain)
        };
        info!("received {signal}; stopping {} workers{hint}", self.workers().count());
        self.notifier.send(Notification::Stopping("workers are finishing their connections"));
        self.cancel_upgrade();
        // A stopped worker does not exit soon. Other processes watch its listeners from now on.
        self.group.leave();
        let until_ns = self.clock.now_ns().saturating_add(times.longest_ns());
        self.state = SupervisorState::Stopping { until_ns: until_ns.saturating_add(KILL_DELAY_NS) };
        for child in &mut self.children {
            if child.worker().is_none() {
                child.state = ProcessState::Stopped;
            }
        }
        stop_all(self.workers(), stop);
    }

    /// Returns when workers that stop now must have exited.
    pub(super) fn exit_deadline_ns(&self) -> u64 {
        let longest_ns = self.config.drain.longest_ns().saturating_add(KILL_DELAY_NS);
        self.clock.now_ns().saturating_add(longest_ns)
    }

    /// Kills workers that have not exited in time.
    pub(super) fn enforce(&mut self) {
        if self.leaving_until_ns.take_if(|until_ns| *until_ns <= self.clock.now_ns()).is_some() {
            for worker in &self.leaving {
                error!(
                    "process {} of the previous version did not exit in time; killing it",
                    worker.pid
                );
                send_signal(worker.pid, Signal::SIGKILL);
            }
        }
        let SupervisorState::Stopping { until_ns } = self.state else { return };
        if until_ns <= self.clock.now_ns() {
            error!("{} workers did not exit in time; killing them", self.workers().count());
            for worker in self.workers() {
                send_signal(worker.pid, Signal::SIGKILL);
            }
            self.state = SupervisorState::Stopping { until_ns: u64::MAX };
        }
    }

    /// Makes all workers reopen their access logs.
    pub(super) fn reopen_access_logs(&self) {
        for worker in self.workers() {
            send_signal(worker.pid, Signal::SIGUSR1);
        }
    }
}

/// Sends a request to stop to workers.
pub(super) fn stop_all<'w, W: IntoIterator<Item = &'w Worker>>(workers: W, stop: Stop) {
    for worker in workers {
        // The channel is full if the worker is stopped, and closed if it has exited.
        if worker.channel.send(Message::Stop(stop), None).is_err() {
            let is_immediate = stop == Stop::Immediate;
            let signal = if is_immediate { Signal::SIGKILL } else { Signal::SIGTERM };
            send_signal(worker.pid, signal);
        }
    }
}

/// Sends a signal to a process.
pub(super) fn send_signal(pid: Pid, signal: Signal) {
    // A process that has exited meanwhile is not an error.
    if let Err(error) = kill(pid, signal)
        && error != Errno::ESRCH
    {
        warn!("cannot send {signal} to {pid}: {error}");
    }
}
