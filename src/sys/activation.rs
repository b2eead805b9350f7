//! Socket activation: listening sockets opened by systemd before it started this process, or by another
//! implementation of its protocol.
//!
//! [`crate::config`] reads the environment. The service manager keeps a descriptor of each socket that it
//! passes. Connections in the accept queue therefore survive the exit of this process: the next one gets the
//! same socket. For that reason such a socket is not shared with other processes on the port. A process that
//! was passed sockets is a [`crate::group`] of one.

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    os::fd::{OwnedFd, RawFd},
};

use log::{info, warn};
use mio::net::TcpListener;

use crate::sys::{
    self,
    listener::{Options, address_of, adopt, renew},
};

/// Name of passed sockets that serve only the admin routes.
const ADMIN: &str = "admin";

/// The listeners that were passed.
#[derive(Debug, Default)]
pub struct PassedListeners {
    /// All of them.
    pub listeners: Vec<TcpListener>,
    /// The addresses of those named `admin`.
    pub admin: Vec<SocketAddr>,
}

/// A passed descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its number.
    pub descriptor: RawFd,
    /// Its name: `FileDescriptorName=` of the socket unit, by default the name of that unit.
    pub name: String,
}

impl Passed {
    /// Whether it serves only the admin routes.
    pub fn is_admin(&self) -> bool {
        self.name == ADMIN
    }
}

/// The flags whose addresses are not opened, because a service manager has passed sockets in their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replaced {
    /// None.
    #[default]
    Nothing,
    /// `--listen`.
    Listen,
    /// `--admin-listen`.
    AdminListen,
    /// Both.
    Both,
}

impl Replaced {
    const ALL: [Self; 4] = [Self::Nothing, Self::Listen, Self::AdminListen, Self::Both];

    /// Returns the names of the flags.
    pub const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Listen => &["listen"],
            Self::AdminListen => &["admin-listen"],
            Self::Both => &["listen", "admin-listen"],
        }
    }

    /// Returns the value whose flags have these names, in the order of [`Self::flags`].
    pub fn from_flags(names: &[String]) -> Option<Self> {
        Self::ALL.into_iter().find(|replaced| replaced.flags() == names)
    }

    /// Returns the flags that these sockets replace.
    pub fn by(passed: &[Passed]) -> Self {
        let has = |is_admin| passed.iter().any(|passed| passed.is_admin() == is_admin);
        match (has(false), has(true)) {
            (false, false) => Self::Nothing,
            (true, false) => Self::Listen,
            (false, true) => Self::AdminListen,
            (true, true) => Self::Both,
        }
    }
}

/// Returns a line that says which flags passed sockets replace, if there are any.
pub fn summary(passed: &[Passed]) -> Option<String> {
    let flags = match Replaced::by(passed) {
        Replaced::Nothing => return None,
        Replaced::Listen => "--listen",
        Replaced::AdminListen => "--admin-listen",
        Replaced::Both => "--listen and --admin-listen",
    };
    let count = passed.len();
    let sockets = if count == 1 { "socket" } else { "sockets" };
    Some(format!("using {count} {sockets} passed by the service manager instead of {flags}"))
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} ({})", self.descriptor, self.name)
    }
}

/// Why a passed descriptor cannot be used.
#[derive(Debug)]
pub struct PassedError {
    passed: Passed,
    source: io::Error,
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on passed {}: {}", self.passed, self.source)
    }
}

impl Error for PassedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Adopts all passed sockets, and sets their options. Call it once.
pub fn take(passed: &[Passed], options: Options) -> Result<PassedListeners, PassedError> {
    let found = adopt_all(passed)?;
    for (listener, passed) in found.listeners.iter().zip(passed) {
        // Connections in the accept queue keep the old options: they inherited them when they arrived.
        if let Err(error) = renew(listener, options) {
            warn!("cannot set socket options of passed {passed}: {error}");
        }
    }
    if let Some(summary) = summary(passed) {
        info!("{summary}");
    }
    Ok(found)
}

/// Returns all passed sockets with their addresses, in their order. It changes no option or flag of a socket, as
/// another process may use it. Call it once, instead of [`take`].
pub fn check(passed: &[Passed]) -> Result<Vec<(OwnedFd, SocketAddr)>, PassedError> {
    let check = |passed: &Passed| {
        let failure = |source| PassedError { passed: passed.clone(), source };
        let socket = sys::adopt(passed.descriptor).map_err(failure)?;
        let address = address_of(&socket).map_err(failure)?;
        Ok((socket, address))
    };
    passed.iter().map(check).collect()
}

fn adopt_all(passed: &[Passed]) -> Result<PassedListeners, PassedError> {
    let mut found = PassedListeners::default();
    for passed in passed {
        let failure = |source| PassedError { passed: passed.clone(), source };
        let listener = sys::adopt(passed.descriptor).and_then(adopt).map_err(failure)?;
        if passed.is_admin() {
            found.admin.push(listener.local_addr().map_err(failure)?);
        }
        found.listeners.push(listener);
    }
    Ok(found)
}
