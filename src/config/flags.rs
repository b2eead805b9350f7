//! The command line: flags, their environment variables, defaults and help texts.

use std::{num::NonZeroUsize, path::PathBuf, str::FromStr, thread};

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use log::LevelFilter;

use crate::{config::address::ServerAddress, fibonacci};

/// Flags as clap parses them. The doc comment of a field is its help text.
#[derive(Debug, Parser)]
#[command(
    name = "fibsrv",
    version = concat!(
        env!("CARGO_PKG_VERSION"), " (", env!("FIBSRV_REVISION"), ", ", env!("FIBSRV_RUSTC"), ")"
    ),
    about = "Serves the nth Fibonacci number at GET /api/fibonacci/:n.",
    max_term_width = 100,
    disable_help_subcommand = true,
)]
pub(super) struct Flags {
    /// Address and port to listen on: ADDR:PORT, NAME:PORT or PORT; may be repeated. The IPv6 wildcard, which is
    /// also that of a port alone, accepts IPv4 too. Ignored under socket activation
    #[arg(long, env = "FIBSRV_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(default_value = "[::]:3000")]
    #[arg(help_heading = "Listening")]
    pub(super) listen: Vec<ServerAddress>,

    /// Separate address for /metrics, /healthz and /readyz, which are then 404 at --listen; may be repeated. Its
    /// connections do not count against --max-connections
    #[arg(long, env = "FIBSRV_ADMIN_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(help_heading = "Listening")]
    pub(super) admin_listen: Vec<ServerAddress>,

    /// Number of worker processes under a supervisor; auto: one per CPU, and not more than fit into the memory of the
    /// control group. Without it a single process serves
    #[arg(long, env = "FIBSRV_WORKERS", value_name = "N|auto")]
    #[arg(help_heading = "Listening")]
    pub(super) workers: Option<Workers>,

    /// Largest n in the table, at most 100000; the table is computed at start
    #[arg(long, env = "FIBSRV_TABLE_MAX_N", value_name = "N", default_value_t = fibonacci::DEFAULT_LAST)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(fibonacci::MAX_LAST)))]
    #[arg(help_heading = "Numbers")]
    pub(super) table_max_n: u32,

    /// Largest n served, at most 100000000; a larger n gets 422
    #[arg(long, env = "FIBSRV_MAX_N", value_name = "N", default_value_t = fibonacci::DEFAULT_MAX_N)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=fibonacci::MAX_N))]
    #[arg(help_heading = "Numbers")]
    pub(super) max_n: u64,

    /// Maximum computations queued or running; beyond it 503. As many gzip codings may be; beyond it the digits are
    /// sent
    #[arg(long, env = "FIBSRV_MAX_COMPUTATIONS", value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    #[arg(help_heading = "Numbers")]
    pub(super) max_computations: u32,

    /// Memory for computed numbers; 503 while responses in progress use all of it
    #[arg(long, env = "FIBSRV_CACHE_SIZE", value_name = "SIZE", default_value = "64MiB")]
    #[arg(help_heading = "Numbers")]
    pub(super) cache_size: ByteSize,

    /// Maximum request head size; larger heads get 431
    #[arg(long, env = "FIBSRV_MAX_HEAD", value_name = "SIZE", default_value = "16KiB")]
    #[arg(help_heading = "Request limits")]
    pub(super) max_head: ByteSize,

    /// Maximum request target size; longer targets get 414
    #[arg(long, env = "FIBSRV_MAX_TARGET", value_name = "SIZE", default_value = "8KiB")]
    #[arg(help_heading = "Request limits")]
    pub(super) max_target: ByteSize,

    /// Maximum number of header fields in a request; more get 431
    #[arg(long, env = "FIBSRV_MAX_FIELDS", value_name = "COUNT", default_value_t = 64)]
    #[arg(help_heading = "Request limits")]
    pub(super) max_fields: usize,

    /// Maximum request body size; larger bodies get 413. Bodies are read and discarded
    #[arg(long, env = "FIBSRV_MAX_BODY", value_name = "SIZE", default_value = "1MiB")]
    #[arg(help_heading = "Request limits")]
    pub(super) max_body: ByteSize,

    /// Maximum pipelined responses in a batch, after which the loop serves other connections
    #[arg(long, env = "FIBSRV_MAX_PIPELINED", value_name = "COUNT", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    #[arg(help_heading = "Request limits")]
    pub(super) max_pipelined: u32,

    /// Maximum open connections, and at most what the limit of open files allows; beyond it a new one replaces one that
    /// lingers, or is idle or in a head for a second, or waits in the kernel
    #[arg(long, env = "FIBSRV_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 100_000)]
    #[arg(help_heading = "Listening")]
    pub(super) max_connections: usize,

    /// Time to receive a request head; beyond it 408
    #[arg(long, env = "FIBSRV_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(help_heading = "Timeouts")]
    pub(super) head_timeout: humantime::Duration,

    /// Time to receive a request body; beyond it 408
    #[arg(long, env = "FIBSRV_BODY_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(help_heading = "Timeouts")]
    pub(super) body_timeout: humantime::Duration,

    /// Time between requests on a keep-alive connection; beyond it the connection is closed
    #[arg(long, env = "FIBSRV_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s")]
    #[arg(help_heading = "Timeouts")]
    pub(super) idle_timeout: humantime::Duration,

    /// Time in which a client must accept some of a response that waits, and acknowledge what was sent; afterwards also
    /// 1 KiB/s on average; else the connection is reset
    #[arg(long, env = "FIBSRV_WRITE_TIMEOUT", value_name = "TIME", default_value = "60s")]
    #[arg(help_heading = "Timeouts")]
    pub(super) write_timeout: humantime::Duration,

    /// Time the kernel holds back a connection that has sent nothing, in whole seconds; 0s disables it. Saves CPU
    /// time with clients that connect for each request
    #[arg(long, env = "FIBSRV_DEFER_ACCEPT", value_name = "TIME", default_value = "0s")]
    #[arg(help_heading = "Listening")]
    pub(super) defer_accept: humantime::Duration,

    /// Time after SIGTERM in which only /readyz fails; then the server stops accepting
    #[arg(long, env = "FIBSRV_DRAIN_DELAY", value_name = "TIME", default_value = "0s")]
    #[arg(help_heading = "Shutdown")]
    pub(super) drain_delay: humantime::Duration,

    /// Time after that for keep-alive connections to send one more request; then they are closed
    #[arg(long, env = "FIBSRV_DRAIN_GRACE", value_name = "TIME", default_value = "5s")]
    #[arg(help_heading = "Shutdown")]
    pub(super) drain_grace: humantime::Duration,

    /// Time after --drain-delay for requests in progress to finish; then remaining connections are closed
    #[arg(long, env = "FIBSRV_DRAIN_TIMEOUT", value_name = "TIME", default_value = "25s")]
    #[arg(help_heading = "Shutdown")]
    pub(super) drain_timeout: humantime::Duration,

    /// Minimum severity to log: off, error, warn, info, debug or trace
    #[arg(long, env = "FIBSRV_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    #[arg(help_heading = "Logging")]
    pub(super) log_level: LevelFilter,

    /// Format of process events: text, json or logfmt. They go to stdout, or to stderr while the access log goes
    /// to stdout
    #[arg(long, env = "FIBSRV_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    #[arg(help_heading = "Logging")]
    pub(super) log_format: LogFormat,

    /// Access log, one line per response: off, combined (the format of Apache and nginx, extended) or json
    #[arg(long, env = "FIBSRV_ACCESS_LOG", value_name = "FORMAT", default_value = "off")]
    #[arg(help_heading = "Logging")]
    pub(super) access_log: AccessLogFormat,

    /// File to append the access log to, reopened on SIGUSR1; without it stdout
    #[arg(long, env = "FIBSRV_ACCESS_LOG_FILE", value_name = "PATH")]
    #[arg(help_heading = "Logging")]
    pub(super) access_log_file: Option<PathBuf>,

    /// Check flags, environment, addresses and files, print the effective configuration and exit
    #[arg(long)]
    pub(super) check: bool,

    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

/// A command other than serving.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Action {
    /// Check whether a running server is ready; the exit status is 0 if it is, otherwise 1 with the reason on stderr
    Health {
        /// Servers to check, as ADDR:PORT, NAME:PORT or PORT, instead of the addresses of --admin-listen, or else of
        /// --listen
        #[arg(value_name = "ADDR:PORT")]
        addresses: Vec<ServerAddress>,
    },
}

/// Format of the access log, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AccessLogFormat {
    Off,
    Combined,
    Json,
}

/// Format of process events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
    Logfmt,
}

/// Upper bound of `--workers`.
const WORKERS_MAX: usize = 64;

/// Number of workers, from 1 to [`WORKERS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// One per CPU, within the limits of CPU time and memory.
    Auto,
    /// As given.
    Count(NonZeroUsize),
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().map_err(|_| "expected a number or auto".to_owned())?;
        match NonZeroUsize::new(count) {
            Some(count) if count.get() <= WORKERS_MAX => Ok(Self::Count(count)),
            _ => Err(format!("must be 1 to {WORKERS_MAX}")),
        }
    }
}

impl Workers {
    /// Returns the number, of which `fitting` fit into the memory.
    pub(super) fn count(self, fitting: usize) -> Result<usize, String> {
        match self {
            Self::Count(count) => Ok(count.get()),
            // Respects CPU affinity and cgroup quotas.
            Self::Auto => thread::available_parallelism()
                .map(|cpus| cpus.get().min(WORKERS_MAX).min(fitting))
                .map_err(|error| format!("--workers auto: {error}")),
        }
    }
}
