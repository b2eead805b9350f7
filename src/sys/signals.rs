//! Signals: dispositions, mask, and the descriptor from which they are read.
//!
//! No handler ever runs. The signals that this program uses are always blocked and read as data. A signal
//! that arrives while the program starts stays pending until it is read.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsRawFd as _,
};

use log::info;
use mio::{Interest, Registry, Token, unix::SourceFd};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::sys;

/// Event that a signal reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT: stop.
    Stop(Signal),
    /// SIGHUP: upgrade, or the terminal is gone.
    Hangup,
    /// SIGUSR1: reopen the access log.
    Reopen,
    /// SIGCHLD: a child has exited.
    ChildExited,
}

/// The signals that are read from the descriptor.
const READ: [(Signal, Event); 5] = [
    (Signal::SIGTERM, Event::Stop(Signal::SIGTERM)),
    (Signal::SIGINT, Event::Stop(Signal::SIGINT)),
    (Signal::SIGHUP, Event::Hangup),
    (Signal::SIGUSR1, Event::Reopen),
    (Signal::SIGCHLD, Event::ChildExited),
];

/// Effect of SIGHUP on a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHangup {
    /// The terminal is gone: shut down gracefully.
    Shutdown,
    /// There is nothing to upgrade: log that, and continue.
    Continue,
    /// The supervisor handles it: do nothing.
    Ignore,
}

/// Sets dispositions and mask and overrides inherited ones. Call it before anything else.
pub fn init() -> io::Result<OnHangup> {
    blocked().thread_set_mask()?;
    let mut is_hangup_ignored = false;
    for (signal, _) in READ {
        // An ignored SIGCHLD would hide the exit of workers.
        let inherited = sys::set_disposition(signal, SigHandler::SigDfl)?;
        is_hangup_ignored |= signal == Signal::SIGHUP && matches!(inherited, SigHandler::SigIgn);
    }
    // A write beyond the limit of file sizes then fails, and does not end the process.
    sys::set_disposition(Signal::SIGXFSZ, SigHandler::SigIgn)?;
    let has_terminal = !is_hangup_ignored && File::open("/dev/tty").is_ok();
    Ok(if has_terminal { OnHangup::Shutdown } else { OnHangup::Continue })
}

/// Whether the signal was sent interactively: it is that of Ctrl-C, and stderr is a terminal.
pub fn is_interactive(signal: Signal) -> bool {
    signal == Signal::SIGINT && io::stderr().is_terminal()
}

/// Unblocks all signals, for a command that exits by itself.
pub fn unblock() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

fn blocked() -> SigSet {
    READ.into_iter().map(|(signal, _)| signal).collect()
}

/// Opens a descriptor from which pending signals are read.
pub fn open() -> io::Result<SignalFd> {
    // Blocked already, unless a test has not called `init`.
    blocked().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    Ok(SignalFd::with_flags(&blocked(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Reads the next pending signal.
pub fn read(signals: &SignalFd) -> io::Result<Option<Event>> {
    let Some(received) = signals.read_signal()? else { return Ok(None) };
    let is_it = |signal: Signal| u32::try_from(signal as i32) == Ok(received.ssi_signo);
    Ok(READ.into_iter().find(|(signal, _)| is_it(*signal)).map(|(_, event)| event))
}

/// Reaps a child that has exited, if there is one.
pub fn reap() -> io::Result<Option<WaitStatus>> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(status) => Ok(Some(status)),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a child to exit.
pub fn await_exit(child: Pid) -> io::Result<()> {
    waitpid(child, None)?;
    Ok(())
}

/// Request that a signal makes to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerSignal {
    /// SIGTERM, SIGINT, or SIGHUP when the terminal is gone: shut down gracefully.
    Stop(Signal),
    /// SIGUSR1: reopen the access log.
    Reopen,
}

/// The signals of a worker, as readiness events of its loop.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
    on_hangup: OnHangup,
}

impl Signals {
    /// Registers the signals under `token`.
    pub fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let descriptor = open()?;
        // Children of the program that was replaced by this one may have exited already.
        while reap()?.is_some() {}
        registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { descriptor, on_hangup: OnHangup::Ignore })
    }

    /// Sets the effect of SIGHUP from now on.
    pub const fn set_on_hangup(&mut self, on_hangup: OnHangup) {
        self.on_hangup = on_hangup;
    }

    /// Returns whether a supervisor handles SIGHUP, and stops this process.
    pub fn is_supervised(&self) -> bool {
        self.on_hangup == OnHangup::Ignore
    }

    /// Returns the requests that have arrived since the last call.
    pub fn pending(&mut self) -> io::Result<Vec<WorkerSignal>> {
        let mut requests = Vec::new();
        while let Some(event) = read(&self.descriptor)? {
            match event {
                Event::Reopen => requests.push(WorkerSignal::Reopen),
                Event::Hangup => match self.on_hangup {
                    OnHangup::Shutdown => requests.push(WorkerSignal::Stop(Signal::SIGHUP)),
                    OnHangup::Continue => {
                        info!(
                            "received SIGHUP; there is no supervisor (--workers) that could upgrade"
                        );
                    }
                    OnHangup::Ignore => {}
                },
                // Process 1 of a container inherits processes whose parents have exited.
                Event::ChildExited => while reap()?.is_some() {},
                Event::Stop(signal) => requests.push(WorkerSignal::Stop(signal)),
            }
        }
        Ok(requests)
    }
}
