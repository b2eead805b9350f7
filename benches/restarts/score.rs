//! What the clients of a load have seen, all together, while it goes on.

use crate::caller::{Failure, Loss};
use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection for each request.
    New,
    /// Many requests on a connection, with pauses.
    Kept,
    /// A request that takes long to send, or an answer that takes long to read.
    Long,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::New, Self::Kept, Self::Long];
}

/// Whether servers are being restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Quiet,
    Restarting,
}

/// A request that has failed.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) kind: Kind,
    pub(crate) failure: Failure,
    /// The client's address.
    pub(crate) local: Option<SocketAddr>,
    /// When, since the load began.
    pub(crate) at: Duration,
    note: String,
}

/// Counters that all clients share.
#[derive(Debug)]
pub(crate) struct Score {
    start: Instant,
    is_over: AtomicBool,
    is_restarting: AtomicBool,
    restarts: AtomicUsize,
    asked: AtomicU64,
    answered: [AtomicU64; 3],
    losses: Mutex<Vec<Lost>>,
    /// Kept connections that were closed in order while nothing was under way.
    pub(crate) closed: AtomicU64,
    /// Requests on kept connections that were on their way when the server closed in order: RFC 9112
    /// section 9.6 has the client ask again, and nothing is lost.
    pub(crate) crossed: AtomicU64,
    /// Long requests during which servers were restarted.
    pub(crate) spanning: AtomicU64,
    /// When a new connection was answered last.
    last_ns: AtomicU64,
    quiet: Span,
    restarting: Span,
}

/// What new connections have seen in one of the phases.
#[derive(Debug, Default)]
struct Span {
    answers: AtomicU64,
    /// The longest time from one answer to the next.
    gap_ns: AtomicU64,
}

impl Score {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            is_over: AtomicBool::new(false),
            is_restarting: AtomicBool::new(false),
            restarts: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            answered: Default::default(),
            losses: Mutex::default(),
            closed: AtomicU64::new(0),
            crossed: AtomicU64::new(0),
            spanning: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            quiet: Span::default(),
            restarting: Span::default(),
        }
    }

    /// Has all clients finish what they are at.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.is_restarting.store(phase == Phase::Restarting, Relaxed);
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// How many restarts there were until now.
    pub(crate) fn restarts(&self) -> usize {
        self.restarts.load(Relaxed)
    }

    /// To be called before anything of a request is sent.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    /// Requests that were begun to be sent: no server can have answered more.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// To be called when all of the answer is there, and is right.
    pub(crate) fn answer(&self, kind: Kind) {
        if kind == Kind::New {
            let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let before_ns = self.last_ns.fetch_max(now_ns, Relaxed);
            let span = self.span(self.phase());
            span.answers.fetch_add(1, Relaxed);
            if before_ns > 0 {
                span.gap_ns.fetch_max(now_ns.saturating_sub(before_ns), Relaxed);
            }
        }
        self.of(kind).fetch_add(1, Relaxed);
    }

    /// Answers received: no fewer can have been counted.
    pub(crate) fn answered(&self) -> u64 {
        Kind::ALL.iter().map(|kind| self.answered_of(*kind)).sum()
    }

    pub(crate) fn answered_of(&self, kind: Kind) -> u64 {
        self.of(kind).load(Relaxed)
    }

    /// New connections answered in a phase.
    pub(crate) fn visits(&self, phase: Phase) -> u64 {
        self.span(phase).answers.load(Relaxed)
    }

    /// The longest time in a phase in which no new connection was answered.
    pub(crate) fn gap(&self, phase: Phase) -> Duration {
        Duration::from_nanos(self.span(phase).gap_ns.load(Relaxed))
    }

    pub(crate) fn lose(&self, kind: Kind, loss: Loss, local: Option<SocketAddr>) {
        let Loss { failure, note } = loss;
        let failed = Lost { kind, failure, local, at: self.start.elapsed(), note };
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
    }

    /// Looks at all failures.
    pub(crate) fn losses<T>(&self, look: impl FnOnce(&[Lost]) -> T) -> T {
        look(&self.losses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn phase(&self) -> Phase {
        if self.is_restarting.load(Relaxed) { Phase::Restarting } else { Phase::Quiet }
    }

    const fn span(&self, phase: Phase) -> &Span {
        match phase {
            Phase::Quiet => &self.quiet,
            Phase::Restarting => &self.restarting,
        }
    }

    const fn of(&self, kind: Kind) -> &AtomicU64 {
        let [new, kept, long] = &self.answered;
        match kind {
            Kind::New => new,
            Kind::Kept => kept,
            Kind::Long => long,
        }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, failure, at, note, .. } = self;
        write!(f, "{:.3} s: {kind:?} {failure:?}: {note}", at.as_secs_f64())?;
        self.local.map_or(Ok(()), |local| write!(f, " ({local})"))
    }
}
