//! Statistics of all clients of a load.

use crate::client::{Failure, RequestError};
use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One connection for each request.
    New,
    /// Many requests on a connection, with pauses.
    KeepAlive,
    /// A request that takes long to send, or a response that takes long to read.
    Long,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::New, Self::KeepAlive, Self::Long];
}

/// Whether servers are being restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Quiet,
    Restarting,
}

/// A request that has failed.
#[derive(Debug)]
pub(crate) struct FailedRequest {
    pub(crate) kind: Kind,
    pub(crate) failure: Failure,
    /// The client's address.
    pub(crate) local: Option<SocketAddr>,
    /// The time since the start of the load.
    pub(crate) at: Duration,
    note: String,
}

/// Counters that all clients share.
#[derive(Debug)]
pub(crate) struct Stats {
    start: Instant,
    is_stopped: AtomicBool,
    is_restarting: AtomicBool,
    restarts: AtomicUsize,
    sent: AtomicU64,
    responses: [AtomicU64; 3],
    failures: Mutex<Vec<FailedRequest>>,
    /// Keep-alive connections that were closed while idle.
    pub(crate) closed: AtomicU64,
    /// Requests on keep-alive connections that were in flight when the server closed: the client retries them
    /// (RFC 9112 section 9.6), so they have not failed.
    pub(crate) crossed: AtomicU64,
    /// Long requests during which servers were restarted.
    pub(crate) spanning: AtomicU64,
    /// When a new connection received a response for the last time.
    last_ns: AtomicU64,
    quiet: Span,
    restarting: Span,
}

/// Results of new connections in one phase.
#[derive(Debug, Default)]
struct Span {
    responses: AtomicU64,
    /// The longest time between two responses.
    gap_ns: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            is_stopped: AtomicBool::new(false),
            is_restarting: AtomicBool::new(false),
            restarts: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            responses: Default::default(),
            failures: Mutex::default(),
            closed: AtomicU64::new(0),
            crossed: AtomicU64::new(0),
            spanning: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            quiet: Span::default(),
            restarting: Span::default(),
        }
    }

    /// Stops all clients after their current requests.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Relaxed)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.is_restarting.store(phase == Phase::Restarting, Relaxed);
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// The number of restarts so far.
    pub(crate) fn restarts(&self) -> usize {
        self.restarts.load(Relaxed)
    }

    /// Counts a request. Call it before sending it.
    pub(crate) fn record_request(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// The number of requests of which a part may have been sent: the server cannot have counted more.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Counts a complete and correct response.
    pub(crate) fn record_response(&self, kind: Kind) {
        if kind == Kind::New {
            let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let before_ns = self.last_ns.fetch_max(now_ns, Relaxed);
            let span = self.span(self.phase());
            span.responses.fetch_add(1, Relaxed);
            if before_ns > 0 {
                span.gap_ns.fetch_max(now_ns.saturating_sub(before_ns), Relaxed);
            }
        }
        self.of(kind).fetch_add(1, Relaxed);
    }

    /// The number of responses received: the server cannot have counted fewer.
    pub(crate) fn responses(&self) -> u64 {
        Kind::ALL.iter().map(|kind| self.responses_of(*kind)).sum()
    }

    pub(crate) fn responses_of(&self, kind: Kind) -> u64 {
        self.of(kind).load(Relaxed)
    }

    /// The number of new connections with a response in a phase.
    pub(crate) fn new_connections(&self, phase: Phase) -> u64 {
        self.span(phase).responses.load(Relaxed)
    }

    /// The longest time in a phase without a response on a new connection.
    pub(crate) fn gap(&self, phase: Phase) -> Duration {
        Duration::from_nanos(self.span(phase).gap_ns.load(Relaxed))
    }

    pub(crate) fn record_failure(
        &self,
        kind: Kind,
        error: RequestError,
        local: Option<SocketAddr>,
    ) {
        let RequestError { failure, note } = error;
        let failed = FailedRequest { kind, failure, local, at: self.start.elapsed(), note };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
    }

    /// Passes all failures to `f`.
    pub(crate) fn failures<T>(&self, f: impl FnOnce(&[FailedRequest]) -> T) -> T {
        f(&self.failures.lock().unwrap_or_else(PoisonError::into_inner))
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
        let [new, keep_alive, long] = &self.responses;
        match kind {
            Kind::New => new,
            Kind::KeepAlive => keep_alive,
            Kind::Long => long,
        }
    }
}

impl std::fmt::Display for FailedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, failure, at, note, .. } = self;
        write!(f, "{:.3} s: {kind:?} {failure:?}: {note}", at.as_secs_f64())?;
        self.local.map_or(Ok(()), |local| write!(f, " ({local})"))
    }
}
