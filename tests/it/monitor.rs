//! Watches a server under attack: what it holds, what it costs, and whether an honest client is served.

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

/// What a server may hold more in memory after an attack than before. The allocator keeps what it had to
/// fetch once, and does not return a page with one small piece left on it; what an attack can make the server
/// hold at a time is several times as much, and a leak grows with each round.
pub(crate) const RESIDENT_GROWTH_MAX: u64 = 2 * 1024 * 1024;

/// The processor time for which a server that has nothing to do may be charged while we look, in clock ticks
/// of 10 ms. A loop that spins is charged fifty in the half second that we look.
pub(crate) const IDLE_TICKS_MAX: u64 = 5;

impl Server {
    /// Memory in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.id()).expect("a running server")
    }

    /// Processor time used so far, in clock ticks.
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

    /// The server's ends of connections that it has closed and the kernel has not: with answers in them
    /// that nobody takes.
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

    /// Connections as the server counts them, that of the question included.
    pub(crate) fn connections(&self) -> f64 {
        self.counted()["fibsrv_connections"]
    }
}

/// An attack's witness: what the server had before, and an honest client.
#[derive(Debug)]
pub(crate) struct Watch<'server> {
    server: &'server Server,
    files: usize,
    resident_bytes: u64,
    honest: Honest,
}

impl<'server> Watch<'server> {
    /// To be called before the attack.
    pub(crate) fn start(server: &'server Server) -> Self {
        eventually("nobody is left from before", || server.connections() == 1.0);
        let honest = Honest::start(server);
        // It has its connection now, and the server has had its first requests.
        honest.is_answered(2);
        Self { server, files: server.open_files(), resident_bytes: server.resident_bytes(), honest }
    }

    /// To be called while the attack goes on: the honest client is served meanwhile.
    pub(crate) fn others_are_served(&self) {
        self.honest.is_answered(3);
    }

    /// How many connections the server has beside the honest client's.
    pub(crate) fn attackers(&self) -> usize {
        self.server.open_files().saturating_sub(self.files)
    }

    /// How much more memory the server has than before.
    pub(crate) fn resident_growth(&self) -> u64 {
        self.server.resident_bytes().saturating_sub(self.resident_bytes)
    }

    /// To be called after the attack, when all clients have left: what it cost has been given back.
    pub(crate) fn all_is_given_back(self) {
        self.others_are_served();
        eventually("as many open files as before", || self.attackers() == 0);
        let Self { server, resident_bytes, honest, .. } = self;
        honest.stop();
        eventually("no connection but the one that asks", || server.connections() == 1.0);
        eventually("nothing is left in the kernel", || server.orphans() == 0);
        let growth = server.resident_bytes().saturating_sub(resident_bytes);
        assert!(growth <= RESIDENT_GROWTH_MAX, "{growth} bytes more than before");
    }
}

/// A client that asks one number after the other and checks each, until told to stop.
#[derive(Debug)]
struct Honest {
    answers: Arc<AtomicU64>,
    stop: Sender<()>,
    client: JoinHandle<()>,
}

impl Honest {
    fn start(server: &Server) -> Self {
        let answers = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel();
        let (address, counter) = (server.address(), Arc::clone(&answers));
        let client = thread::spawn(move || {
            let mut client = Client::connect(address);
            let (mut current, mut next) = (0_u128, 1_u128);
            // A little breath, that there be time for the attack on a machine with a single processor.
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
        Self { answers, stop, client }
    }

    /// Waits until it has got so many more answers.
    fn is_answered(&self, more: u64) {
        let wanted = self.answers.load(Ordering::Relaxed) + more;
        eventually("the honest client is served", || {
            let has_failed = self.client.is_finished();
            assert!(!has_failed, "the honest client got a wrong answer or none");
            self.answers.load(Ordering::Relaxed) >= wanted
        });
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.client.join().unwrap();
    }
}
