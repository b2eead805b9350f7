//! Being a service of systemd, or of whoever else speaks its protocol: listening sockets that were opened
//! before this process was started, and telling how it fares.
//!
//! What the environment says about it is in [`crate::config`]. The service manager keeps a descriptor of each
//! socket that it passes, so nobody who waits there is lost whatever becomes of this process: the next one gets
//! the same socket. For that reason such a socket is not made known to other processes on the port, and a
//! process that was passed sockets is a [`crate::group`] of one.

use std::{error::Error, fmt, io, os::fd::RawFd};

use log::{info, warn};
use mio::net::TcpListener;

use crate::sys::{
    self,
    listener::{Options, adopt, renew},
};

/// A listening socket that the service manager passed to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The number of its descriptor.
    pub descriptor: RawFd,
    /// Its name; systemd uses the name of the unit unless `FileDescriptorName=` says otherwise.
    pub name: String,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} ({})", self.descriptor, self.name)
    }
}

/// Why a descriptor that was passed is of no use.
#[derive(Debug)]
pub struct PassedError {
    passed: Passed,
    source: io::Error,
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was passed to listen on: {}", self.passed, self.source)
    }
}

impl Error for PassedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Takes over all sockets that were passed. To be called once.
pub fn take(passed: &[Passed], options: Options) -> Result<Vec<TcpListener>, PassedError> {
    let listeners = passed.iter().map(|passed| {
        let listener = sys::adopt(passed.descriptor)
            .and_then(adopt)
            .map_err(|source| PassedError { passed: passed.clone(), source })?;
        // Who has connected already is without: accepted sockets inherit what was set when they came.
        if let Err(error) = renew(&listener, options) {
            warn!("{passed} keeps the options that it was opened with: {error}");
        }
        Ok(listener)
    });
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
    if !listeners.is_empty() {
        let count = listeners.len();
        info!("sockets passed by the service manager: {count}; --listen counts for nothing");
    }
    Ok(listeners)
}
