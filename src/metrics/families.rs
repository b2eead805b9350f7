//! The table of all metrics. A row is a metric: constant, type and labels, name without `_total`, help text.
//!
//! The order of the rows is that of the exposition. Every series is exposed on every scrape, also while it is
//! zero, so that rates are right from the first request on.

use crate::{
    http::Reject,
    metrics::{
        family::{Family, Metric, kind},
        labels::{CloseReason, Executor, Handler, PauseReason, RejectReason},
        requests::RequestLabels,
    },
};

/// Defines a constant for each row, and [`FAMILIES`].
macro_rules! families {
    ($($metric:ident: $kind:ident $(by $labels:ty)?, $name:literal, $help:literal;)*) => {
        #[expect(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "the rows' numbers, by the names of the constants"
        )]
        enum Row { $($metric),* }

        $(
            #[doc = $help]
            pub const $metric: Metric<kind::$kind $(, $labels)?> =
                Metric::at(start_of(Row::$metric as usize));
        )*

        /// All families, in the order of the exposition.
        pub const FAMILIES: &[Family] =
            &[$(Metric::<kind::$kind $(, $labels)?>::family($name, $help)),*];
    };
}

families! {
    REQUESTS: Counter by RequestLabels, "fibsrv_requests",
        "Requests answered. Handler none: no route matched, or the request was refused before \
         routing; method none: refused before the method was known.";
    REQUESTS_REJECTED: Counter by Reject, "fibsrv_requests_rejected",
        "Requests refused before they reached a route, by reason. They are among the requests \
         answered, with handler none and method none.";
    REQUEST_DURATION: Histogram by Handler, "fibsrv_request_duration_seconds",
        "Time in seconds from the wake-up of the event loop that brought the request's last byte \
         until its response was ready to be written. Pipelined requests of one batch are measured \
         together.";
    REQUEST_SIZE: Summary, "fibsrv_request_size_bytes",
        "Bytes of requests as they came over the wire, head and body.";
    RESPONSE_SIZE: Summary, "fibsrv_response_size_bytes",
        "Bytes of responses as they go over the wire, head and body.";
    CONNECTIONS: Gauge, "fibsrv_connections", "Connections open now.";
    // Not fibsrv_connections_total: OpenMetrics names the family of a counter without _total, and the gauge
    // has that name already.
    CONNECTIONS_ACCEPTED: Counter, "fibsrv_connections_accepted", "Connections accepted.";
    CONNECTIONS_CLOSED: Counter by CloseReason, "fibsrv_connections_closed",
        "Connections closed by the server because something did not happen in time, or to make \
         room for new ones (evicted), by reason.";
    ACCEPT_PAUSES: Counter by PauseReason, "fibsrv_accept_pauses",
        "Pauses in accepting, which leave new connections waiting in the kernel: all places were \
         taken (full), or the system had no descriptor or memory left (error).";
    CONNECTION_YIELDS: Counter, "fibsrv_connection_yields",
        "Turns that ended with more to do for the same connection, so that others had theirs.";
    COMPUTATIONS: Counter by Executor, "fibsrv_computations",
        "Numbers computed: by the compute thread, or at once by the event loop.";
    COMPUTATION_DURATION: Histogram, "fibsrv_computation_duration_seconds",
        "Time in seconds that the compute thread took for a number, its wait in the queue not \
         included.";
    COMPUTATION_FALLBACKS: Counter, "fibsrv_computation_fallbacks",
        "Numbers whose fast computation failed its check and that were computed the plain way.";
    COMPUTATIONS_REJECTED: Counter by RejectReason, "fibsrv_computations_rejected",
        "Requests refused with 503, by reason: too many numbers under way (queue), the numbers \
         being sent take all the memory (memory), no thread to be had (thread).";
    COMPUTE_QUEUE_LENGTH: Gauge, "fibsrv_compute_queue_length",
        "Numbers being computed, or waiting for it.";
    CACHE_HITS: Counter, "fibsrv_cache_hits",
        "Requests answered with a number that was computed before.";
    CACHE_MISSES: Counter, "fibsrv_cache_misses",
        "Requests for a number that had not been computed, or not been kept.";
    CACHE_BYTES: Gauge, "fibsrv_cache_bytes",
        "Bytes of numbers that are kept, or reserved for those being computed.";
    ACCESS_LOG_DROPPED: Counter, "fibsrv_access_log_dropped",
        "Lines of the access log that were dropped, because they were not taken at once.";
    WORKERS: Gauge, "fibsrv_workers", "Worker processes alive now.";
    WORKER_RESTARTS: Counter, "fibsrv_worker_restarts",
        "Worker processes replaced after they died.";
    // Known to the process that is scraped only, and not counted in a slot.
    METRICS_SHARED: Gauge, "fibsrv_metrics_shared",
        "1 if these metrics are the sum over all workers on the port, 0 if each counts for itself.";
    BUILD_INFO: Info, "fibsrv_build_info",
        "Always 1; the labels name the version, the source revision and the compiler.";
    PROCESS_CPU: Duration, "process_cpu_seconds",
        "Processor time, user and system, in seconds, of all workers that live or have lived. Each \
         worker tells its own at most once a second, when it is awake; what one has used since, and \
         dies, is lost.";
    PROCESS_OPEN_FDS: Gauge, "process_open_fds",
        "Open file descriptors, of all workers together.";
    PROCESS_MAX_FDS: Gauge, "process_max_fds",
        "Limits of open file descriptors, of all workers together.";
    PROCESS_VIRTUAL_MEMORY: Gauge, "process_virtual_memory_bytes",
        "Sizes of the address spaces in bytes, of all workers together.";
    PROCESS_RESIDENT_MEMORY: Gauge, "process_resident_memory_bytes",
        "Memory held in RAM in bytes, of all workers together; what they share counts for each.";
    PROCESS_START_TIME: Earliest, "process_start_time_seconds",
        "When the oldest living worker started, in seconds since 1970-01-01 UTC.";
}

/// The number of cells of all families: the length of a slot and of a snapshot.
pub(super) const CELLS: usize = start_of(FAMILIES.len());

/// The place of the first cell of a row.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn start_of(row: usize) -> usize {
    let (mut start, mut before) = (0, 0);
    while before < row {
        start += FAMILIES[before].cells;
        before += 1;
    }
    start
}
