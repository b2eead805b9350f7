//! A server under test, started from the executable of this build.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, PipeReader, Read as _},
    net::{Shutdown, SocketAddr},
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::Signal,
};

use super::{
    client::Client,
    launcher::{Launched, Streams, await_readable, launch},
    process::{send_signal, state},
    reply::Reply,
};

/// Far longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Maximum time between two lines of a log, while a test waits for one.
const LOG_TIMEOUT: Duration = Duration::from_mins(1);

/// Polls a condition that has no event to wait for, such as a figure of the kernel.
#[expect(clippy::disallowed_methods, reason = "the kernel does not report when its figures change")]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: Option<BufReader<PipeReader>>,
    address: SocketAddr,
    preface: String,
    startup_line: String,
}

impl Server {
    /// Starts a server on a port that the kernel chooses.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", flags)
    }

    /// Starts a server on this address.
    pub(crate) fn start_on(address: &str, flags: &[&str]) -> Self {
        let mut server = command();
        server.args(["--listen", address]).args(flags);
        Self::launch(server, Streams::StdoutAndStderr)
    }

    /// Starts another copy of the program.
    pub(crate) fn start_program(program: &Path, flags: &[&str]) -> Self {
        let mut server = Command::new(program);
        server.env_clear().args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::spawn(server)
    }

    /// Starts a server under a limit in the syntax of the shell's `ulimit`: `-n 64` limits open files.
    pub(crate) fn start_with_limit(limit: &str, flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.env_clear().arg("-c").arg(format!("ulimit {limit}; exec \"$0\" \"$@\""));
        shell.arg(env!("CARGO_BIN_EXE_fibsrv")).args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::spawn(shell)
    }

    /// Starts a server with this command, which logs to stdout, and waits until it listens.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::launch(command, Streams::Stdout)
    }

    fn launch(mut command: Command, streams: Streams) -> Self {
        let Launched { child, log, address, preface, startup_line } =
            launch(&mut command, streams).expect("a server that listens");
        Self { child, stdout: Some(log), address, preface, startup_line }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The log lines before the one with the address.
    pub(crate) fn preface(&self) -> &str {
        &self.preface
    }

    /// The log line with the address.
    pub(crate) fn startup_line(&self) -> &str {
        &self.startup_line
    }

    /// The first address of `--admin-listen`.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let (_, address) = self.startup_line.trim_end().rsplit_once(", admin on ").unwrap();
        address.split(',').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Scrapes the metrics; returns the samples by name and labels.
    pub(crate) fn counted(&self) -> BTreeMap<String, f64> {
        counted(&self.get("/metrics").body)
    }

    /// Takes the reading end of the pipe that the server logs to.
    pub(crate) fn take_log(&mut self) -> BufReader<PipeReader> {
        self.stdout.take().expect("a log that was not taken before")
    }

    /// Waits until the server exits; returns its status and the rest of its log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut log).expect("text");
        }
        (self.child.wait().expect("a child"), log)
    }

    /// Waits for a log line with this text.
    pub(crate) fn await_log(&mut self, text: &str) {
        self.await_log_line(text);
    }

    /// Waits for a log line with this text; returns the line. Fails if nothing is logged for so long.
    pub(crate) fn await_log_line(&mut self, text: &str) -> String {
        let stdout = self.stdout.as_mut().expect("the log is still read");
        let mut line = String::new();
        while !line.contains(text) {
            if stdout.buffer().is_empty()
                && let Err(error) = await_readable(stdout.get_ref(), LOG_TIMEOUT)
            {
                panic!("{error} after {line:?}, waiting for {text:?}");
            }
            line.clear();
            assert!(stdout.read_line(&mut line).expect("text") > 0, "it exited without {text:?}");
        }
        line
    }

    /// What it has logged and no test has read, without waiting for more.
    fn rest_of_log(&mut self) -> String {
        let Some(stdout) = &mut self.stdout else { return "(read elsewhere)".to_owned() };
        fcntl_setfl(stdout.get_ref(), OFlags::NONBLOCK).expect("a pipe");
        let mut log = Vec::new();
        match stdout.read_to_end(&mut log) {
            Ok(_) => {}
            Err(error) => log.extend(format!("({error})").bytes()), // a worker may still run
        }
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request for `target` on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.connect().get(target)
    }

    /// Sends bytes and the end of the stream; returns everything received.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = self.connect();
        client.send(bytes);
        client.stream().shutdown(Shutdown::Write).unwrap();
        client.read_to_end()
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "shown by the test if it has failed")]
    fn drop(&mut self) {
        let exited = self.child.try_wait();
        // It may have exited by itself, which some tests expect.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("the server at {} had exited: {exited:?}; its log continues:", self.address);
            eprintln!("{}", self.rest_of_log());
        }
    }
}

/// The samples of a scrape.
pub(crate) fn counted(metrics: &str) -> BTreeMap<String, f64> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.filter_map(|line| line.rsplit_once(' '));
    pairs.map(|(key, value)| (key.to_owned(), value.parse().expect("a number"))).collect()
}

/// The sample that counts responses with a Fibonacci number.
pub(crate) const ANSWERED: &str =
    r#"fibsrv_requests_total{handler="fibonacci",method="GET",code="200"}"#;

/// Sends a signal by name to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let signal = match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => panic!("no such signal: {name}"),
    };
    send_signal(pid, signal).expect("a process");
}

/// Stops a process by a signal and waits until it is stopped: it accepts no more connections.
pub(crate) fn halt(pid: u32) {
    signal(pid, "STOP");
    eventually("the process is stopped", || state(pid) == Some('T'));
}

/// The server's executable, without the environment of the test.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibsrv"));
    command.env_clear();
    command
}
