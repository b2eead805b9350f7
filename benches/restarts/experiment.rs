//! Restarts under load, paced so that each has its share of the requests, alternating with equally long
//! periods without restarts for comparison; and the results.

use crate::{
    client::Failure,
    harness::report::{self, millis},
    load::{Load, Mix},
    options::Options,
    process::accept_queue_length,
    stats::{FailedRequest, Kind, Phase, Stats},
};
use std::{
    io::{self, Error},
    net::SocketAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// The number of blocks of restarts. Each is followed by an equally long quiet period, so that other load on
/// the machine affects both equally.
const BLOCKS: usize = 10;
/// Time before the measurement.
const WARM_UP: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum time without any response.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// The number of failures at which the experiment is aborted.
const FAILURES_MAX: usize = 10_000;
const EXAMPLES_MAX: usize = 12;

/// Parameters of an experiment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) address: SocketAddr,
    pub(crate) mix: Mix,
    /// The number of restarts, and the minimum number of responses during them.
    pub(crate) restarts: usize,
    pub(crate) requests: u64,
}

/// A load during which servers are restarted.
#[derive(Debug)]
pub(crate) struct Experiment {
    load: Load,
    task: Task,
    /// Responses while servers were being restarted.
    responses: u64,
    restarting: Duration,
    quiet: Duration,
    /// The length of the accept queue at the start of each restart.
    queues: Vec<usize>,
}

impl Task {
    pub(crate) fn new(address: SocketAddr, options: &Options, restarts: usize) -> Self {
        Self { address, mix: options.mix(), restarts, requests: options.requests }
    }

    /// Runs the experiment. `restart` restarts a server and returns when that is done.
    pub(crate) fn run(self, mut restart: impl FnMut() -> io::Result<()>) -> io::Result<Experiment> {
        let load = Load::start(self.address, &self.mix);
        let mut experiment = Experiment {
            load,
            task: self,
            responses: 0,
            restarting: Duration::ZERO,
            quiet: Duration::ZERO,
            queues: Vec::new(),
        };
        thread::sleep(WARM_UP);
        let mut done = 0;
        for block in 1..=BLOCKS {
            let until = self.restarts * block / BLOCKS;
            let span = experiment.restart(done..until, &mut restart)?;
            experiment.restarting += span;
            experiment.load.stats.set_phase(Phase::Quiet);
            thread::sleep(span);
            experiment.quiet += span;
            done = until;
        }
        Ok(experiment)
    }
}

impl Experiment {
    /// Runs a block of restarts; returns how long it took.
    fn restart(
        &mut self,
        numbers: Range<usize>,
        restart: &mut impl FnMut() -> io::Result<()>,
    ) -> io::Result<Duration> {
        let stats = &self.load.stats;
        stats.set_phase(Phase::Restarting);
        let (start, responses) = (Instant::now(), stats.responses());
        for number in numbers {
            self.queues.push(accept_queue_length(self.task.address)?);
            restart()?;
            stats.count_restart();
            let share = self.task.requests * (number as u64 + 1) / self.task.restarts as u64;
            let due = (share + responses).saturating_sub(self.responses);
            await_responses(stats, due)?;
        }
        self.responses += stats.responses() - responses;
        Ok(start.elapsed())
    }

    /// The statistics of the clients.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.load.stats)
    }

    /// Stops the load and prints the statistics of its clients. Returns an error if a request has failed that
    /// `is_expected` does not accept.
    pub(crate) fn finish(self, is_expected: impl Fn(&FailedRequest) -> bool) -> io::Result<()> {
        let stats = self.load.finish()?;
        print_clients(&stats);
        println!();
        report::head(&[
            "restarts",
            "responses during restarts",
            "seconds",
            "new connections/s, quiet → restarting",
            "longest gap ms, quiet → restarting",
            "accept queue at a restart, median / max",
            "long requests during a restart",
            "keep-alive connections closed while idle",
            "closed while a request was in flight",
        ]);
        let mut queues = self.queues;
        queues.sort_unstable();
        let queue = |index: usize| queues.get(index).copied().unwrap_or_default();
        let rate = |phase, span: Duration| stats.new_connections(phase) as f64 / span.as_secs_f64();
        let rates = [rate(Phase::Quiet, self.quiet), rate(Phase::Restarting, self.restarting)];
        let [before, with] = rates.map(|rate| format!("{rate:.0}"));
        let gaps = [Phase::Quiet, Phase::Restarting].map(|phase| millis(stats.gap(phase)));
        report::row(&[
            stats.restarts().to_string(),
            self.responses.to_string(),
            format!("{:.0}", self.restarting.as_secs_f64()),
            report::change(before, with),
            report::change(&gaps[0], &gaps[1]),
            format!("{} / {}", queue(queues.len() / 2), queue(queues.len().saturating_sub(1))),
            stats.spanning.load(Relaxed).to_string(),
            stats.closed.load(Relaxed).to_string(),
            stats.crossed.load(Relaxed).to_string(),
        ]);
        println!();
        stats.failures(|failures| check(failures, is_expected))
    }
}

/// Waits until the total number of responses reaches `due`.
pub(crate) fn await_responses(stats: &Stats, due: u64) -> io::Result<()> {
    let (mut seen, mut since) = (stats.responses(), Instant::now());
    while seen < due {
        thread::sleep(POLL_INTERVAL);
        let now = stats.responses();
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > PROGRESS_TIMEOUT
            || stats.failures(<[FailedRequest]>::len) > FAILURES_MAX
        {
            stats.failures(show);
            return Err(Error::other("no progress"));
        }
    }
    Ok(())
}

/// Prints the results of each kind of client.
pub(crate) fn print_clients(stats: &Stats) {
    const FAILURES: [(&str, Failure); 6] = [
        ("refused", Failure::Refused),
        ("reset before a response", Failure::Reset),
        ("closed without a response", Failure::NoResponse),
        ("truncated response", Failure::Truncated),
        ("wrong response", Failure::Wrong),
        ("no response within 10 s", Failure::TimedOut),
    ];
    report::head(&["requests on connections", "new", "keep-alive", "long"]);
    let row = |name: &str, figures: [String; 3]| {
        report::row(&[&[name.to_owned()][..], &figures].concat());
    };
    row("correct responses", Kind::ALL.map(|kind| stats.responses_of(kind).to_string()));
    for (name, failure) in FAILURES {
        let count = |kind| {
            let is_such =
                |failed: &&FailedRequest| (failed.kind, failed.failure) == (kind, failure);
            stats.failures(|failures| failures.iter().filter(is_such).count()).to_string()
        };
        row(name, Kind::ALL.map(count));
    }
}

fn check(
    failures: &[FailedRequest],
    is_expected: impl Fn(&FailedRequest) -> bool,
) -> io::Result<()> {
    let unexpected = failures.iter().filter(|failed| !is_expected(failed)).count();
    if unexpected == 0 {
        return Ok(());
    }
    show(failures);
    Err(Error::other(format!("{unexpected} requests have failed")))
}

fn show(failures: &[FailedRequest]) {
    for failed in failures.iter().take(EXAMPLES_MAX) {
        println!("- {failed}");
    }
    if failures.len() > EXAMPLES_MAX {
        println!("- and {} more", failures.len() - EXAMPLES_MAX);
    }
}
