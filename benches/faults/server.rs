//! The server under test: a child process, and what the kernel tells about it.

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{
    env, fs,
    io::{self, Error, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// Ends the server when this program dies without being able to, where the shell can say so.
const DIE_WITH_PARENT: &str = "$(command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM)";

/// A running server; dropping it ends the processes it consists of.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

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
    /// Starts `command` in a shell, with at most `limit` open files, and waits until it listens.
    pub(crate) fn start(command: &str, limit: Option<usize>) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let limit = limit.map_or_else(String::new, |files| format!("ulimit -n {files} && "));
        let filled = command.replace("{port}", &port.to_string());
        let log = env::temp_dir().join(format!("faults-{}-{port}.log", std::process::id()));
        let output = fs::File::create(&log)?;
        let child = Command::new("sh")
            .args(["-c", &format!("{limit}exec {DIE_WITH_PARENT} {filled}")])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut server = Self { child, log, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let is_told_the_port = command.contains("{port}");
        let deadline = Instant::now() + STARTS_WITHIN;
        while Instant::now() < deadline {
            if is_told_the_port {
                if TcpStream::connect(server.address).is_ok() {
                    return Ok(server);
                }
            } else if let Some(address) = announced(&server.log_text()) {
                server.address = address;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                let text = server.log_text();
                return Err(Error::other(format!("the server ended with {status}: {text}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(Error::new(ErrorKind::TimedOut, format!("no 'listening on' from {filled}")))
    }

    /// Everything the server has printed.
    pub(crate) fn log_text(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

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

    /// The processor time that all its threads have used, to the nanosecond.
    pub(crate) fn cpu(&self) -> Duration {
        let nanos = |task: PathBuf| -> Option<u64> {
            let text = fs::read_to_string(task.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(self.tasks().filter_map(nanos).sum())
    }

    /// How often its threads have gone to sleep by themselves, hence been woken.
    fn wakeups(&self) -> u64 {
        let field = "voluntary_ctxt_switches:";
        self.tasks().filter_map(|task| field_of(&task.join("status"), field)).sum()
    }

    /// The process and its descendants.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            next += 1;
            let children = tasks(*pid)
                .filter_map(|task| fs::read_to_string(task.join("children")).ok())
                .flat_map(|text| {
                    text.split_whitespace().flat_map(str::parse::<u32>).collect::<Vec<_>>()
                })
                .collect::<Vec<_>>();
            family.extend(children);
        }
        family
    }

    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        self.family().into_iter().flat_map(tasks)
    }

    fn signal(pid: u32, signal: Signal) {
        if let Some(pid) = Pid::from_raw(pid.cast_signed())
            && let Err(problem) = kill_process(pid, signal)
            && problem != Errno::SRCH
        {
            eprintln!("faults: cannot end process {pid:?}: {problem}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let family = self.family();
        Self::signal(self.child.id(), Signal::TERM);
        let deadline = Instant::now() + STOPS_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for pid in &family {
                    Self::signal(*pid, Signal::KILL);
                }
                drop(self.child.wait());
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(fs::remove_file(&self.log));
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

/// The address in the line `listening on ADDRESS`.
fn announced(log: &str) -> Option<SocketAddr> {
    let rest = log.split_once("listening on ")?.1;
    rest.trim_start_matches("http://").split([' ', '\n', ',', '/']).next()?.parse().ok()
}

fn tasks(pid: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

fn status_field(pid: u32, field: &str) -> Option<u64> {
    field_of(&PathBuf::from(format!("/proc/{pid}/status")), field)
}

fn field_of(status: &PathBuf, field: &str) -> Option<u64> {
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
