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
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const STOPS_WITHIN: Duration = Duration::from_secs(3);
const LOOKS_EVERY: Duration = Duration::from_millis(2);

/// Ends the server when this program dies without being able to, where the shell can say so.
const DIE_WITH_PARENT: &str = "$(command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM)";

/// How many servers were started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A running server; dropping it ends the processes it consists of.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `command` in a shell, with at most `limit` open files, and waits until it listens.
    pub(crate) fn start(command: &str, limit: Option<usize>) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let limit = limit.map_or_else(String::new, |files| format!("ulimit -n {files} && "));
        let filled = command.replace("{port}", &port.to_string());
        // Never twice the same: ports come back while servers that had them before still run.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = env::temp_dir().join(format!("lab-{}-{number}.log", std::process::id()));
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
            thread::sleep(LOOKS_EVERY);
        }
        Err(Error::new(ErrorKind::TimedOut, format!("no 'listening on' from {filled}")))
    }

    /// Everything the server has printed.
    pub(crate) fn log_text(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The processor time that all its threads have used, to the nanosecond.
    pub(crate) fn cpu(&self) -> Duration {
        let nanos = |task: PathBuf| -> Option<u64> {
            let text = fs::read_to_string(task.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(self.tasks().filter_map(nanos).sum())
    }

    /// The process and its descendants.
    pub(crate) fn family(&self) -> Vec<u32> {
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

    /// Their threads, as folders of `/proc`.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        self.family().into_iter().flat_map(tasks)
    }

    /// Sends a signal to one of its processes.
    pub(crate) fn signal(pid: u32, signal: Signal) {
        if let Some(pid) = Pid::from_raw(pid.cast_signed())
            && let Err(problem) = kill_process(pid, signal)
            && problem != Errno::SRCH
        {
            eprintln!("cannot send {signal:?} to process {pid:?}: {problem}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended has no process identifier any more: somebody else may have it by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            Self::signal(self.child.id(), Signal::TERM);
        }
        let deadline = Instant::now() + STOPS_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for pid in self.family() {
                    Self::signal(pid, Signal::KILL);
                }
                drop(self.child.wait());
            }
            thread::sleep(LOOKS_EVERY);
        }
        drop(fs::remove_file(&self.log));
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
