//! Signals, as readiness events of the loop.

use std::{fmt, io};

use mio::{Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: end in order.
    Stop,
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
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])?;
        registry.register(&mut signals, token, mio::Interest::READABLE)?;
        Ok(Self { signals })
    }

    /// The requests that have come since the last call.
    pub fn pending(&mut self) -> impl Iterator<Item = Request> {
        self.signals.pending().map(|_| Request::Stop)
    }
}
