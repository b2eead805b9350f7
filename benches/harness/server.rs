//! The server under test: a child process, and what the kernel reports about it.

use super::{
    launcher::{Launched, Streams, launch},
    process::{children, send_signal, tasks},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{self, BufRead, BufReader, Error, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Stops the server when this program is killed, if `setpriv` is installed.
const DIE_WITH_PARENT: &str = "$(command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM)";

/// A running server. Dropping it stops its processes.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Child,
    log: Log,
    pub(crate) address: SocketAddr,
}

/// The log so far, which a thread reads until the last process of the server has closed it.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn push(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, mut stream: impl BufRead + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                log.push(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
    }
}

impl Server {
    /// Starts `command` in a shell, with at most `limit` open files, and waits until it listens.
    pub(crate) fn start(command: &str, limit: Option<usize>) -> io::Result<Self> {
        let limit = limit.map_or_else(String::new, |files| format!("ulimit -n {files} && "));
        let shell = |command: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{limit}exec {DIE_WITH_PARENT} {command} 2>&1")]);
            shell.stdin(Stdio::null());
            shell
        };
        if command.contains("{port}") {
            return Self::start_on_port(|port| shell(&command.replace("{port}", &port)));
        }
        let Launched { child, log: stream, address, preface, startup_line } =
            launch(&mut shell(command), Streams::Stdout)?;
        let log = Log::default();
        log.push(&format!("{preface}{startup_line}"));
        log.follow(stream);
        Ok(Self { child, log, address })
    }

    /// Starts a server that does not print its address, and waits until it accepts connections.
    fn start_on_port(command: impl FnOnce(String) -> Command) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = command(port.to_string()).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { child, log: Log::default(), address };
        if let Some(stream) = server.child.stdout.take() {
            server.log.follow(BufReader::new(stream));
        }
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let log = server.log_text();
                return Err(Error::other(format!("the server exited with {status}: {log}")));
            }
            if Instant::now() > deadline {
                return Err(Error::new(ErrorKind::TimedOut, format!("no server on {address}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(server)
    }

    /// Everything the server has printed.
    pub(crate) fn log_text(&self) -> String {
        self.log.text()
    }

    /// CPU time of all its threads, in nanoseconds.
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
            family.extend(children(*pid));
        }
        family
    }

    /// Their threads, as folders of `/proc`.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        self.family().into_iter().flat_map(tasks)
    }

    /// Sends a signal to one of its processes, which may have exited.
    pub(crate) fn signal(pid: u32, signal: Signal) {
        if let Err(problem) = send_signal(pid, signal)
            && problem.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
        {
            eprintln!("cannot send {signal:?} to process {pid}: {problem}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process ID of a server that has exited may belong to another process by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            Self::signal(self.child.id(), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for pid in self.family() {
                    Self::signal(pid, Signal::KILL);
                }
                drop(self.child.wait());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}
