//! The processes of these tests: what they do, and how they are started and killed.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use fibsrv::{
    http::{Method, Status},
    metrics::{
        self, Claim, Handler, Process, RequestLabels,
        shared::{SharedMemory, SharedMemoryError},
    },
};
use rustix::process::{Resource, Rlimit, setrlimit};

pub(crate) const ROLE: &str = "SHARED_METRICS_ROLE";
pub(crate) const DIRECTORY: &str = "SHARED_METRICS_DIRECTORY";
/// What each worker says to have used and to hold.
pub(crate) const CPU_NS: u64 = 7;
pub(crate) const MEMORY_BYTES: u64 = 100;
pub(crate) const CONNECTIONS: u64 = 5;
/// How often a visitor comes and goes.
const VISITS: u64 = 100;

/// What such a process does; nothing in the one that runs the tests.
pub(crate) fn act() {
    let Ok(role) = env::var(ROLE) else { return };
    let directory = env::var_os(DIRECTORY).map(PathBuf::from).unwrap_or_default();
    match role.as_str() {
        "worker" => {
            let fd = io::stdin().as_fd().try_clone_to_owned().unwrap();
            count(SharedMemory::from_fd(fd).unwrap().claim().unwrap());
        }
        "neighbour" => {
            let region = SharedMemory::in_directory(&directory, 3000).unwrap();
            count(region.claim().unwrap());
        }
        "visitor" => visit(&directory),
        "limited" => {
            let limit = Some(100_000);
            setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
            say_error(SharedMemory::in_memory());
            say_error(SharedMemory::in_directory(&directory, 3000));
            Claim::private().add(metrics::CONNECTIONS_ACCEPTED, 1);
        }
        "full" => say_error(SharedMemory::in_directory(&directory, 3000)),
        other => panic!("no such role: {other}"),
    }
}

/// Counts until the process is killed, or whoever reads has gone.
fn count(mut counters: Claim) {
    counters.set(metrics::CONNECTIONS, CONNECTIONS);
    counters.record_process(&Process {
        cpu_time_ns: CPU_NS,
        resident_memory_bytes: MEMORY_BYTES,
        start_time_ns: 1_000_000 + u64::from(std::process::id()),
        ..Process::default()
    });
    let (handler, method) = (Handler::Fibonacci, Some(Method::Get));
    let labels = RequestLabels { handler, method, status: Status::Ok };
    loop {
        counters.add(metrics::CONNECTIONS_ACCEPTED, 1);
        counters.add(metrics::REQUESTS.with(labels), 1);
        counters.observe(metrics::REQUEST_DURATION.with(Handler::Fibonacci), 3_000, 1);
        // Counted before it is told.
        if io::stderr().write_all(b".").is_err() {
            return;
        }
    }
}

fn visit(directory: &Path) {
    for _ in 0..VISITS {
        let region = SharedMemory::in_directory(directory, 3000).unwrap();
        let counters = region.claim().unwrap();
        drop(region);
        counters.add(metrics::CONNECTIONS_ACCEPTED, 1);
        assert!(counters.snapshot().get(metrics::CONNECTIONS_ACCEPTED) >= 1);
    }
}

fn say_error(region: Result<SharedMemory, SharedMemoryError>) {
    let line = format!("{}\n", region.expect_err("an error"));
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The test's executable in a role.
pub(crate) fn command(role: &str, directory: Option<&Path>) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "helper", "--nocapture"]).env(ROLE, role).stdout(Stdio::null());
    command.envs(directory.map(|path| (DIRECTORY, path)));
    command
}

/// A process that counts. It is killed when the test is done with it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) child: Child,
    told: ChildStderr,
    /// What it has told to have counted.
    pub(crate) count: u64,
}

impl Worker {
    pub(crate) fn start(region: &SharedMemory) -> Self {
        let stdin = region.fd().try_clone_to_owned().unwrap();
        Self::spawn(command("worker", None).stdin(stdin))
    }

    pub(crate) fn start_in(directory: &Path) -> Self {
        Self::spawn(&mut command("neighbour", Some(directory)))
    }

    /// Starts it, and waits until it counts.
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let told = child.stderr.take().unwrap();
        let mut worker = Self { child, told, count: 0 };
        worker.wait_for(1);
        worker
    }

    /// Waits until it has counted so many more.
    pub(crate) fn wait_for(&mut self, more: usize) {
        let mut told = vec![0; more];
        self.told.read_exact(&mut told).unwrap();
        assert!(told.iter().all(|byte| *byte == b'.'), "{}", String::from_utf8_lossy(&told));
        self.count += more as u64;
    }

    /// Kills it with a signal it cannot catch; tells how much it has told to have counted.
    pub(crate) fn kill(mut self) -> u64 {
        self.end();
        let mut rest = Vec::new();
        self.told.read_to_end(&mut rest).unwrap();
        self.count + rest.len() as u64
    }

    fn end(&mut self) {
        // Failing means that it has ended.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A directory that is removed in the end.
#[derive(Debug)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("fibsrv-shared-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
