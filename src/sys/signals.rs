//! Signals, as readiness events of the loop.

use std::{fmt, io};

use mio::{Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: end in order.
    Stop,
    /// SIGUSR1: open the access log anew.
    Reopen,
}

/// Receives the signals this process handles.
pub struct Signals {
    signals: signal_hook_mio::v1_0::Signals,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Installs the handlers and has `registry` report signals under `token`.
    pub fn install(registry: &Registry, token: Token) -> io::Result<Self> {
        // SIGXFSZ: a log that has reached the limit of file sizes is an error of the write, and not the end.
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGXFSZ])?;
        registry.register(&mut signals, token, mio::Interest::READABLE)?;
        // A supervisor has it blocked until here: unhandled it would end this process.
        SigSet::from(Signal::SIGUSR1).thread_unblock()?;
        Ok(Self { signals })
    }

    /// The requests that have come since the last call.
    pub fn pending(&mut self) -> impl Iterator<Item = Request> {
        self.signals.pending().filter_map(|signal| match signal {
            SIGUSR1 => Some(Request::Reopen),
            SIGXFSZ => None,
            _ => Some(Request::Stop),
        })
    }
}
