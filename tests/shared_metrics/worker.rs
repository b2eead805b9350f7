//! The helper processes of these tests, and how they are started and killed.

use std::{
    env,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Child, ChildStderr, Command, Stdio},
};

use fibsrv::{
    http::{Method, Status},
    metrics::{self, Claim, Handler, Process, RequestLabels, shared::SharedMemory},
};
use rustix::process::{Resource, Rlimit, setrlimit};

pub(crate) const ROLE: &str = "SHARED_METRICS_ROLE";
/// What each worker records about its process.
pub(crate) const CPU_NS: u64 = 7;
pub(crate) const MEMORY_BYTES: u64 = 100;
pub(crate) const CONNECTIONS: u64 = 5;
/// How often a visitor claims and releases a slot.
const VISITS: u64 = 100;

/// Runs the helper of the role. Does nothing without a role, as in the process that runs the tests.
pub(crate) fn act() {
    let Ok(role) = env::var(ROLE) else { return };
    match role.as_str() {
        "worker" => count(inherited().claim().unwrap()),
        "visitor" => visit(),
        "limited" => {
            let limit = Some(100_000);
            setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
            let error = SharedMemory::in_memory().expect_err("an error");
            io::stderr().write_all(format!("{error}\n").as_bytes()).unwrap();
            Claim::private().add(metrics::CONNECTIONS_ACCEPTED, 1);
        }
        other => panic!("no such role: {other}"),
    }
}

/// The shared memory that is standard input.
fn inherited() -> SharedMemory {
    SharedMemory::from_fd(io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap()
}

/// Counts until the process is killed, or standard error is closed.
fn count(mut claim: Claim) {
    claim.set(metrics::CONNECTIONS, CONNECTIONS);
    claim.record_process(&Process {
        cpu_time_ns: CPU_NS,
        resident_memory_bytes: MEMORY_BYTES,
        start_time_ns: 1_000_000 + u64::from(std::process::id()),
        ..Process::default()
    });
    let (handler, method) = (Handler::Fibonacci, Some(Method::Get));
    let labels = RequestLabels { handler, method, status: Status::Ok };
    loop {
        claim.add(metrics::CONNECTIONS_ACCEPTED, 1);
        claim.add(metrics::REQUESTS.with(labels), 1);
        claim.observe(metrics::REQUEST_DURATION.with(Handler::Fibonacci), 3_000, 1);
        // Counted before it is reported.
        if io::stderr().write_all(b".").is_err() {
            return;
        }
    }
}

/// Claims a slot, counts and releases the slot, [`VISITS`] times.
fn visit() {
    for _ in 0..VISITS {
        let memory = inherited();
        let claim = memory.claim().unwrap();
        drop(memory);
        claim.add(metrics::CONNECTIONS_ACCEPTED, 1);
        assert!(claim.snapshot().get(metrics::CONNECTIONS_ACCEPTED) >= 1);
    }
}

/// The test's executable in a role.
pub(crate) fn command(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "helper", "--nocapture"]).env(ROLE, role).stdout(Stdio::null());
    command
}

/// A process that counts. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) child: Child,
    reports: ChildStderr,
    /// The counts that it has reported.
    pub(crate) count: u64,
}

impl Worker {
    pub(crate) fn start(memory: &SharedMemory) -> Self {
        let stdin = memory.fd().try_clone_to_owned().unwrap();
        Self::spawn(command("worker").stdin(stdin))
    }

    /// Starts it, and waits until it counts.
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let reports = child.stderr.take().unwrap();
        let mut worker = Self { child, reports, count: 0 };
        worker.wait_for(1);
        worker
    }

    /// Waits until it has reported `more` counts.
    pub(crate) fn wait_for(&mut self, more: usize) {
        let mut reported = vec![0; more];
        self.reports.read_exact(&mut reported).unwrap();
        assert!(
            reported.iter().all(|byte| *byte == b'.'),
            "{}",
            String::from_utf8_lossy(&reported)
        );
        self.count += more as u64;
    }

    /// Kills it with a signal that it cannot catch, and returns the counts that it has reported.
    pub(crate) fn kill(mut self) -> u64 {
        self.end();
        let mut rest = Vec::new();
        self.reports.read_to_end(&mut rest).unwrap();
        self.count + rest.len() as u64
    }

    fn end(&mut self) {
        // A failure means that it has exited.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}
