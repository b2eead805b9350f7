//! Restarts in the midst of a load, paced so that each has its share of the requests, with as long a time
//! without restarts for comparison; and what has come of it.

use crate::{
    caller::Failure,
    lab::report::{self, millis},
    load::{Load, Mix},
    options::Options,
    process::waiting,
    score::{Kind, Lost, Phase, Score},
};
use std::{
    io::{self, Error},
    net::SocketAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Restarts are done in so many blocks, each followed by as long a time of quiet: so that both see the
/// same of what else the machine does.
const BLOCKS: usize = 10;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_millis(300);
const LOOKS_EVERY: Duration = Duration::from_millis(1);
/// So long may nothing be answered at all.
const STALLED: Duration = Duration::from_secs(20);
/// More failures than anybody will look at.
const LOSSES_MAX: usize = 10_000;
const SHOWN: usize = 12;

/// What there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) address: SocketAddr,
    pub(crate) mix: Mix,
    /// How often servers are restarted, and until how many requests were answered meanwhile.
    pub(crate) restarts: usize,
    pub(crate) requests: u64,
}

/// A load through which servers are restarted.
#[derive(Debug)]
pub(crate) struct Campaign {
    load: Load,
    task: Task,
    /// Answered while servers were being restarted.
    answered: u64,
    restarting: Duration,
    quiet: Duration,
    /// How many waited to be accepted when a restart began.
    queues: Vec<usize>,
}

impl Task {
    pub(crate) fn new(address: SocketAddr, options: &Options, restarts: usize) -> Self {
        Self { address, mix: options.mix(), restarts, requests: options.requests }
    }

    /// Restarts under load: `restart` is called as often as is to be, and returns when it is done.
    pub(crate) fn run(self, mut restart: impl FnMut() -> io::Result<()>) -> io::Result<Campaign> {
        let load = Load::start(self.address, &self.mix);
        let mut campaign = Campaign {
            load,
            task: self,
            answered: 0,
            restarting: Duration::ZERO,
            quiet: Duration::ZERO,
            queues: Vec::new(),
        };
        thread::sleep(WARM_UP);
        let mut done = 0;
        for block in 1..=BLOCKS {
            let until = self.restarts * block / BLOCKS;
            let span = campaign.restart(done..until, &mut restart)?;
            campaign.restarting += span;
            campaign.load.score.enter(Phase::Quiet);
            thread::sleep(span);
            campaign.quiet += span;
            done = until;
        }
        Ok(campaign)
    }
}

impl Campaign {
    /// A block of restarts; returns how long it took.
    fn restart(
        &mut self,
        numbers: Range<usize>,
        restart: &mut impl FnMut() -> io::Result<()>,
    ) -> io::Result<Duration> {
        let score = &self.load.score;
        score.enter(Phase::Restarting);
        let (start, answered) = (Instant::now(), score.answered());
        for number in numbers {
            self.queues.push(waiting(self.task.address)?);
            restart()?;
            score.count_restart();
            let share = self.task.requests * (number as u64 + 1) / self.task.restarts as u64;
            let due = (share + answered).saturating_sub(self.answered);
            await_answers(score, due)?;
        }
        self.answered += score.answered() - answered;
        Ok(start.elapsed())
    }

    /// What clients see.
    pub(crate) fn score(&self) -> Arc<Score> {
        Arc::clone(&self.load.score)
    }

    /// Ends the load and prints what its clients have seen. An error if anything has failed for which
    /// `excuse` has no excuse.
    pub(crate) fn finish(self, excuse: impl Fn(&Lost) -> bool) -> io::Result<()> {
        let score = self.load.finish()?;
        print_clients(&score);
        println!();
        report::head(&[
            "restarts",
            "answered meanwhile",
            "seconds",
            "new connections/s, without → with",
            "longest gap ms, without → with",
            "waiting at a restart, median / most",
            "long requests over a restart",
            "kept ones closed while idle",
            "crossed",
        ]);
        let mut queues = self.queues;
        queues.sort_unstable();
        let queue = |place: usize| queues.get(place).copied().unwrap_or_default();
        let rate = |phase, span: Duration| score.visits(phase) as f64 / span.as_secs_f64();
        let rates = [rate(Phase::Quiet, self.quiet), rate(Phase::Restarting, self.restarting)];
        let [before, with] = rates.map(|rate| format!("{rate:.0}"));
        let gaps = [Phase::Quiet, Phase::Restarting].map(|phase| millis(score.gap(phase)));
        report::row(&[
            score.restarts().to_string(),
            self.answered.to_string(),
            format!("{:.0}", self.restarting.as_secs_f64()),
            report::change(before, with),
            report::change(&gaps[0], &gaps[1]),
            format!("{} / {}", queue(queues.len() / 2), queue(queues.len().saturating_sub(1))),
            score.spanning.load(Relaxed).to_string(),
            score.closed.load(Relaxed).to_string(),
            score.crossed.load(Relaxed).to_string(),
        ]);
        println!();
        score.losses(|losses| judge(losses, excuse))
    }
}

/// Waits until so many requests were answered in all.
pub(crate) fn await_answers(score: &Score, due: u64) -> io::Result<()> {
    let (mut seen, mut since) = (score.answered(), Instant::now());
    while seen < due {
        thread::sleep(LOOKS_EVERY);
        let now = score.answered();
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > STALLED || score.losses(<[Lost]>::len) > LOSSES_MAX {
            score.losses(show);
            return Err(Error::other("the clients get nowhere"));
        }
    }
    Ok(())
}

/// What each kind of client has seen.
pub(crate) fn print_clients(score: &Score) {
    const FAILURES: [(&str, Failure); 6] = [
        ("refused", Failure::Refused),
        ("reset before an answer", Failure::Reset),
        ("closed without an answer", Failure::Unanswered),
        ("cut in an answer", Failure::Cut),
        ("wrong answer", Failure::Wrong),
        ("no answer within 10 s", Failure::Stuck),
    ];
    report::head(&["requests on connections", "new", "kept", "long"]);
    let row = |name: &str, figures: [String; 3]| {
        report::row(&[&[name.to_owned()][..], &figures].concat());
    };
    row("answered rightly", Kind::ALL.map(|kind| score.answered_of(kind).to_string()));
    for (name, failure) in FAILURES {
        let count = |kind| {
            let is_such = |lost: &&Lost| (lost.kind, lost.failure) == (kind, failure);
            score.losses(|losses| losses.iter().filter(is_such).count()).to_string()
        };
        row(name, Kind::ALL.map(count));
    }
}

fn judge(losses: &[Lost], excuse: impl Fn(&Lost) -> bool) -> io::Result<()> {
    let inexcusable = losses.iter().filter(|lost| !excuse(lost)).count();
    if inexcusable == 0 {
        return Ok(());
    }
    show(losses);
    Err(Error::other(format!("{inexcusable} requests have failed")))
}

fn show(losses: &[Lost]) {
    for lost in losses.iter().take(SHOWN) {
        println!("- {lost}");
    }
    if losses.len() > SHOWN {
        println!("- and {} more", losses.len() - SHOWN);
    }
}
