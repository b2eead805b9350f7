//! What a server holds and does while a scenario goes on, read from outside now and then.

use crate::lab::server::Server;
use std::{
    fs,
    io::{self, Error},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// What is read now and then while an attack goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Resident bytes of all its processes.
    pub(crate) rss: u64,
    /// Its open files.
    pub(crate) descriptors: usize,
    /// Bytes in socket buffers of the whole network namespace, both ends of each connection.
    pub(crate) tcp: u64,
}

/// A reading before, and the highest since.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) before: Reading,
    pub(crate) peak: Reading,
    pub(crate) last: Reading,
    due: Instant,
}

impl Server {
    /// What it holds now; an error if it is no more.
    pub(crate) fn reading(&self) -> io::Result<Reading> {
        let family = self.family();
        let rss = family.iter().filter_map(|pid| status_field(*pid, "VmRSS:")).sum::<u64>() * 1024;
        if rss == 0 {
            return Err(Error::other(format!("the server is gone: {}", self.log_text())));
        }
        let descriptors = family
            .iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok())
            .map(Iterator::count)
            .sum();
        Ok(Reading { rss, descriptors, tcp: tcp_memory() })
    }

    /// Waits, and tells the processor time in percent and the wake-ups a second meanwhile.
    pub(crate) fn observe(&self, span: Duration) -> (f64, f64) {
        let (cpu, wakeups) = (self.cpu(), self.wakeups());
        thread::sleep(span);
        let cpu = self.cpu().saturating_sub(cpu).as_secs_f64();
        let wakeups = (self.wakeups() - wakeups) as f64;
        (100.0 * cpu / span.as_secs_f64(), wakeups / span.as_secs_f64())
    }

    /// How often its threads have gone to sleep by themselves, hence been woken.
    fn wakeups(&self) -> u64 {
        let field = "voluntary_ctxt_switches:";
        self.tasks().filter_map(|task| field_of(&task.join("status"), field)).sum()
    }
}

impl Watch {
    pub(crate) fn start(server: &Server) -> io::Result<Self> {
        let before = server.reading()?;
        Ok(Self { before, peak: before, last: before, due: Instant::now() })
    }

    /// Takes a reading if the last is older than 100 ms; says whether it did.
    pub(crate) fn look(&mut self, server: &Server) -> io::Result<bool> {
        if Instant::now() < self.due {
            return Ok(false);
        }
        self.last = server.reading()?;
        self.peak.rss = self.peak.rss.max(self.last.rss);
        self.peak.tcp = self.peak.tcp.max(self.last.tcp);
        self.due = Instant::now() + Duration::from_millis(100);
        Ok(true)
    }

    /// How many open files it has more than before.
    pub(crate) fn held(&self) -> usize {
        self.last.descriptors.saturating_sub(self.before.descriptors)
    }
}

fn status_field(pid: u32, field: &str) -> Option<u64> {
    field_of(&PathBuf::from(format!("/proc/{pid}/status")), field)
}

fn field_of(status: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes of memory in TCP socket buffers; the kernel counts pages.
fn tcp_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

/// How often a connection was dropped because a listener's queue was full.
pub(crate) fn listen_overflows() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap_or_default().split(' ');
    let mut pairs = names.zip(lines.next().unwrap_or_default().split(' '));
    let value = pairs.find(|pair| pair.0 == "ListenOverflows").map(|pair| pair.1.parse());
    value.and_then(Result::ok).unwrap_or_default()
}
