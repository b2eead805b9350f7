//! Measures a server under attack: its resources, its CPU time, and the service of a regular client.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::kit::{Client, Server, eventually, process};

/// Maximum growth of resident memory over an attack. The allocator does not return all pages to the system. An
/// attack makes the server allocate several times as much, and a leak grows with each round.
pub(crate) const RESIDENT_GROWTH_MAX: u64 = 2 * 1024 * 1024;

/// Maximum CPU time of an idle server in half a second, in clock ticks of 10 ms. A busy loop uses fifty.
pub(crate) const IDLE_TICKS_MAX: u64 = 5;

impl Server {
    /// Memory in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.id()).expect("a running server")
    }

    /// CPU time used so far, in clock ticks.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        // utime and stime.
        process::stat(self.id())
            .unwrap()
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum()
    }

    /// Number of open files.
    pub(crate) fn open_files(&self) -> usize {
        process::open_files(self.id()).unwrap()
    }

    /// The number of connections that the server has closed and the kernel keeps, with data that the client has
    /// not acknowledged.
    pub(crate) fn orphans(&self) -> usize {
        const FIN_WAIT1: &str = "04";
        const LAST_ACK: &str = "09";
        const CLOSING: &str = "0B";
        let port = format!(":{:04X}", self.address().port());
        let text = fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[1].ends_with(&port))
            .filter(|row| [FIN_WAIT1, LAST_ACK, CLOSING].contains(&row[3]))
            .count()
    }

    /// Bytes in the send buffers of all its connections: not sent yet, or not acknowledged.
    pub(crate) fn unacknowledged_bytes(&self) -> u64 {
        let port = format!(":{:04X}", self.address().port());
        let text = fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[1].ends_with(&port))
            .map(|row| u64::from_str_radix(row[4].split(':').next().unwrap(), 16).unwrap())
            .sum()
    }

    /// Open connections by the server's metrics, including that of the scrape.
    pub(crate) fn connections(&self) -> f64 {
        self.counted()["fibsrv_connections"]
    }
}

/// The resources of a server before an attack, and a regular client.
#[derive(Debug)]
pub(crate) struct Monitor<'server> {
    server: &'server Server,
    files: usize,
    resident_bytes: u64,
    client: RegularClient,
}

impl<'server> Monitor<'server> {
    /// Call it before the attack.
    pub(crate) fn start(server: &'server Server) -> Self {
        eventually("earlier connections are closed", || server.connections() == 1.0);
        let client = RegularClient::start(server);
        // It is connected now, and the server has allocated memory for its first requests.
        client.is_served(2);
        Self { server, files: server.open_files(), resident_bytes: server.resident_bytes(), client }
    }

    /// Waits until the regular client receives more responses. Call it during the attack.
    pub(crate) fn regular_client_is_served(&self) {
        self.client.is_served(3);
    }

    /// The number of connections beside the regular client's.
    pub(crate) fn other_connections(&self) -> usize {
        self.server.open_files().saturating_sub(self.files)
    }

    /// The growth of resident memory since the start.
    pub(crate) fn resident_growth(&self) -> u64 {
        self.server.resident_bytes().saturating_sub(self.resident_bytes)
    }

    /// Checks that the server has released everything. Call it after the attack.
    pub(crate) fn everything_is_released(self) {
        self.regular_client_is_served();
        eventually("as many open files as before", || self.other_connections() == 0);
        let Self { server, resident_bytes, client, .. } = self;
        client.stop();
        eventually("no connection but that of the scrape", || server.connections() == 1.0);
        eventually("no data is left in the kernel", || server.orphans() == 0);
        let growth = server.resident_bytes().saturating_sub(resident_bytes);
        assert!(growth <= RESIDENT_GROWTH_MAX, "{growth} bytes more than before");
    }
}

/// A client that requests one number after the other and checks each, until it is stopped.
#[derive(Debug)]
struct RegularClient {
    responses: Arc<AtomicU64>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl RegularClient {
    fn start(server: &Server) -> Self {
        let responses = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel();
        let (address, counter) = (server.address(), Arc::clone(&responses));
        let thread = thread::spawn(move || {
            let mut client = Client::connect(address);
            let (mut current, mut next) = (0_u128, 1_u128);
            // The pause leaves CPU time for the attack on a machine with a single CPU.
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                let n = counter.load(Ordering::Relaxed) % 180;
                if n == 0 {
                    (current, next) = (0, 1);
                }
                let reply = client.get(&format!("/api/fibonacci/{n}"));
                assert_eq!((reply.status, reply.body), (200, current.to_string()), "F({n})");
                (current, next) = (next, current + next);
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { responses, stop, thread }
    }

    /// Waits until it has received this many more responses.
    fn is_served(&self, more: u64) {
        let wanted = self.responses.load(Ordering::Relaxed) + more;
        eventually("the regular client is served", || {
            let has_failed = self.thread.is_finished();
            assert!(!has_failed, "the regular client received a wrong response or none");
            self.responses.load(Ordering::Relaxed) >= wanted
        });
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}
