//! The configuration: argv and the environment become a checked [`Config`], or a usage error.
//!
//! Every flag has an environment variable; a flag on the command line takes precedence. No other module reads
//! argv or the environment.

mod address;
mod effective;
mod environment;
mod flags;
mod inherited;
mod invocation;
mod memory;
mod service_manager;
mod validate;

use std::{collections::BTreeSet, env, ffi::OsString, fmt, net::SocketAddr};

use clap::{CommandFactory as _, FromArgMatches as _};

use flags::{Action, Flags};
pub use inherited::{
    INHERITED_ADMIN, INHERITED_HELD, INHERITED_LEAVING, INHERITED_PASSED, INHERITED_PREVIOUS,
    INHERITED_PROGRAM, INHERITED_REGION, INHERITED_REHEARSAL, INHERITED_SOCKETS, INHERITED_WORKERS,
    Inherited, InheritedWorker, Purpose, environment_of_previous, upgrade_environment,
};
pub use invocation::Invocation;
pub use memory::MemoryUse;
pub use service_manager::{LISTEN_VARIABLES, NOTIFY_VARIABLES, ServiceManager};

use crate::{
    app,
    http::{conn::TimeoutKind, request::limits},
    logging::{LogOptions, access::AccessLogOptions},
    server::drain,
    sys::{
        activation::Replaced,
        listener::{self, is_admin},
    },
};

/// The configuration of a server, checked.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Addresses that serve only the admin routes, which the others then do not.
    pub admin_listen: Vec<SocketAddr>,
    /// Largest n in the table.
    pub table_max_n: u32,
    /// Limits on numbers.
    pub numbers: app::NumberLimits,
    /// Limits on a request.
    pub limits: limits::Limits,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Timeouts in nanoseconds, in the order of [`TimeoutKind::ALL`].
    pub time_limits_ns: [u64; TimeoutKind::COUNT],
    /// Options of listening sockets.
    pub listeners: listener::Options,
    /// Number of workers under a supervisor; none: a single process serves.
    pub workers: Option<usize>,
    /// How this program was started.
    pub invocation: Invocation,
    /// State inherited across an in-place upgrade.
    pub inherited: Option<Inherited>,
    /// What the environment says about the service manager.
    pub service_manager: ServiceManager,
    /// Times of a graceful shutdown.
    pub drain: drain::Times,
    /// Process events.
    pub log: LogOptions,
    /// The access log, if there is one.
    pub access_log: Option<AccessLogOptions>,
    /// Warnings about the environment, to be logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Returns the log line of a server that has started on these addresses, of which `admin` are for operators, next
    /// to `others` workers that serve the same port.
    pub fn startup_line(
        &self,
        addresses: &BTreeSet<SocketAddr>,
        admin: &[SocketAddr],
        others: u64,
    ) -> String {
        let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("FIBSRV_REVISION"));
        let processes = match self.workers {
            None => "1 process".to_owned(),
            Some(workers) => format!("{workers} workers"),
        };
        let text = |addresses: Vec<&SocketAddr>| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (admin, public): (Vec<_>, Vec<_>) =
            addresses.iter().partition(|bound| is_admin(**bound, admin));
        let public = text(public);
        let admin =
            if admin.is_empty() { String::new() } else { format!(", admin on {}", text(admin)) };
        format!(
            "started version {version} ({revision}) with {others} other workers on the port: {processes}, \
             listening on {public}{admin}"
        )
    }

    /// Returns whether this process is to rehearse an upgrade.
    pub fn is_rehearsal(&self) -> bool {
        self.inherited.as_ref().is_some_and(|inherited| inherited.purpose == Purpose::Rehearsal)
    }

    /// Returns the flags that socket activation replaces, at this start or at that of the version before an upgrade.
    pub fn replaced(&self) -> Replaced {
        let passed = || Replaced::by(&self.service_manager.sockets);
        self.inherited.as_ref().map_or_else(passed, |inherited| inherited.replaced)
    }

    /// Returns the addresses at which this program opens sockets: those of `--listen`, and those of `--admin-listen`.
    /// Both a start and `--check` open them.
    pub fn addresses_to_open(&self) -> [&[SocketAddr]; 2] {
        match self.replaced() {
            Replaced::Nothing => [&self.listen, &self.admin_listen],
            Replaced::Listen => [&[], &self.admin_listen],
            Replaced::AdminListen => [&self.listen, &[]],
            Replaced::Both => [&[], &[]],
        }
    }
}

/// What the command line requests.
#[derive(Debug)]
pub enum Command {
    /// Run a server.
    Serve(Box<Config>),
    /// Check what a server would need, and print this text.
    Check(Box<Config>, String),
    /// Check whether the servers at these addresses, each with a host and a port, are ready.
    Health(Vec<String>),
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
    let command = environment::command_without_empty_variables();
    let matches = match command.try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(environment::parse_error(&error, &arguments)),
    };
    let flags = Flags::from_arg_matches(&matches)
        .map_err(|error| environment::parse_error(&error, &arguments))?;
    if let Some(Action::Health { addresses }) = &flags.action {
        let addresses = flags.addresses_to_check(addresses);
        let addresses = addresses.map_err(|error| environment::validation_error(&error, &matches));
        return addresses.map(Command::Health);
    }
    let surroundings = Surroundings {
        invocation: Invocation::new(arguments, env::var_os(INHERITED_PROGRAM))?,
        inherited: Inherited::read(|name| env::var_os(name))?,
        service_manager: ServiceManager::read(|name| env::var_os(name), std::process::id())?,
        warnings: environment::warnings(environment::names()),
    };
    let config = flags
        .validate(surroundings)
        .map_err(|error| environment::validation_error(&error, &matches))?;
    if flags.check {
        let text = effective::render(&matches, &config);
        Ok(Command::Check(Box::new(config), text))
    } else {
        Ok(Command::Serve(Box::new(config)))
    }
}

/// What a configuration has besides the flags.
struct Surroundings {
    invocation: Invocation,
    inherited: Option<Inherited>,
    service_manager: ServiceManager,
    warnings: Vec<String>,
}

#[cfg(test)]
mod tests;
