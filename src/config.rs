//! From argv and environment to a checked [`Config`], or to a usage error.
//!
//! Every flag has an environment variable; a flag given wins. Nothing else in the program reads either.

use std::{
    ffi::OsString,
    fmt,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use clap::{Parser, error::ErrorKind};
use log::LevelFilter;

use crate::{
    app, drain,
    fibonacci::{self, Store},
    http::head,
    timers::{CLASSES, Class},
};

/// What the program is told to do, checked.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// The last n of the table.
    pub table_last: u32,
    /// Bounds on the numbers.
    pub numbers: app::Bounds,
    /// Bounds on a request.
    pub limits: head::Limits,
    /// Most connections at a time.
    pub connections: usize,
    /// Time limits in nanoseconds, in the order of [`Class::ALL`].
    pub time_limits_ns: [u64; CLASSES],
    /// How to leave.
    pub drain: drain::Times,
    /// The least grave events that are logged.
    pub log_level: LevelFilter,
}

/// What was asked for.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Serve(Config),
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

/// Reads flags (the first argument being the program's name) and the environment.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(UsageError(one_line(&error))),
    };
    let config = flags.check()?;
    Ok(if flags.check { Command::Print(config.to_string()) } else { Command::Serve(config) })
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

/// What can be typed.
#[derive(Debug, Parser)]
#[command(
    name = "fibsrv",
    version,
    long_version = concat!(
        env!("CARGO_PKG_VERSION"), " (", env!("FIBSRV_REVISION"), ", ", env!("FIBSRV_RUSTC"), ")"
    ),
    about = "Answers GET /api/fibonacci/:n with the nth Fibonacci number.",
    max_term_width = 100,
)]
struct Flags {
    /// Address and port to listen on; may be repeated. The IPv6 wildcard takes IPv4 too
    #[arg(long, env = "FIBSRV_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(default_values_t = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 3000))])]
    listen: Vec<SocketAddr>,

    /// The last n whose answer is kept in the table, which is made at start
    #[arg(long, env = "FIBSRV_TABLE", value_name = "N", default_value_t = fibonacci::DEFAULT_LAST)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(fibonacci::MAX_LAST)))]
    table: u32,

    /// The largest n that is answered; beyond it 422
    #[arg(long, env = "FIBSRV_MAX_N", value_name = "N", default_value_t = fibonacci::MAX_N)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=fibonacci::MAX_N))]
    max_n: u64,

    /// Most numbers being computed at a time, or waiting for it; beyond it 503
    #[arg(long, env = "FIBSRV_COMPUTE_QUEUE", value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    compute_queue: u32,

    /// Memory for computed numbers; when those being sent take all of it, 503
    #[arg(long, env = "FIBSRV_CACHE", value_name = "SIZE", default_value = "64MiB")]
    cache: ByteSize,

    /// Longest request head, from its first byte to the empty line; beyond it 431
    #[arg(long, env = "FIBSRV_MAX_HEAD", value_name = "SIZE", default_value = "8KiB")]
    max_head: ByteSize,

    /// Longest request target; beyond it 414
    #[arg(long, env = "FIBSRV_MAX_TARGET", value_name = "SIZE", default_value = "4KiB")]
    max_target: ByteSize,

    /// Most header fields of a request; beyond it 431
    #[arg(long, env = "FIBSRV_MAX_FIELDS", value_name = "COUNT", default_value_t = 64)]
    max_fields: usize,

    /// Longest request body, which is skipped; beyond it 413
    #[arg(long, env = "FIBSRV_MAX_BODY", value_name = "SIZE", default_value = "1MiB")]
    max_body: ByteSize,

    /// Most pipelined requests of a connection that are answered before others have their turn
    #[arg(long, env = "FIBSRV_MAX_PIPELINED", value_name = "COUNT", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_pipelined: u32,

    /// Most connections at a time; a new one takes the place of an idle one, or waits
    #[arg(long, env = "FIBSRV_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 100_000)]
    max_connections: usize,

    /// Time for a whole request head; beyond it 408
    #[arg(long, env = "FIBSRV_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s")]
    head_timeout: humantime::Duration,

    /// Time for a whole request body; beyond it 408
    #[arg(long, env = "FIBSRV_BODY_TIMEOUT", value_name = "TIME", default_value = "10s")]
    body_timeout: humantime::Duration,

    /// Time that a kept connection may be idle; beyond it closed
    #[arg(long, env = "FIBSRV_IDLE_TIMEOUT", value_name = "TIME", default_value = "60s")]
    idle_timeout: humantime::Duration,

    /// Time in which a client that reads its answers slowly has to take the next part; beyond it reset
    #[arg(long, env = "FIBSRV_WRITE_TIMEOUT", value_name = "TIME", default_value = "10s")]
    write_timeout: humantime::Duration,

    /// When told to stop: time in which only readiness fails, before accepting stops
    #[arg(long, env = "FIBSRV_DRAIN_DELAY", value_name = "TIME", default_value = "0s")]
    drain_delay: humantime::Duration,

    /// From then on: time for kept connections to ask once more, before they are closed
    #[arg(long, env = "FIBSRV_DRAIN_GRACE", value_name = "TIME", default_value = "5s")]
    drain_grace: humantime::Duration,

    /// From then on: time for everything to be finished, before what is left is cut off
    #[arg(long, env = "FIBSRV_DRAIN_TIMEOUT", value_name = "TIME", default_value = "25s")]
    drain_timeout: humantime::Duration,

    /// Least grave events that are logged: off, error, warn, info, debug or trace
    #[arg(long, env = "FIBSRV_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,

    /// Check the flags and the environment, print what they come to, and end
    #[arg(long)]
    check: bool,
}

/// How long a connection lingers after its last answer. No flag: nobody wants another value.
const LINGER: Duration = Duration::from_secs(2);

/// The least head limit: below it no browser gets through.
const HEAD_BYTES_MIN: u64 = 512;
/// More than any machine has: the bound is there so that sums of sizes stay within bounds.
const CACHE_BYTES_MAX: u64 = 1 << 40;
/// The greatest head limit.
const HEAD_BYTES_MAX: u64 = 1024 * 1024;

impl Config {
    /// The time limit for a write, as a duration.
    pub fn write_timeout(&self) -> Duration {
        let limit_ns = self.time_limits_ns.get(Class::Write as usize);
        Duration::from_nanos(limit_ns.copied().unwrap_or_default())
    }
}

impl Flags {
    /// Makes a configuration of the flags, if they go together.
    fn check(&self) -> Result<Config, UsageError> {
        let head_bytes = within("--max-head", self.max_head, HEAD_BYTES_MIN, HEAD_BYTES_MAX)?;
        let target_bytes = within("--max-target", self.max_target, 1, self.max_head.as_u64())?;
        if !(1..=head::FIELDS_MAX).contains(&self.max_fields) {
            let most = head::FIELDS_MAX;
            return Err(UsageError(format!("--max-fields must be 1 to {most} (see --help)")));
        }
        let cache_least = Store::cost(self.max_n) as u64;
        let cache_bytes = within("--cache", self.cache, cache_least, CACHE_BYTES_MAX)?;
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
            table_last: u32::try_from(self.max_n).map_or(self.table, |max_n| max_n.min(self.table)),
            numbers: app::Bounds {
                max_n: self.max_n,
                under_way: self.compute_queue as usize,
                bytes: cache_bytes,
            },
            limits: head::Limits {
                head_bytes,
                target_bytes,
                fields: self.max_fields,
                body_bytes: self.max_body.as_u64(),
                pipelined: self.max_pipelined,
            },
            connections: self.max_connections,
            time_limits_ns,
            drain: drain::Times {
                delay_ns: nanoseconds_or_none("--drain-delay", self.drain_delay.into())?,
                grace_ns: nanoseconds_or_none("--drain-grace", self.drain_grace.into())?,
                timeout_ns: nanoseconds_or_none("--drain-timeout", self.drain_timeout.into())?,
            },
            log_level: self.log_level,
        })
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
        writeln!(f, "--table {}", self.table_last)?;
        writeln!(f, "--max-n {}", self.numbers.max_n)?;
        writeln!(f, "--compute-queue {}", self.numbers.under_way)?;
        writeln!(f, "--cache {}", size(self.numbers.bytes as u64))?;
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
        writeln!(f, "--drain-delay {}", time(self.drain.delay_ns))?;
        writeln!(f, "--drain-grace {}", time(self.drain.grace_ns))?;
        writeln!(f, "--drain-timeout {}", time(self.drain.timeout_ns))?;
        writeln!(f, "--log-level {}", self.log_level.as_str().to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_flags(flags: &[&str]) -> Result<Command, UsageError> {
        let arguments = std::iter::once("fibsrv").chain(flags.iter().copied());
        parse(arguments.map(OsString::from))
    }

    fn effective(flags: &[&str]) -> String {
        let mut flags = flags.to_vec();
        flags.push("--check");
        match parse_flags(&flags) {
            Ok(Command::Print(text)) => text,
            other => panic!("{flags:?}: {other:?}"),
        }
    }

    #[test]
    fn defaults() {
        assert_eq!(
            effective(&[]),
            "--listen [::]:3000\n--table 10000\n--max-n 10000000\n--compute-queue 64\n\
             --cache 64.0MiB\n--max-head 8.0KiB\n--max-target 4.0KiB\n\
             --max-fields 64\n--max-body 1.0MiB\n--max-pipelined 32\n--max-connections 100000\n--head-timeout 10s\n\
             --body-timeout 10s\n--idle-timeout 1m\n--write-timeout 10s\n--drain-delay 0s\n\
             --drain-grace 5s\n--drain-timeout 25s\n--log-level info\n"
        );
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        let once = effective(&["--listen", "127.0.0.1:1,[::1]:2", "--head-timeout", "1m 30s"]);
        let again: Vec<&str> = once.split_whitespace().collect();
        assert_eq!(effective(&again), once);
    }

    #[test]
    fn bad_flags_are_told_in_one_line() {
        for flags in [
            &["--nonsense"][..],
            &["extra"],
            &["--listen", "here"],
            &["--listen", "127.0.0.1"],
            &["--table", "-1"],
            &["--table", "100001"],
            &["--max-n", "10000001"],
            &["--compute-queue", "0"],
            &["--cache", "2MB"],
            &["--max-head", "511B"],
            &["--max-head", "2MiB"],
            &["--max-head", "lots"],
            &["--max-target", "9KiB"],
            &["--max-target", "0"],
            &["--max-fields", "0"],
            &["--max-fields", "129"],
            &["--max-pipelined", "0"],
            &["--max-pipelined", "1025"],
            &["--max-connections", "0"],
            &["--head-timeout", "0s"],
            &["--head-timeout", "2days"],
            &["--head-timeout", "soon"],
            &["--drain-timeout", "2days"],
            &["--log-level", "loud"],
        ] {
            let error = parse_flags(flags).expect_err(flags[0]).to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.contains(flags[flags.len() - 1]) || error.contains(flags[0]), "{error}");
        }
    }

    #[test]
    fn help_and_version_are_texts() {
        for flag in ["--help", "-h", "--version", "-V"] {
            assert!(matches!(parse_flags(&[flag]), Ok(Command::Print(_))), "{flag}");
        }
        let Ok(Command::Print(help)) = parse_flags(&["--help"]) else { panic!("no help") };
        for line in effective(&[]).lines() {
            let flag = line.split(' ').next().unwrap();
            assert!(help.contains(flag), "{flag}");
            let variable = flag.replace("--", "FIBSRV_").replace('-', "_").to_uppercase();
            assert!(help.contains(&variable), "{variable}");
        }
    }
}
