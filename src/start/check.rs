//! `--check`: opens what a server would open, and reports limits that the system imposes.

use std::{error::Error, fs};

use rustix::process::{Resource, getrlimit};

use crate::{
    config::{Config, MemoryUse},
    logging::access::AccessLog,
    start::check_overlaps,
    sys::{
        activation,
        cgroup::CgroupLimits,
        listener::{self, BACKLOG},
    },
};

/// Checks that a server with this configuration could start, without disturbing a running one. Returns comment lines:
/// warnings, what socket activation replaces, and system limits that are lower than the configured ones.
pub fn check(config: &Config) -> Result<String, Box<dyn Error>> {
    let passed = &config.service_manager.sockets;
    // They stay open, because an address that overlaps with one of them may be in use for that reason only.
    let (_sockets, bound): (Vec<_>, Vec<_>) = activation::check(passed)?.into_iter().unzip();
    let [public, admin] = config.addresses_to_open();
    let passed_admin = passed.iter().zip(&bound).filter(|(passed, _)| passed.is_admin());
    let passed_admin = passed_admin.map(|(_, bound)| *bound);
    check_overlaps(&bound, &passed_admin.chain(admin.iter().copied()).collect::<Vec<_>>())?;
    for address in public.iter().chain(admin) {
        listener::check(*address, config.listeners)?;
    }
    config.access_log.as_ref().map(AccessLog::check).transpose()?;
    let limits = SystemLimits {
        open_files: getrlimit(Resource::Nofile).maximum,
        backlog: fs::read_to_string("/proc/sys/net/core/somaxconn")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        cgroup: CgroupLimits::read(),
    };
    let remarks = config.warnings.iter().cloned().chain(activation::summary(passed));
    let remarks = remarks.map(|remark| format!("# {remark}\n"));
    Ok(remarks.chain(limits.report(config)).collect())
}

/// System limits. `None` means unlimited or unknown.
struct SystemLimits {
    open_files: Option<u64>,
    backlog: Option<i32>,
    cgroup: CgroupLimits,
}

/// Threads of a worker: the event loop and the computations.
const THREADS: u64 = 2;

/// The memory that all workers together can need.
fn memory_needed(config: &Config, workers: u64) -> u64 {
    let memory = MemoryUse {
        table_max_n: config.table_max_n,
        max_n: config.numbers.max_n,
        cache_bytes: config.numbers.bytes as u64,
        connections: config.max_connections as u64,
    };
    memory.worst_case(workers)
}

impl SystemLimits {
    fn report(&self, config: &Config) -> Vec<String> {
        let wanted = config.max_connections;
        let open_files = self.open_files.filter(|files| *files <= wanted as u64);
        let open_files = open_files.map(|files| {
            format!(
                "# the open file limit (ulimit -Hn) is {files}: fewer than {files} of {wanted} connections\n"
            )
        });
        let backlog = self.backlog.filter(|backlog| *backlog < BACKLOG);
        let backlog = backlog.map(|backlog| {
            format!("# net.core.somaxconn is {backlog}: accept queues hold {backlog} of {BACKLOG} connections\n")
        });
        open_files.into_iter().chain(backlog).chain(self.report_cgroup(config)).collect()
    }

    /// Reports limits of the control group.
    fn report_cgroup(&self, config: &Config) -> Vec<String> {
        let CgroupLimits { memory_bytes, tasks, cpu_millis } = self.cgroup;
        let workers = config.workers.unwrap_or(1) as u64;
        let needed = memory_needed(config, workers);
        let memory = memory_bytes.filter(|limit| *limit < needed).map(|limit| {
            let [limit, needed] = [limit, needed].map(|bytes| bytes >> 20);
            format!("# the memory limit is {limit} MiB: less than the worst case of {needed} MiB\n")
        });
        // An upgrade has twice the workers for a moment.
        let threads = config.workers.map_or(THREADS, |_| 1 + 2 * THREADS * workers);
        let tasks = tasks.filter(|limit| *limit < threads).map(|limit| {
            format!(
                "# pids.max is {limit}: fewer than {threads} threads, with those of an upgrade\n"
            )
        });
        let cpu = cpu_millis.filter(|limit| *limit < workers * 1000).map(|limit| {
            let (whole, part) = (limit / 1000, limit % 1000);
            format!(
                "# cpu.max is {whole}.{part:03} CPUs: less than one for each of {workers} workers\n"
            )
        });
        [memory, tasks, cpu].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Command};

    fn config(flags: &[&str]) -> Config {
        let arguments = std::iter::once("fibsrv").chain(flags.iter().copied());
        match config::parse(arguments.map(Into::into)) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{flags:?}: {other:?}"),
        }
    }

    #[test]
    fn lower_system_limits_are_reported() {
        let config = config(&["--max-connections", "1000"]);
        let cgroup = CgroupLimits::default();
        let low = SystemLimits { open_files: Some(1000), backlog: Some(128), cgroup };
        assert_eq!(
            low.report(&config),
            [
                "# the open file limit (ulimit -Hn) is 1000: fewer than 1000 of 1000 connections\n",
                "# net.core.somaxconn is 128: accept queues hold 128 of 4096 connections\n",
            ]
        );
        for high in [
            SystemLimits { open_files: Some(1001), backlog: Some(4096), cgroup },
            SystemLimits { open_files: None, backlog: None, cgroup },
        ] {
            assert_eq!(high.report(&config), [""; 0]);
        }
    }

    #[test]
    fn lower_limits_of_the_control_group_are_reported() {
        let report = |flags: &[&str], cgroup| {
            let flags = [&["--max-connections", "1000"], flags].concat();
            let limits = SystemLimits { open_files: None, backlog: None, cgroup };
            limits.report(&config(&flags))
        };
        let low =
            CgroupLimits { memory_bytes: Some(256 << 20), tasks: Some(8), cpu_millis: Some(1500) };
        assert_eq!(
            report(&["--workers", "2"], low),
            [
                "# the memory limit is 256 MiB: less than the worst case of 461 MiB\n",
                "# pids.max is 8: fewer than 9 threads, with those of an upgrade\n",
                "# cpu.max is 1.500 CPUs: less than one for each of 2 workers\n",
            ]
        );
        let enough =
            CgroupLimits { memory_bytes: Some(512 << 20), tasks: Some(9), cpu_millis: Some(2000) };
        assert_eq!(report(&["--workers", "2"], enough), [""; 0]);
        assert_eq!(report(&[], low), [""; 0], "one process needs less");
    }

    #[test]
    fn a_socket_or_log_that_cannot_be_opened_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = check(&config(&["--listen", &address])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        let log =
            ["--listen", "127.0.0.1:0", "--access-log", "json", "--access-log-file", "/nowhere/a"];
        let error = check(&config(&log)).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the access log /nowhere/a: "), "{error}");
        check(&config(&["--listen", "127.0.0.1:0"])).unwrap();
    }
}
