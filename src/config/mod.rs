//! From argv and environment to a checked [`Config`], or to a usage error.
//!
//! Every flag has an environment variable; a flag given wins. Nothing else in the program reads either.

mod flags;
mod service_manager;

use std::{env, ffi::OsString, fmt, net::SocketAddr, os::fd::RawFd, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Parser as _, error::ErrorKind};
use log::LevelFilter;

use flags::{AccessLogFormat, Action, Flags};
use nix::unistd::Pid;
pub use service_manager::{LISTEN_VARIABLES, NOTIFY_VARIABLES, ServiceManager};

use crate::{
    app,
    fibonacci::Cache,
    http::request::limits,
    logging::access,
    server::{
        drain,
        timers::{CLASSES, Class},
    },
    sys::listener,
};

/// What the program is told to do, checked.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// The last n of the table.
    pub table_max_n: u32,
    /// Bounds on the numbers.
    pub numbers: app::Bounds,
    /// Bounds on a request.
    pub limits: limits::Limits,
    /// Most connections at a time.
    pub connections: usize,
    /// Time limits in nanoseconds, in the order of [`Class::ALL`].
    pub time_limits_ns: [u64; CLASSES],
    /// Options of listening sockets.
    pub listeners: listener::Options,
    /// How many workers a supervisor has; none if there is no supervisor.
    pub workers: Option<usize>,
    /// Where processes that cannot find each other share their metrics.
    pub runtime_dir: Option<PathBuf>,
    /// How this program was started.
    pub invocation: Invocation,
    /// What the version of this program before it has left to it.
    pub inherited: Option<Inherited>,
    /// What a service manager has said.
    pub service_manager: ServiceManager,
    /// How to leave.
    pub drain: drain::Times,
    /// The least grave events that are logged.
    pub log_level: LevelFilter,
    /// The access log, if there is to be one.
    pub access_log: Option<access::Options>,
}

/// How this program was started, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where the program is on disk.
    pub program: PathBuf,
    /// The arguments, without the program's name.
    pub arguments: Vec<OsString>,
}

/// What a supervisor leaves to the program that it executes in its place.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// The numbers of the listening sockets.
    pub sockets: Vec<RawFd>,
    /// Who has opened them.
    pub opened_by: OpenedBy,
    /// The workers that still run.
    pub workers: Vec<Pid>,
    /// Those of them that have been told to leave already.
    pub leaving: Vec<Pid>,
    /// The number of the memory that they count in.
    pub region: Option<RawFd>,
}

impl Config {
    /// Who opens the listening sockets. If a service manager has passed any, those are all there are.
    pub fn opened_by(&self) -> OpenedBy {
        if self.service_manager.sockets.is_empty() {
            self.inherited.as_ref().map_or(OpenedBy::Us, |inherited| inherited.opened_by)
        } else {
            OpenedBy::ServiceManager
        }
    }
}

/// Who has opened the listening sockets, and will see to it that they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// This program, where its flags say.
    Us,
    /// A service manager, where its own configuration says.
    ServiceManager,
}

/// The variable with the numbers of the sockets that are inherited.
pub const INHERITED_SOCKETS: &str = "FIBSRV_INHERITED_SOCKETS";
/// The variable that says, if it is not empty, that a service manager has opened them.
pub const INHERITED_PASSED: &str = "FIBSRV_INHERITED_PASSED";
/// The variable with the process ids of the workers that are inherited.
pub const INHERITED_WORKERS: &str = "FIBSRV_INHERITED_WORKERS";
/// The variable with the process ids of workers that have been told to leave.
pub const INHERITED_LEAVING: &str = "FIBSRV_INHERITED_LEAVING";
/// The variable with the number of the memory for metrics that is inherited, or nothing.
pub const INHERITED_REGION: &str = "FIBSRV_INHERITED_REGION";

/// What was asked for.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Serve(Box<Config>),
    /// Ask whoever listens on these addresses whether they are ready.
    Health(Vec<SocketAddr>),
    /// Print this text and end well.
    Print(String),
}

/// What is wrong with the flags or the environment, in one line.
#[derive(Debug)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The definitions of flags, for what is made of them: the manual page, completions.
pub fn command() -> clap::Command {
    <Flags as clap::CommandFactory>::command()
}

/// Reads flags (the first argument being the program's name) and the environment.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let flags = match Flags::try_parse_from(&arguments) {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(UsageError(one_line(&error))),
    };
    if let Some(Action::Health { addresses }) = &flags.action {
        return flags.whom_to_ask(addresses).map(Command::Health);
    }
    let program = env::current_exe().map_err(|error| UsageError(error.to_string()))?;
    let arguments = arguments.into_iter().skip(1).collect();
    let service_manager = ServiceManager::read(|name| env::var_os(name), std::process::id())?;
    let config = flags.check(Invocation { program, arguments }, inherited()?, service_manager)?;
    Ok(if flags.check {
        Command::Print(config.to_string())
    } else {
        Command::Serve(Box::new(config))
    })
}

/// What the environment says about sockets and workers of the version before.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn inherited() -> Result<Option<Inherited>, UsageError> {
    let (Ok(sockets), Ok(workers)) = (env::var(INHERITED_SOCKETS), env::var(INHERITED_WORKERS))
    else {
        return Ok(None);
    };
    let numbers = |text: &str| -> Result<Vec<i32>, UsageError> {
        let numbers = text.split(',').filter(|number| !number.is_empty()).map(str::parse);
        numbers
            .collect::<Result<_, _>>()
            .map_err(|_| UsageError(format!("{text} is no list of numbers")))
    };
    let pids = |text: &str| -> Result<Vec<Pid>, UsageError> {
        Ok(numbers(text)?.into_iter().map(Pid::from_raw).collect())
    };
    let workers = pids(&workers)?;
    let leaving = pids(&env::var(INHERITED_LEAVING).unwrap_or_default())?;
    let region = numbers(&env::var(INHERITED_REGION).unwrap_or_default())?.first().copied();
    let is_passed = env::var(INHERITED_PASSED).is_ok_and(|value| !value.is_empty());
    let opened_by = if is_passed { OpenedBy::ServiceManager } else { OpenedBy::Us };
    let sockets = numbers(&sockets)?;
    Ok(Some(Inherited { sockets, opened_by, workers, leaving, region }))
}

/// clap's message is a paragraph with hints; its first line says what is wrong.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let missing = matches!(error.kind(), ErrorKind::MissingRequiredArgument);
    debug_assert!(!missing, "no flag is required");
    format!("{message} (see --help)")
}

/// How long a connection lingers after its last answer. No flag: nobody wants another value.
const LINGER: Duration = Duration::from_secs(2);

/// The least head limit: below it no browser gets through.
const HEAD_BYTES_MIN: u64 = 512;
/// More than any machine has: the bound is there so that sums of sizes stay within bounds.
const CACHE_BYTES_MAX: u64 = 1 << 40;
/// The greatest head limit.
const HEAD_BYTES_MAX: u64 = 1024 * 1024;

impl Flags {
    /// These, or those listened on. Which port the kernel has chosen for port 0 is known to who listens alone.
    fn whom_to_ask(&self, named: &[SocketAddr]) -> Result<Vec<SocketAddr>, UsageError> {
        let addresses = if named.is_empty() { &self.listen } else { named };
        match addresses.iter().find(|address| address.port() == 0) {
            Some(address) => {
                Err(UsageError(format!("{address} names no port to ask (see --help)")))
            }
            None => Ok(addresses.to_vec()),
        }
    }

    /// Makes a configuration of the flags, if they go together.
    fn check(
        &self,
        invocation: Invocation,
        inherited: Option<Inherited>,
        service_manager: ServiceManager,
    ) -> Result<Config, UsageError> {
        let head_bytes = within("--max-head", self.max_head, HEAD_BYTES_MIN, HEAD_BYTES_MAX)?;
        let target_bytes = within("--max-target", self.max_target, 1, self.max_head.as_u64())?;
        if !(1..=limits::FIELDS_MAX).contains(&self.max_fields) {
            let most = limits::FIELDS_MAX;
            return Err(UsageError(format!("--max-fields must be 1 to {most} (see --help)")));
        }
        let cache_least = Cache::cost(self.max_n) as u64;
        let cache_bytes = within("--cache-size", self.cache_size, cache_least, CACHE_BYTES_MAX)?;
        if self.max_connections == 0 {
            return Err(UsageError("--max-connections must be at least 1 (see --help)".to_owned()));
        }
        let mut time_limits_ns = [0; CLASSES];
        for (limit, class) in time_limits_ns.iter_mut().zip(Class::ALL) {
            *limit = match class {
                Class::Head => nanoseconds("--head-timeout", self.head_timeout.into()),
                Class::Body => nanoseconds("--body-timeout", self.body_timeout.into()),
                Class::Idle => nanoseconds("--idle-timeout", self.idle_timeout.into()),
                Class::Write => nanoseconds("--write-timeout", self.write_timeout.into()),
                Class::Linger => nanoseconds("linger", LINGER),
            }?;
        }
        Ok(Config {
            listen: self.listen.clone(),
            // A table beyond the largest n would be of no use.
            table_max_n: u32::try_from(self.max_n)
                .map_or(self.table_max_n, |max_n| max_n.min(self.table_max_n)),
            numbers: app::Bounds {
                max_n: self.max_n,
                under_way: self.max_computations as usize,
                bytes: cache_bytes,
            },
            limits: limits::Limits {
                head_bytes,
                target_bytes,
                fields: self.max_fields,
                body_bytes: self.max_body.as_u64(),
                pipelined: self.max_pipelined,
            },
            connections: self.max_connections,
            time_limits_ns,
            listeners: listener::Options {
                unacknowledged: self.write_timeout.into(),
                defer_seconds: defer_seconds(self.defer_accept.into())?,
            },
            workers: self.workers.map(|workers| workers.0.get()),
            runtime_dir: self.runtime_dir.clone(),
            invocation,
            inherited,
            service_manager,
            drain: drain::Times {
                delay_ns: nanoseconds_or_none("--drain-delay", self.drain_delay.into())?,
                grace_ns: nanoseconds_or_none("--drain-grace", self.drain_grace.into())?,
                timeout_ns: nanoseconds_or_none("--drain-timeout", self.drain_timeout.into())?,
            },
            log_level: self.log_level,
            access_log: self.access_log()?,
        })
    }

    fn access_log(&self) -> Result<Option<access::Options>, UsageError> {
        let format = match self.access_log {
            AccessLogFormat::Combined => access::Format::Combined,
            AccessLogFormat::Json => access::Format::Json,
            AccessLogFormat::Off if self.access_log_file.is_none() => return Ok(None),
            AccessLogFormat::Off => {
                let text = "--access-log-file is of no use without --access-log (see --help)";
                return Err(UsageError(text.to_owned()));
            }
        };
        Ok(Some(access::Options { format, file: self.access_log_file.clone() }))
    }
}

fn within(flag: &str, size: ByteSize, least: u64, most: u64) -> Result<usize, UsageError> {
    if !(least..=most).contains(&size.as_u64()) {
        let (least, most) = (ByteSize::b(least).display().iec(), ByteSize::b(most).display().iec());
        return Err(UsageError(format!("{flag} must be {least} to {most} (see --help)")));
    }
    usize::try_from(size.as_u64()).map_err(|error| UsageError(format!("{flag}: {error}")))
}

/// Between a millisecond, which is what the loop can tell apart, and a day.
fn nanoseconds(flag: &str, time: Duration) -> Result<u64, UsageError> {
    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_hours(24);
    if !(LEAST..=MOST).contains(&time) {
        return Err(UsageError(format!("{flag} must be 1ms to 1day (see --help)")));
    }
    u64::try_from(time.as_nanos()).map_err(|error| UsageError(format!("{flag}: {error}")))
}

/// The same, or no time at all.
fn nanoseconds_or_none(flag: &str, time: Duration) -> Result<u64, UsageError> {
    if time.is_zero() { Ok(0) } else { nanoseconds(flag, time) }
}

/// The kernel counts in repetitions of the handshake: after 1, 3, 7, 15 s.
fn defer_seconds(time: Duration) -> Result<u8, UsageError> {
    const MOST: u8 = 60;
    let seconds = u8::try_from(time.as_secs()).unwrap_or(u8::MAX);
    if time.subsec_nanos() != 0 || seconds > MOST {
        let text = format!("--defer-accept must be 0s to {MOST}s, in whole seconds (see --help)");
        return Err(UsageError(text));
    }
    Ok(seconds)
}

/// The effective configuration, a line for each flag, as it could be typed.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: u64| ByteSize::b(bytes).display().iec().to_string().replace(' ', "");
        let time = |ns: u64| {
            humantime::format_duration(Duration::from_nanos(ns)).to_string().replace(' ', "")
        };
        let limits = &self.limits;
        for address in &self.listen {
            writeln!(f, "--listen {address}")?;
        }
        if let Some(workers) = self.workers {
            writeln!(f, "--workers {workers}")?;
        }
        if let Some(directory) = &self.runtime_dir {
            writeln!(f, "--runtime-dir {}", directory.display())?;
        }
        writeln!(f, "--table-max-n {}", self.table_max_n)?;
        writeln!(f, "--max-n {}", self.numbers.max_n)?;
        writeln!(f, "--max-computations {}", self.numbers.under_way)?;
        writeln!(f, "--cache-size {}", size(self.numbers.bytes as u64))?;
        writeln!(f, "--max-head {}", size(limits.head_bytes as u64))?;
        writeln!(f, "--max-target {}", size(limits.target_bytes as u64))?;
        writeln!(f, "--max-fields {}", limits.fields)?;
        writeln!(f, "--max-body {}", size(limits.body_bytes))?;
        writeln!(f, "--max-pipelined {}", limits.pipelined)?;
        writeln!(f, "--max-connections {}", self.connections)?;
        for (class, limit_ns) in Class::ALL.into_iter().zip(self.time_limits_ns) {
            let flag = match class {
                Class::Head => "--head-timeout",
                Class::Body => "--body-timeout",
                Class::Idle => "--idle-timeout",
                Class::Write => "--write-timeout",
                Class::Linger => continue,
            };
            writeln!(f, "{flag} {}", time(limit_ns))?;
        }
        writeln!(f, "--defer-accept {}s", self.listeners.defer_seconds)?;
        writeln!(f, "--drain-delay {}", time(self.drain.delay_ns))?;
        writeln!(f, "--drain-grace {}", time(self.drain.grace_ns))?;
        writeln!(f, "--drain-timeout {}", time(self.drain.timeout_ns))?;
        writeln!(f, "--log-level {}", self.log_level.as_str().to_lowercase())?;
        let format = match self.access_log.as_ref().map(|options| options.format) {
            None => "off",
            Some(access::Format::Combined) => "combined",
            Some(access::Format::Json) => "json",
        };
        writeln!(f, "--access-log {format}")?;
        if let Some(file) = self.access_log.as_ref().and_then(|options| options.file.as_ref()) {
            writeln!(f, "--access-log-file {}", file.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
