//! The table of all metrics. A row is a metric: constant, type and labels, name without `_total`, help text.
//!
//! The order of the rows is that of the exposition. Every series is exposed on every scrape, also while it is
//! zero, so that rates are right from the first request on.

use crate::{
    http::Reject,
    metrics::{
        family::{Family, Metric, kind},
        labels::{CloseReason, Executor, Handler, PauseReason, RejectReason, ResponseForm},
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
        "Requests by handler, method and status code. Handler none: no route matched, or the \
         request was rejected before routing; method none: rejected before routing.";
    REQUESTS_REJECTED: Counter by Reject, "fibsrv_requests_rejected",
        "Requests rejected before routing, by reason. They are also counted as requests, with \
         handler none and method none.";
    REQUEST_DURATION: Histogram by Handler, "fibsrv_request_duration_seconds",
        "Time in seconds from the wake-up of the event loop that received the last byte of the \
         request until its response is ready to be sent. Pipelined requests of one batch are \
         measured together.";
    REQUEST_SIZE: Summary, "fibsrv_request_size_bytes",
        "Size in bytes of requests as received, head and body.";
    RESPONSE_SIZE: Summary, "fibsrv_response_size_bytes",
        "Size in bytes of responses as sent, head and body.";
    RESPONSE_FORMS: Counter by ResponseForm, "fibsrv_response_forms",
        "Responses in another form than plain text, by form: numbers in JSON, coded with gzip, or a \
         range of the digits; errors as problem details.";
    CONNECTIONS: Gauge, "fibsrv_connections", "Open connections.";
    // Not fibsrv_connections_total: OpenMetrics names the family of a counter without _total, and the gauge
    // has that name already.
    CONNECTIONS_ACCEPTED: Counter, "fibsrv_connections_accepted", "Connections accepted.";
    CONNECTIONS_CLOSED: Counter by CloseReason, "fibsrv_connections_closed",
        "Connections closed by the server after a timeout or to make room for new ones (evicted), \
         by reason.";
    ACCEPT_PAUSES: Counter by PauseReason, "fibsrv_accept_pauses",
        "Pauses in accepting, which leave new connections waiting in the kernel, by reason: \
         connection limit reached (full), or no descriptor or memory available (error).";
    CONNECTION_YIELDS: Counter, "fibsrv_connection_yields",
        "Turns of a connection that ended with more requests to serve, so that other connections \
         have theirs.";
    COMPUTATIONS: Counter by Executor, "fibsrv_computations",
        "Numbers computed, by executor: the compute thread, or the event loop for small ones.";
    COMPUTATION_DURATION: Histogram, "fibsrv_computation_duration_seconds",
        "Time in seconds that the compute thread took for a number, without the time in the queue.";
    COMPUTATION_FALLBACKS: Counter, "fibsrv_computation_fallbacks",
        "Numbers that failed verification and were computed again by a slower method.";
    COMPUTATIONS_REJECTED: Counter by RejectReason, "fibsrv_computations_rejected",
        "Requests rejected with 503, by reason: too many computations (queue), numbers being sent \
         use all the memory (memory), or no compute thread (thread).";
    COMPUTE_QUEUE_LENGTH: Gauge, "fibsrv_compute_queue_length",
        "Numbers queued or being computed, or coded with gzip.";
    GZIP_CODINGS: Counter by Executor, "fibsrv_gzip_codings",
        "Numbers coded with gzip, by executor: the compute thread, or the event loop for small ones. \
         The result is cached.";
    CACHE_HITS: Counter, "fibsrv_cache_hits",
        "Requests for a number beyond the table that was cached.";
    CACHE_MISSES: Counter, "fibsrv_cache_misses",
        "Requests for a number beyond the table that was not cached.";
    CACHE_BYTES: Gauge, "fibsrv_cache_bytes",
        "Bytes of numbers, also in the gzip format, that are cached, or reserved for those being \
         computed.";
    ACCESS_LOG_DROPPED: Counter, "fibsrv_access_log_dropped",
        "Access log lines dropped because the destination did not accept them at once.";
    WORKERS: Gauge, "fibsrv_workers", "Running worker processes.";
    WORKER_RESTARTS: Counter, "fibsrv_worker_restarts",
        "Worker processes replaced after an unexpected exit.";
    // Known to the process that is scraped only, and not counted in a slot.
    METRICS_SHARED: Gauge, "fibsrv_metrics_shared",
        "1 if these metrics are the sum over all workers on the port, 0 if they are those of one \
         worker.";
    BUILD_INFO: Info, "fibsrv_build_info",
        "Always 1; the labels are the version, the source revision and the compiler.";
    PROCESS_CPU: Duration, "process_cpu_seconds",
        "CPU time, user and system, in seconds, of all workers, also those that have exited. A \
         worker records it at most once a second, while it is awake; what it has used since then \
         is lost if it is killed.";
    PROCESS_OPEN_FDS: Gauge, "process_open_fds",
        "Open file descriptors, summed over all workers.";
    PROCESS_MAX_FDS: Gauge, "process_max_fds",
        "Limits on open file descriptors, summed over all workers.";
    PROCESS_VIRTUAL_MEMORY: Gauge, "process_virtual_memory_bytes",
        "Virtual memory size in bytes, summed over all workers.";
    PROCESS_RESIDENT_MEMORY: Gauge, "process_resident_memory_bytes",
        "Resident memory size in bytes, summed over all workers; shared pages count for each.";
    PROCESS_START_TIME: Earliest, "process_start_time_seconds",
        "Start time of the oldest running worker, in seconds since 1970-01-01 UTC.";
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
