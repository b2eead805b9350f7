//! The exposition read back by a parser that is not ours.

use super::*;
use crate::metrics::Slot;
use nom_openmetrics::{MetricDescriptor, parser};
use std::collections::BTreeMap;

const FORMATS: [Format; 2] = [Format::Text, Format::OpenMetrics];
const BUILD: Build =
    Build { version: "1.2.3", revision: "a\"b\\c", rustc: "rustc 1.95.0 (59807616e 2026-04-14)" };
const PROCESS: Process = Process {
    cpu_time_ns: 12_340_000_000,
    open_fds: 17,
    max_fds: 1_048_576,
    virtual_memory_bytes: 123_456_789,
    resident_memory_bytes: 9_876_543,
    start_time_ns: 1_763_929_999_120_000_000,
};

/// Samples by name and labels, and the families' types by name; the names are unique.
type Parsed = (BTreeMap<String, f64>, BTreeMap<String, String>);

/// Reads an exposition with the independent parser.
fn parse(format: Format, text: &str) -> Parsed {
    let parsed = match format {
        Format::Text => parser::prometheus(text),
        Format::OpenMetrics => parser::openmetrics(text),
    };
    let (rest, families) = parsed.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(rest, "");
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    for family in &families {
        for sample in &family.samples {
            let labels: Vec<String> = sample
                .labels()
                .iter()
                .map(|label| format!("{}={}", label.name, label.value))
                .collect();
            let key = format!("{} {}", sample.name(), labels.join(" "));
            assert_eq!(samples.insert(key.clone(), sample.number()), None, "{key} twice");
        }
        for descriptor in &family.descriptors {
            if let MetricDescriptor::Type { metric, r#type } = descriptor {
                let previous =
                    types.insert((*metric).to_owned(), r#type.to_string().to_lowercase());
                assert_eq!(previous, None, "{metric} twice");
            }
        }
    }
    (samples, types)
}

fn rendered(format: Format, snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    render(&mut out, format, snapshot, &BUILD);
    String::from_utf8(out).unwrap()
}

/// A snapshot in which every number is another one.
fn full() -> Snapshot {
    let mut next = 0;
    let mut number = || {
        next += 7;
        next
    };
    let mut snapshot = Snapshot::empty();
    snapshot.requests.fill_with(&mut number);
    for totals in &mut snapshot.request_durations {
        totals.buckets.fill_with(&mut number);
        totals.sum_ns = number() * 1_000_001;
    }
    snapshot.request_sizes = SizeTotals { bytes: number(), count: number() };
    snapshot.response_sizes = SizeTotals { bytes: number(), count: number() };
    snapshot.connections = number();
    snapshot.connections_accepted = number();
    snapshot.workers = number();
    snapshot.worker_restarts = number();
    snapshot.rejections.fill_with(&mut number);
    snapshot.connections_closed.fill_with(&mut number);
    snapshot.accept_pauses.fill_with(&mut number);
    snapshot.connection_yields = number();
    snapshot.access_log_dropped = number();
    let computations = &mut snapshot.computations;
    computations.by_thread = number();
    computations.by_loop = number();
    computations.durations.buckets.fill_with(&mut number);
    computations.durations.sum_ns = number() * 1_000_001;
    computations.fallbacks = number();
    computations.rejected.fill_with(&mut number);
    computations.queued = number();
    computations.cache_hits = number();
    computations.cache_misses = number();
    computations.cache_bytes = number();
    snapshot.process = PROCESS;
    snapshot.is_shared = true;
    snapshot
}

/// The numbers of these tests are small enough for a lossless conversion.
fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// What it must find about the process that is [`PROCESS`].
fn expected_process() -> impl Iterator<Item = (String, f64)> {
    let samples = [
        ("cpu_seconds_total", 12.34),
        ("open_fds", 17.0),
        ("max_fds", 1_048_576.0),
        ("virtual_memory_bytes", 123_456_789.0),
        ("resident_memory_bytes", 9_876_543.0),
        ("start_time_seconds", 1_763_929_999.12),
    ];
    samples.into_iter().map(|(name, value)| (format!("process_{name} "), value))
}

/// What the parser must find, stated independently of the code above.
fn expected(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut expect = |key: String, value: f64| assert_eq!(samples.insert(key, value), None);
    for (series, count) in SERIES.iter().zip(snapshot.requests) {
        let (handler, method) = (series.handler.as_str(), series.method_label());
        let code = series.code_label();
        expect(
            format!("fibsrv_requests_total handler={handler} method={method} code={code}"),
            float(count),
        );
    }
    for (handler, totals) in Handler::ALL.iter().zip(&snapshot.request_durations) {
        let (name, handler) = ("fibsrv_request_duration_seconds", handler.as_str());
        for (place, bucket) in BUCKETS.iter().enumerate() {
            let cumulative: u64 = totals.buckets.iter().take(place + 1).sum();
            expect(format!("{name}_bucket handler={handler} le={}", bucket.le), float(cumulative));
        }
        expect(format!("{name}_sum handler={handler}"), float(totals.sum_ns) / 1e9);
        expect(format!("{name}_count handler={handler}"), float(totals.count()));
    }
    let computations = &snapshot.computations;
    let name = "fibsrv_computation_duration_seconds";
    for (place, bucket) in BUCKETS.iter().enumerate() {
        let cumulative: u64 = computations.durations.buckets.iter().take(place + 1).sum();
        expect(format!("{name}_bucket le={}", bucket.le), float(cumulative));
    }
    expect(format!("{name}_sum "), float(computations.durations.sum_ns) / 1e9);
    expect(format!("{name}_count "), float(computations.durations.count()));
    expect("fibsrv_computations_total executor=thread".to_owned(), float(computations.by_thread));
    expect("fibsrv_computations_total executor=loop".to_owned(), float(computations.by_loop));
    let rejections = Reject::ALL.map(Reject::as_str);
    for (name, reasons, counts) in [
        ("requests_rejected", &rejections[..], &snapshot.rejections[..]),
        ("connections_closed", &ConnectionsClosed::REASONS, &snapshot.connections_closed),
        ("accept_pauses", &AcceptPauses::REASONS, &snapshot.accept_pauses),
        ("computations_rejected", &Computations::REJECTIONS, &computations.rejected),
    ] {
        for (reason, count) in reasons.iter().zip(counts) {
            expect(format!("fibsrv_{name}_total reason={reason}"), float(*count));
        }
    }
    let build = "fibsrv_build_info version=1.2.3 revision=a\"b\\c \
                 rustc=rustc 1.95.0 (59807616e 2026-04-14)";
    expect(build.to_owned(), 1.0);
    for (name, value) in [
        ("fibsrv_request_size_bytes_sum", float(snapshot.request_sizes.bytes)),
        ("fibsrv_request_size_bytes_count", float(snapshot.request_sizes.count)),
        ("fibsrv_response_size_bytes_sum", float(snapshot.response_sizes.bytes)),
        ("fibsrv_response_size_bytes_count", float(snapshot.response_sizes.count)),
        ("fibsrv_connections", float(snapshot.connections)),
        ("fibsrv_connections_accepted_total", float(snapshot.connections_accepted)),
        ("fibsrv_workers", float(snapshot.workers)),
        ("fibsrv_worker_restarts_total", float(snapshot.worker_restarts)),
        ("fibsrv_computation_fallbacks_total", float(computations.fallbacks)),
        ("fibsrv_compute_queue_length", float(computations.queued)),
        ("fibsrv_cache_hits_total", float(computations.cache_hits)),
        ("fibsrv_cache_misses_total", float(computations.cache_misses)),
        ("fibsrv_cache_bytes", float(computations.cache_bytes)),
        ("fibsrv_connection_yields_total", float(snapshot.connection_yields)),
        ("fibsrv_access_log_dropped_total", float(snapshot.access_log_dropped)),
        ("fibsrv_metrics_shared", f64::from(snapshot.is_shared)),
    ] {
        expect(format!("{name} "), value);
    }
    if snapshot.process == PROCESS {
        samples.extend(expected_process());
    }
    samples
}

#[test]
fn every_sample_says_what_the_snapshot_says() {
    for format in FORMATS {
        for snapshot in [Snapshot::empty(), Snapshot::of([Slot::new()].iter()), full()] {
            let (samples, _) = parse(format, &rendered(format, &snapshot));
            assert_eq!(samples, expected(&snapshot));
        }
    }
}

#[test]
fn every_family_has_its_type() {
    let expected = [
        ("counter", "fibsrv_requests fibsrv_connections_accepted fibsrv_worker_restarts"),
        ("counter", "process_cpu_seconds fibsrv_requests_rejected fibsrv_connections_closed"),
        ("counter", "fibsrv_accept_pauses fibsrv_connection_yields fibsrv_computations"),
        ("counter", "fibsrv_access_log_dropped"),
        ("counter", "fibsrv_computation_fallbacks fibsrv_computations_rejected"),
        ("counter", "fibsrv_cache_hits fibsrv_cache_misses"),
        ("gauge", "fibsrv_compute_queue_length fibsrv_cache_bytes"),
        ("histogram", "fibsrv_computation_duration_seconds"),
        ("gauge", "fibsrv_connections fibsrv_workers fibsrv_metrics_shared fibsrv_build_info"),
        ("gauge", "process_open_fds process_max_fds process_start_time_seconds"),
        ("gauge", "process_virtual_memory_bytes process_resident_memory_bytes"),
        ("histogram", "fibsrv_request_duration_seconds"),
        ("summary", "fibsrv_request_size_bytes fibsrv_response_size_bytes"),
    ];
    for format in FORMATS {
        let mut expected_types = BTreeMap::new();
        for (kind, names) in expected {
            let is_suffixed = kind == "counter" && format == Format::Text;
            let suffix = if is_suffixed { "_total" } else { "" };
            for name in names.split(' ') {
                expected_types.insert(format!("{name}{suffix}"), kind.to_owned());
            }
        }
        assert_eq!(parse(format, &rendered(format, &full())).1, expected_types);
    }
}

#[test]
fn help_needs_no_escaping() {
    let text = rendered(Format::Text, &full());
    for help in text.lines().filter(|line| line.starts_with("# HELP")) {
        assert!(!help.contains(['\\', '"']) && help.ends_with('.'), "{help}");
    }
}

#[test]
fn buckets_never_fall_and_the_last_is_the_count() {
    let (samples, _) = parse(Format::Text, &rendered(Format::Text, &full()));
    for handler in Handler::ALL.map(Handler::as_str) {
        let name = "fibsrv_request_duration_seconds";
        let buckets: Vec<f64> = BUCKETS
            .iter()
            .map(|bucket| samples[&format!("{name}_bucket handler={handler} le={}", bucket.le)])
            .collect();
        assert!(buckets.is_sorted());
        assert_eq!(buckets.last(), samples.get(&format!("{name}_count handler={handler}")));
    }
}

#[test]
fn without_proc_the_rest_is_still_there() {
    let mut out = Vec::new();
    render(&mut out, Format::Text, &Snapshot::empty(), &BUILD);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("fibsrv_workers 0\n") && !text.contains("process_"));
}
