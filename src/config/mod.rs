//! The configuration: argv and the environment become a checked [`Config`], or a usage error.
//!
//! Every flag has an environment variable; a flag on the command line takes precedence. No other module reads
//! argv or the environment.

mod effective;
mod flags;
mod inherited;
mod service_manager;
mod validate;

use std::{env, ffi::OsString, fmt, net::SocketAddr, path::PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use log::LevelFilter;

use flags::{Action, Flags};
pub use inherited::{
    INHERITED_LEAVING, INHERITED_PASSED, INHERITED_REGION, INHERITED_SOCKETS, INHERITED_WORKERS,
    Inherited, OpenedBy,
};
pub use service_manager::{LISTEN_VARIABLES, NOTIFY_VARIABLES, ServiceManager};

use crate::{
    app,
    http::request::limits,
    logging::access,
    server::{drain, timers::CLASSES},
    sys::listener,
};

/// The configuration of a server, checked.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Largest n in the table.
    pub table_max_n: u32,
    /// Limits on numbers.
    pub numbers: app::Bounds,
    /// Limits on a request.
    pub limits: limits::Limits,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Timeouts in nanoseconds, in the order of [`crate::server::timers::Class::ALL`].
    pub time_limits_ns: [u64; CLASSES],
    /// Options of listening sockets.
    pub listeners: listener::Options,
    /// Number of workers under a supervisor; none: a single process serves.
    pub workers: Option<usize>,
    /// Directory for the file of shared metrics.
    pub runtime_dir: Option<PathBuf>,
    /// How this program was started.
    pub invocation: Invocation,
    /// State inherited across an in-place upgrade.
    pub inherited: Option<Inherited>,
    /// What the environment says about the service manager.
    pub service_manager: ServiceManager,
    /// Times of a graceful shutdown.
    pub drain: drain::Times,
    /// Minimum severity to log.
    pub log_level: LevelFilter,
    /// The access log, if there is one.
    pub access_log: Option<access::Options>,
}

impl Config {
    /// Returns who opens the listening sockets. Sockets passed by a service manager replace all others.
    pub fn opened_by(&self) -> OpenedBy {
        if self.service_manager.sockets.is_empty() {
            self.inherited.as_ref().map_or(OpenedBy::Us, |inherited| inherited.opened_by)
        } else {
            OpenedBy::ServiceManager
        }
    }
}

/// How this program was started; an upgrade starts it again in the same way.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Path of the executable.
    pub program: PathBuf,
    /// The arguments, without the program's name.
    pub arguments: Vec<OsString>,
}

/// What the command line requests.
#[derive(Debug)]
pub enum Command {
    /// Run a server.
    Serve(Box<Config>),
    /// Check whether the servers at these addresses are ready.
    Health(Vec<SocketAddr>),
    /// Print this text and exit with status 0.
    Print(String),
}

/// An error in the flags or the environment, in one line.
#[derive(Debug)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Returns the definitions of all flags, from which the manual page and shell completions are generated.
pub fn command() -> clap::Command {
    Flags::command()
}

/// Parses the arguments, of which the first is the program's name, and the environment.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(UsageError(one_line(&error))),
    };
    let flags = Flags::from_arg_matches(&matches).map_err(|error| UsageError(one_line(&error)))?;
    if let Some(Action::Health { addresses }) = &flags.action {
        return flags.addresses_to_check(addresses).map(Command::Health);
    }
    let program = env::current_exe()
        .map_err(|error| UsageError(format!("cannot find the path of this program: {error}")))?;
    let arguments = arguments.into_iter().skip(1).collect();
    let service_manager = ServiceManager::read(|name| env::var_os(name), std::process::id())?;
    let inherited = Inherited::read(|name| env::var_os(name))?;
    let config = flags.validate(Invocation { program, arguments }, inherited, service_manager)?;
    Ok(if flags.check {
        Command::Print(effective::render(&matches, &config))
    } else {
        Command::Serve(Box::new(config))
    })
}

/// Returns the first line of clap's message, which says what is wrong; the rest are hints.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let missing = matches!(error.kind(), ErrorKind::MissingRequiredArgument);
    debug_assert!(!missing, "no flag is required");
    format!("{message} (see --help)")
}

#[cfg(test)]
mod tests;
