//! From parsed flags to a [`Config`]: bounds, and combinations of flags that clap cannot check.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use crate::{
    app,
    config::{
        Config, Surroundings,
        address::ServerAddress,
        flags::{AccessLogFormat, Flags, LogFormat},
        memory::MemoryUse,
    },
    fibonacci::{Cache, CacheKey},
    http::{conn::TimeoutKind, request::limits},
    logging::{EventFormat, LogOptions, Stream, access, access::AccessLogOptions},
    server::drain,
    sys::{
        cgroup::CgroupLimits,
        listener::{self, overlaps},
    },
};

/// Time to read and discard what a client sends after the last response, so that it can receive the response. It has no
/// flag, because no other value is needed.
const LINGER: Duration = Duration::from_secs(5);

/// Lower bound of `--max-head`: less would reject requests of every browser.
const HEAD_BYTES_MIN: u64 = 512;
/// Upper bound of `--max-head`.
const HEAD_BYTES_MAX: u64 = 1024 * 1024;
/// Upper bound of `--cache-size`, more than any machine has; it keeps sums of sizes from overflowing.
const CACHE_BYTES_MAX: u64 = 1 << 40;
/// Bounds of a timeout: the resolution of the loop, and a day.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_hours(24);
/// Upper bound of `--defer-accept`.
const DEFER_SECONDS_MAX: u8 = 60;

impl Flags {
    /// Returns the addresses for `fibsrv health`: those named, or else those of `--admin-listen` or `--listen`. Port 0
    /// cannot be checked, because only the listening process knows the port that the kernel chose.
    pub(super) fn addresses_to_check(
        &self,
        named: &[ServerAddress],
    ) -> Result<Vec<String>, String> {
        let configured =
            if self.admin_listen.is_empty() { &self.listen } else { &self.admin_listen };
        let addresses = if named.is_empty() { configured } else { named };
        match addresses.iter().find(|address| address.port() == 0) {
            Some(address) => Err(format!("cannot connect to port 0 of {address}")),
            None => Ok(addresses.iter().map(ToString::to_string).collect()),
        }
    }

    /// Checks bounds and combinations, and returns the configuration.
    pub(super) fn validate(&self, surroundings: Surroundings) -> Result<Config, String> {
        let Surroundings { invocation, inherited, service_manager, warnings } = surroundings;
        let access_log = self.access_log()?;
        let (listen, admin_listen) = self.addresses()?;
        if self.max_connections == 0 {
            return Err("--max-connections must be at least 1".to_owned());
        }
        Ok(Config {
            listen,
            admin_listen,
            // Numbers above --max-n are never served.
            table_max_n: u32::try_from(self.max_n)
                .map_or(self.table_max_n, |max_n| max_n.min(self.table_max_n)),
            numbers: self.number_limits()?,
            limits: self.request_limits()?,
            max_connections: self.max_connections,
            time_limits_ns: self.time_limits_ns()?,
            listeners: listener::Options {
                unacknowledged: self.write_timeout.into(),
                defer_seconds: defer_seconds(self.defer_accept.into())?,
            },
            workers: self.worker_count()?,
            invocation,
            inherited,
            service_manager,
            drain: drain::Times {
                delay_ns: nanoseconds_or_zero("--drain-delay", self.drain_delay.into())?,
                grace_ns: nanoseconds_or_zero("--drain-grace", self.drain_grace.into())?,
                timeout_ns: nanoseconds_or_zero("--drain-timeout", self.drain_timeout.into())?,
            },
            log: self.log(access_log.as_ref()),
            access_log,
            warnings,
        })
    }

    /// Returns the addresses of `--listen` and of `--admin-listen`.
    fn addresses(&self) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), String> {
        let resolve = |flag: &str, addresses: &[ServerAddress]| {
            let mut resolved = Vec::new();
            for address in addresses {
                let found = address.resolve();
                resolved.extend(found.map_err(|error| format!("{flag} {address}: {error}"))?);
            }
            Ok::<_, String>(resolved)
        };
        let listen = resolve("--listen", &self.listen)?;
        let admin_listen = resolve("--admin-listen", &self.admin_listen)?;
        // The kernel would assign a connection to either.
        let is_taken = |admin: &&SocketAddr| {
            admin.port() != 0 && listen.iter().any(|address| overlaps(*address, **admin))
        };
        match admin_listen.iter().find(is_taken) {
            Some(admin) => Err(format!("--admin-listen {admin} is an address of --listen")),
            None => Ok((listen, admin_listen)),
        }
    }

    fn worker_count(&self) -> Result<Option<usize>, String> {
        let Some(workers) = self.workers else { return Ok(None) };
        let memory = MemoryUse {
            table_max_n: self.table_max_n,
            max_n: self.max_n,
            cache_bytes: self.cache_size.as_u64(),
            connections: self.max_connections as u64,
        };
        let fitting = memory.workers_within(CgroupLimits::read().memory_bytes);
        workers.count(fitting).map(Some)
    }

    fn number_limits(&self) -> Result<app::NumberLimits, String> {
        // The cache must have room for the largest number served.
        let least = Cache::cost(CacheKey::digits(self.max_n)) as u64;
        Ok(app::NumberLimits {
            max_n: self.max_n,
            max_in_flight: self.max_computations as usize,
            bytes: within("--cache-size", self.cache_size, least, CACHE_BYTES_MAX)?,
        })
    }

    fn request_limits(&self) -> Result<limits::Limits, String> {
        let most = limits::FIELDS_MAX;
        if !(1..=most).contains(&self.max_fields) {
            return Err(format!("--max-fields must be 1 to {most}"));
        }
        Ok(limits::Limits {
            head_bytes: within("--max-head", self.max_head, HEAD_BYTES_MIN, HEAD_BYTES_MAX)?,
            target_bytes: within("--max-target", self.max_target, 1, self.max_head.as_u64())?,
            fields: self.max_fields,
            body_bytes: self.max_body.as_u64(),
            pipelined: self.max_pipelined,
        })
    }

    fn time_limits_ns(&self) -> Result<[u64; TimeoutKind::COUNT], String> {
        let mut limits_ns = [0; TimeoutKind::COUNT];
        for (limit_ns, kind) in limits_ns.iter_mut().zip(TimeoutKind::ALL) {
            let (flag, time) = match kind {
                TimeoutKind::Head => ("--head-timeout", self.head_timeout.into()),
                TimeoutKind::Body => ("--body-timeout", self.body_timeout.into()),
                TimeoutKind::Idle => ("--idle-timeout", self.idle_timeout.into()),
                TimeoutKind::Write => ("--write-timeout", self.write_timeout.into()),
                TimeoutKind::Linger => ("linger", LINGER),
            };
            *limit_ns = nanoseconds(flag, time)?;
        }
        Ok(limits_ns)
    }

    /// Process events and the access log never share a stream.
    fn log(&self, access_log: Option<&AccessLogOptions>) -> LogOptions {
        let is_stdout_taken = access_log.is_some_and(|options| options.file.is_none());
        LogOptions {
            level: self.log_level,
            format: match self.log_format {
                LogFormat::Text => EventFormat::Text,
                LogFormat::Json => EventFormat::Json,
                LogFormat::Logfmt => EventFormat::Logfmt,
            },
            stream: if is_stdout_taken { Stream::Stderr } else { Stream::Stdout },
        }
    }

    fn access_log(&self) -> Result<Option<AccessLogOptions>, String> {
        let format = match self.access_log {
            AccessLogFormat::Combined => access::LineFormat::Combined,
            AccessLogFormat::Json => access::LineFormat::Json,
            AccessLogFormat::Off if self.access_log_file.is_none() => return Ok(None),
            AccessLogFormat::Off => {
                let text = "--access-log-file requires --access-log combined or json";
                return Err(text.to_owned());
            }
        };
        Ok(Some(AccessLogOptions { format, file: self.access_log_file.clone() }))
    }
}

fn within(flag: &str, size: ByteSize, least: u64, most: u64) -> Result<usize, String> {
    if !(least..=most).contains(&size.as_u64()) {
        let (least, most) = (ByteSize::b(least).display().iec(), ByteSize::b(most).display().iec());
        return Err(format!("{flag} must be {least} to {most}"));
    }
    usize::try_from(size.as_u64()).map_err(|error| format!("{flag}: {error}"))
}

fn nanoseconds(flag: &str, time: Duration) -> Result<u64, String> {
    if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&time) {
        return Err(format!("{flag} must be 1ms to 1day"));
    }
    u64::try_from(time.as_nanos()).map_err(|error| format!("{flag}: {error}"))
}

fn nanoseconds_or_zero(flag: &str, time: Duration) -> Result<u64, String> {
    if time.is_zero() { Ok(0) } else { nanoseconds(flag, time) }
}

/// Returns whole seconds. The kernel rounds them up to retransmissions of its SYN-ACK, after 1, 3, 7, 15 s.
fn defer_seconds(time: Duration) -> Result<u8, String> {
    let seconds = u8::try_from(time.as_secs()).unwrap_or(u8::MAX);
    if time.subsec_nanos() != 0 || seconds > DEFER_SECONDS_MAX {
        let text = format!("--defer-accept must be 0s to {DEFER_SECONDS_MAX}s, in whole seconds");
        return Err(text);
    }
    Ok(seconds)
}
