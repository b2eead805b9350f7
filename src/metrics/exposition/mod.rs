//! Which metrics are exposed, under which names, and what they mean.
//!
//! Every series is written on every scrape, also while it is zero, so that rates are right from the first
//! request on. How a sample is spelled is the business of `text`.

use crate::http::Reject;

use crate::metrics::{
    Build, Format, Handler, Process, SizeTotals, Snapshot,
    computations::{ComputationTotals, Computations},
    connections::{AcceptPauses, ConnectionsClosed},
    durations::{BUCKETS, DurationTotals},
    requests::SERIES,
    text::{Family, Kind, Labels, Value, Writer},
};

/// Appends the exposition to `out`. When no worker knows what the system counts for it (no `/proc`) those
/// families are left out: a guess would be worse than a gap.
pub fn render(out: &mut Vec<u8>, format: Format, snapshot: &Snapshot, build: &Build) {
    let mut writer = Writer::new(out, format);
    write_requests(&mut writer, &snapshot.requests);
    write_refusals(&mut writer, snapshot);
    write_durations(&mut writer, &snapshot.request_durations);
    write_sizes(&mut writer, snapshot);
    write_connections(&mut writer, snapshot);
    write_computations(&mut writer, &snapshot.computations);
    write_counter(
        &mut writer,
        "fibsrv_access_log_dropped",
        "Lines of the access log that were dropped, because they were not taken at once.",
        snapshot.access_log_dropped,
    );
    write_workers(&mut writer, snapshot);
    write_build(&mut writer, build);
    if snapshot.process.start_time_ns > 0 {
        write_process(&mut writer, &snapshot.process);
    }
    writer.finish();
}

fn write_requests(writer: &mut Writer<'_>, requests: &[u64; SERIES.len()]) {
    let mut family = writer.family(
        Kind::Counter,
        "fibsrv_requests",
        "Requests answered. Handler none: no route matched, or the request was refused before \
         routing; method none: refused before the method was known.",
    );
    for (series, count) in SERIES.iter().zip(requests) {
        let labels = [
            ("handler", series.handler.as_str()),
            ("method", series.method_label()),
            ("code", series.code_label()),
        ];
        family.sample(&labels, Value::Count(*count));
    }
}

fn write_durations(writer: &mut Writer<'_>, by_handler: &[DurationTotals; Handler::ALL.len()]) {
    let mut family = writer.family(
        Kind::Histogram,
        "fibsrv_request_duration_seconds",
        "Time in seconds from the wake-up of the event loop that brought the request's last byte \
         until its response was ready to be written. Pipelined requests of one batch are measured \
         together.",
    );
    for (handler, totals) in Handler::ALL.iter().zip(by_handler) {
        write_histogram(&mut family, Some(("handler", handler.as_str())), totals);
    }
}

fn write_histogram(
    family: &mut Family<'_>,
    label: Option<(&'static str, &'static str)>,
    totals: &DurationTotals,
) {
    let labels = label.as_slice();
    let mut cumulative = 0;
    for (bucket, count) in BUCKETS.iter().zip(&totals.buckets) {
        cumulative = u64::wrapping_add(cumulative, *count);
        let le = ("le", bucket.le);
        match label {
            Some(label) => family.part("_bucket", &[label, le], Value::Count(cumulative)),
            None => family.part("_bucket", &[le], Value::Count(cumulative)),
        }
    }
    family.part("_sum", labels, Value::Nanoseconds(totals.sum_ns));
    family.part("_count", labels, Value::Count(cumulative));
}

fn write_computations(writer: &mut Writer<'_>, totals: &ComputationTotals) {
    let mut family = writer.family(
        Kind::Counter,
        "fibsrv_computations",
        "Numbers computed: by the compute thread, or at once by the event loop.",
    );
    family.sample(&[("executor", "thread")], Value::Count(totals.by_thread));
    family.sample(&[("executor", "loop")], Value::Count(totals.by_loop));
    let mut family = writer.family(
        Kind::Histogram,
        "fibsrv_computation_duration_seconds",
        "Time in seconds that the compute thread took for a number, its wait in the queue not \
         included.",
    );
    write_histogram(&mut family, None, &totals.durations);
    write_counter(
        writer,
        "fibsrv_computation_fallbacks",
        "Numbers whose fast computation failed its check and that were computed the plain way.",
        totals.fallbacks,
    );
    write_reasons(
        writer,
        "fibsrv_computations_rejected",
        "Requests refused with 503, by reason: too many numbers under way (queue), the numbers \
         being sent take all the memory (memory), no thread to be had (thread).",
        &Computations::REJECTIONS,
        &totals.rejected,
    );
    write_gauge(
        writer,
        "fibsrv_compute_queue_length",
        "Numbers being computed, or waiting for it.",
        totals.queued,
    );
    write_counter(
        writer,
        "fibsrv_cache_hits",
        "Requests answered with a number that was computed before.",
        totals.cache_hits,
    );
    write_counter(
        writer,
        "fibsrv_cache_misses",
        "Requests for a number that had not been computed, or not been kept.",
        totals.cache_misses,
    );
    write_gauge(
        writer,
        "fibsrv_cache_bytes",
        "Bytes of numbers that are kept, or reserved for those being computed.",
        totals.cache_bytes,
    );
}

fn write_sizes(writer: &mut Writer<'_>, snapshot: &Snapshot) {
    let mut write = |name, help, totals: &SizeTotals| {
        let mut family = writer.family(Kind::Summary, name, help);
        family.part("_sum", NO_LABELS, Value::Count(totals.bytes));
        family.part("_count", NO_LABELS, Value::Count(totals.count));
    };
    write(
        "fibsrv_request_size_bytes",
        "Bytes of requests as they came over the wire, head and body.",
        &snapshot.request_sizes,
    );
    write(
        "fibsrv_response_size_bytes",
        "Bytes of responses as they go over the wire, head and body.",
        &snapshot.response_sizes,
    );
}

fn write_refusals(writer: &mut Writer<'_>, snapshot: &Snapshot) {
    write_reasons(
        writer,
        "fibsrv_requests_rejected",
        "Requests refused before they reached a route, by reason. They are among the requests \
         answered, with handler none and method none.",
        &Reject::ALL.map(Reject::as_str),
        &snapshot.rejections,
    );
}

/// Connections, and what this server did to them of its own accord.
fn write_connections(writer: &mut Writer<'_>, snapshot: &Snapshot) {
    write_gauge(writer, "fibsrv_connections", "Connections open now.", snapshot.connections);
    // Not fibsrv_connections_total: in OpenMetrics a counter's family is named without _total, and the
    // gauge has that name already.
    write_counter(
        writer,
        "fibsrv_connections_accepted",
        "Connections accepted.",
        snapshot.connections_accepted,
    );
    write_reasons(
        writer,
        "fibsrv_connections_closed",
        "Connections closed by the server because something did not happen in time, or to make \
         room for new ones (evicted), by reason.",
        &ConnectionsClosed::REASONS,
        &snapshot.connections_closed,
    );
    write_reasons(
        writer,
        "fibsrv_accept_pauses",
        "Pauses in accepting, which leave new connections waiting in the kernel: all places were \
         taken (full), or the system had no descriptor or memory left (error).",
        &AcceptPauses::REASONS,
        &snapshot.accept_pauses,
    );
    write_counter(
        writer,
        "fibsrv_connection_yields",
        "Turns that ended with more to do for the same connection, so that others had theirs.",
        snapshot.connection_yields,
    );
}

fn write_workers(writer: &mut Writer<'_>, snapshot: &Snapshot) {
    write_gauge(writer, "fibsrv_workers", "Worker processes alive now.", snapshot.workers);
    write_counter(
        writer,
        "fibsrv_worker_restarts",
        "Worker processes replaced after they died.",
        snapshot.worker_restarts,
    );
    write_gauge(
        writer,
        "fibsrv_metrics_shared",
        "1 if these metrics are the sum over all workers on the port, 0 if each counts for itself.",
        u64::from(snapshot.is_shared),
    );
}

fn write_build(writer: &mut Writer<'_>, build: &Build) {
    let labels = [("version", build.version), ("revision", build.revision), ("rustc", build.rustc)];
    writer
        .family(
            Kind::Gauge,
            "fibsrv_build_info",
            "Always 1; the labels name the version, the source revision and the compiler.",
        )
        .sample(&labels, Value::Count(1));
}

/// The standard process metrics, of all workers together.
fn write_process(writer: &mut Writer<'_>, process: &Process) {
    writer
        .family(
            Kind::Counter,
            "process_cpu_seconds",
            "Processor time, user and system, in seconds, of all workers that live or have lived. Each \
             worker tells its own at most once a second, when it is awake; what one has used since, and \
             dies, is lost.",
        )
        .sample(NO_LABELS, Value::Nanoseconds(process.cpu_time_ns));
    write_gauge(
        writer,
        "process_open_fds",
        "Open file descriptors, of all workers together.",
        process.open_fds,
    );
    write_gauge(
        writer,
        "process_max_fds",
        "Limits of open file descriptors, of all workers together.",
        process.max_fds,
    );
    write_gauge(
        writer,
        "process_virtual_memory_bytes",
        "Sizes of the address spaces in bytes, of all workers together.",
        process.virtual_memory_bytes,
    );
    write_gauge(
        writer,
        "process_resident_memory_bytes",
        "Memory held in RAM in bytes, of all workers together; what they share counts for each.",
        process.resident_memory_bytes,
    );
    writer
        .family(
            Kind::Gauge,
            "process_start_time_seconds",
            "When the oldest living worker started, in seconds since 1970-01-01 UTC.",
        )
        .sample(NO_LABELS, Value::Nanoseconds(process.start_time_ns));
}

const NO_LABELS: &Labels<'static> = &[];

fn write_reasons(
    writer: &mut Writer<'_>,
    name: &'static str,
    help: &str,
    reasons: &[&'static str],
    counts: &[u64],
) {
    let mut family = writer.family(Kind::Counter, name, help);
    for (reason, count) in reasons.iter().zip(counts) {
        family.sample(&[("reason", reason)], Value::Count(*count));
    }
}

fn write_counter(writer: &mut Writer<'_>, name: &'static str, help: &str, count: u64) {
    writer.family(Kind::Counter, name, help).sample(NO_LABELS, Value::Count(count));
}

fn write_gauge(writer: &mut Writer<'_>, name: &'static str, help: &str, value: u64) {
    writer.family(Kind::Gauge, name, help).sample(NO_LABELS, Value::Count(value));
}

#[cfg(test)]
mod tests;
