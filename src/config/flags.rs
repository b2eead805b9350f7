//! What can be typed.

use std::{
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    thread,
};

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use log::LevelFilter;

use crate::fibonacci;

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
    disable_help_subcommand = true,
)]
pub(super) struct Flags {
    /// Address and port to listen on; may be repeated. The IPv6 wildcard takes IPv4 too. Counts for nothing where
    /// a service manager has passed sockets
    #[arg(long, env = "FIBSRV_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[arg(default_values_t = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 3000))])]
    pub(super) listen: Vec<SocketAddr>,

    /// Worker processes under a supervisor: a number, or auto for one per processor. Without it this process
    /// serves by itself
    #[arg(long, env = "FIBSRV_WORKERS", value_name = "N|auto")]
    pub(super) workers: Option<Workers>,

    /// Directory, this user's alone, where processes on the port that cannot find each other otherwise share
    /// their metrics
    #[arg(long, env = "FIBSRV_RUNTIME_DIR", value_name = "DIR")]
    pub(super) runtime_dir: Option<PathBuf>,

    /// The last n whose answer is kept in the table, which is made at start
    #[arg(long, env = "FIBSRV_TABLE_MAX_N", value_name = "N", default_value_t = fibonacci::DEFAULT_LAST)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(fibonacci::MAX_LAST)))]
    pub(super) table_max_n: u32,

    /// The largest n that is answered; beyond it 422
    #[arg(long, env = "FIBSRV_MAX_N", value_name = "N", default_value_t = fibonacci::MAX_N)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=fibonacci::MAX_N))]
    pub(super) max_n: u64,

    /// Most numbers being computed at a time, or waiting for it; beyond it 503
    #[arg(long, env = "FIBSRV_MAX_COMPUTATIONS", value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) max_computations: u32,

    /// Memory for computed numbers; when those being sent take all of it, 503
    #[arg(long, env = "FIBSRV_CACHE_SIZE", value_name = "SIZE", default_value = "64MiB")]
    pub(super) cache_size: ByteSize,

    /// Longest request head, from its first byte to the empty line; beyond it 431
    #[arg(long, env = "FIBSRV_MAX_HEAD", value_name = "SIZE", default_value = "8KiB")]
    pub(super) max_head: ByteSize,

    /// Longest request target; beyond it 414
    #[arg(long, env = "FIBSRV_MAX_TARGET", value_name = "SIZE", default_value = "4KiB")]
    pub(super) max_target: ByteSize,

    /// Most header fields of a request; beyond it 431
    #[arg(long, env = "FIBSRV_MAX_FIELDS", value_name = "COUNT", default_value_t = 64)]
    pub(super) max_fields: usize,

    /// Longest request body, which is skipped; beyond it 413
    #[arg(long, env = "FIBSRV_MAX_BODY", value_name = "SIZE", default_value = "1MiB")]
    pub(super) max_body: ByteSize,

    /// Most pipelined requests of a connection that are answered before others have their turn
    #[arg(long, env = "FIBSRV_MAX_PIPELINED", value_name = "COUNT", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) max_pipelined: u32,

    /// Most connections at a time; a new one takes the place of an idle one, or waits
    #[arg(long, env = "FIBSRV_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 100_000)]
    pub(super) max_connections: usize,

    /// Time for a whole request head; beyond it 408
    #[arg(long, env = "FIBSRV_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub(super) head_timeout: humantime::Duration,

    /// Time for a whole request body; beyond it 408
    #[arg(long, env = "FIBSRV_BODY_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub(super) body_timeout: humantime::Duration,

    /// Time that a kept connection may be idle; beyond it closed
    #[arg(long, env = "FIBSRV_IDLE_TIMEOUT", value_name = "TIME", default_value = "60s")]
    pub(super) idle_timeout: humantime::Duration,

    /// Time in which a client that reads its answers slowly has to take the next part; beyond it reset
    #[arg(long, env = "FIBSRV_WRITE_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub(super) write_timeout: humantime::Duration,

    /// How long the kernel may keep a connection to itself on which nothing has been asked, in whole seconds. Saves
    /// processor time with clients that connect for each request
    #[arg(long, env = "FIBSRV_DEFER_ACCEPT", value_name = "TIME", default_value = "0s")]
    pub(super) defer_accept: humantime::Duration,

    /// When told to stop: time in which only readiness fails, before accepting stops
    #[arg(long, env = "FIBSRV_DRAIN_DELAY", value_name = "TIME", default_value = "0s")]
    pub(super) drain_delay: humantime::Duration,

    /// From then on: time for kept connections to ask once more, before they are closed
    #[arg(long, env = "FIBSRV_DRAIN_GRACE", value_name = "TIME", default_value = "5s")]
    pub(super) drain_grace: humantime::Duration,

    /// From then on: time for everything to be finished, before what is left is cut off
    #[arg(long, env = "FIBSRV_DRAIN_TIMEOUT", value_name = "TIME", default_value = "25s")]
    pub(super) drain_timeout: humantime::Duration,

    /// Least grave events that are logged: off, error, warn, info, debug or trace
    #[arg(long, env = "FIBSRV_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LevelFilter,

    /// A line for each answer: off, combined (as other servers have it, and more) or json
    #[arg(long, env = "FIBSRV_ACCESS_LOG", value_name = "FORMAT", default_value = "off")]
    pub(super) access_log: AccessLogFormat,

    /// The file those lines are appended to, which SIGUSR1 has opened anew; without it stdout
    #[arg(long, env = "FIBSRV_ACCESS_LOG_FILE", value_name = "PATH")]
    pub(super) access_log_file: Option<PathBuf>,

    /// Check the flags and the environment, print what they come to, and end
    #[arg(long)]
    pub(super) check: bool,

    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Action {
    /// Ask a running server whether it is ready, and end with 0 if it is, else with 1 and a line that says why not
    Health {
        /// Whom to ask, instead of who listens on the addresses of --listen
        #[arg(value_name = "ADDR:PORT")]
        addresses: Vec<SocketAddr>,
    },
}

/// Whether there is an access log, and how its lines are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AccessLogFormat {
    Off,
    Combined,
    Json,
}

/// Most workers that can be asked for.
const WORKERS_MAX: usize = 64;

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workers(pub(super) NonZeroUsize);

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = if text == "auto" {
            // Knows of affinity and of quotas.
            let processors = thread::available_parallelism().map_err(|error| error.to_string())?;
            processors.get().min(WORKERS_MAX)
        } else {
            text.parse().map_err(|_| "it is neither a number nor auto".to_owned())?
        };
        match NonZeroUsize::new(count) {
            Some(count) if count.get() <= WORKERS_MAX => Ok(Self(count)),
            _ => Err(format!("there can be 1 to {WORKERS_MAX}")),
        }
    }
}
