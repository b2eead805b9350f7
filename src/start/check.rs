//! `--check`: opens what a server would open, and reports limits that the system imposes.

use std::{error::Error, fs};

use rustix::process::{Resource, getrlimit};

use crate::{
    config::{Config, OpenedBy},
    logging::access::AccessLog,
    sys::listener::{self, BACKLOG},
};

/// Checks that a server with this configuration could start, without disturbing a running one. Returns
/// comment lines about system limits that are lower than the configured ones.
pub fn check(config: &Config) -> Result<String, Box<dyn Error>> {
    // Sockets that exist already are inherited. Opening them may need privileges that this process lacks.
    if config.opened_by() == OpenedBy::Us && config.inherited.is_none() {
        for address in config.listen.iter().chain(&config.admin_listen) {
            listener::check(*address, config.listeners)?;
        }
    }
    config.access_log.as_ref().map(AccessLog::check).transpose()?;
    let limits = SystemLimits {
        open_files: getrlimit(Resource::Nofile).maximum,
        backlog: fs::read_to_string("/proc/sys/net/core/somaxconn")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
    };
    let warnings = config.warnings.iter().map(|warning| format!("# {warning}\n"));
    Ok(warnings.chain(limits.report(config)).collect())
}

/// System limits. `None` means unlimited or unknown.
struct SystemLimits {
    open_files: Option<u64>,
    backlog: Option<i32>,
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
        open_files.into_iter().chain(backlog).collect()
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
        let low = SystemLimits { open_files: Some(1000), backlog: Some(128) };
        assert_eq!(
            low.report(&config),
            [
                "# the open file limit (ulimit -Hn) is 1000: fewer than 1000 of 1000 connections\n",
                "# net.core.somaxconn is 128: accept queues hold 128 of 4096 connections\n",
            ]
        );
        for high in [
            SystemLimits { open_files: Some(1001), backlog: Some(4096) },
            SystemLimits { open_files: None, backlog: None },
        ] {
            assert_eq!(high.report(&config), [""; 0]);
        }
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
