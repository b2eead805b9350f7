//! The resources of a server, sampled during a scenario.

use crate::harness::{
    process::{open_files, resident_bytes, status_field},
    server::Server,
};
use std::{
    fs,
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

/// One sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUsage {
    /// Resident bytes of all processes.
    pub(crate) rss: u64,
    /// Open files.
    pub(crate) descriptors: usize,
    /// Bytes in socket buffers of the network namespace, of both ends of each connection.
    pub(crate) tcp: u64,
}

/// A sample before the scenario, the highest figures since, and the last sample.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) before: ProcessUsage,
    pub(crate) peak: ProcessUsage,
    pub(crate) last: ProcessUsage,
    due: Instant,
}

impl Server {
    /// Measures the server; an error if it has exited.
    pub(crate) fn usage(&self) -> io::Result<ProcessUsage> {
        let family = self.family();
        let rss = family.iter().filter_map(|pid| resident_bytes(*pid)).sum::<u64>();
        if rss == 0 {
            return Err(Error::other(format!("the server has exited: {}", self.log_text())));
        }
        let descriptors = family.iter().filter_map(|pid| open_files(*pid).ok()).sum();
        Ok(ProcessUsage { rss, descriptors, tcp: tcp_memory() })
    }

    /// Waits; returns the CPU use in percent and the wakeups per second during that time.
    pub(crate) fn measure(&self, span: Duration) -> (f64, f64) {
        let (cpu, wakeups) = (self.cpu(), self.wakeups());
        thread::sleep(span);
        let cpu = self.cpu().saturating_sub(cpu).as_secs_f64();
        let wakeups = (self.wakeups() - wakeups) as f64;
        (100.0 * cpu / span.as_secs_f64(), wakeups / span.as_secs_f64())
    }

    /// How often its threads have slept voluntarily, and hence been woken.
    fn wakeups(&self) -> u64 {
        let field = "voluntary_ctxt_switches:";
        self.tasks().filter_map(|task| status_field(&task.join("status"), field)).sum()
    }
}

impl Monitor {
    pub(crate) fn start(server: &Server) -> io::Result<Self> {
        let before = server.usage()?;
        Ok(Self { before, peak: before, last: before, due: Instant::now() })
    }

    /// Takes a sample if the last is older than 100 ms; returns whether it did.
    pub(crate) fn sample(&mut self, server: &Server) -> io::Result<bool> {
        if Instant::now() < self.due {
            return Ok(false);
        }
        self.last = server.usage()?;
        self.peak.rss = self.peak.rss.max(self.last.rss);
        self.peak.tcp = self.peak.tcp.max(self.last.tcp);
        self.due = Instant::now() + Duration::from_millis(100);
        Ok(true)
    }

    /// The number of open files beyond those before the scenario.
    pub(crate) fn held(&self) -> usize {
        self.last.descriptors.saturating_sub(self.before.descriptors)
    }
}

/// Memory of TCP socket buffers in bytes; the kernel counts pages.
fn tcp_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

/// How often the kernel dropped a connection because an accept queue was full.
pub(crate) fn listen_overflows() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap_or_default().split(' ');
    let mut pairs = names.zip(lines.next().unwrap_or_default().split(' '));
    let value = pairs.find(|pair| pair.0 == "ListenOverflows").map(|pair| pair.1.parse());
    value.and_then(Result::ok).unwrap_or_default()
}
