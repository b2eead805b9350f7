//! The exposition read by an independent parser.

use super::*;
use crate::{
    http::{Method, Reject},
    metrics::{self, CloseReason, Handler, Process, RequestLabels, ResponseForm, Slot},
};
use nom_openmetrics::{MetricDescriptor, parser};
use std::collections::BTreeMap;

const FORMATS: [ExpositionFormat; 2] = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics];
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
fn parse(format: ExpositionFormat, text: &str) -> Parsed {
    let parsed = match format {
        ExpositionFormat::Text => parser::prometheus(text),
        ExpositionFormat::OpenMetrics => parser::openmetrics(text),
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

fn rendered(format: ExpositionFormat, snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    render(&mut out, format, snapshot, &BUILD);
    String::from_utf8(out).unwrap()
}

/// A snapshot of shared memory in which all numbers differ.
fn full() -> Snapshot {
    let mut snapshot = Snapshot::with_different_values();
    snapshot.set(metrics::METRICS_SHARED, 1);
    snapshot
}

/// A snapshot of one process that has recorded [`PROCESS`].
fn with_process() -> Snapshot {
    let slot = Slot::new();
    slot.record_process(&PROCESS, 0);
    Snapshot::of([&slot].into_iter())
}

/// The numbers of these tests are small enough for a lossless conversion.
fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// The samples about the process: name, and value as the snapshot has it or as [`PROCESS`] makes it.
fn expected_process(snapshot: &Snapshot) -> [(&'static str, f64); 6] {
    if snapshot.get(PROCESS_START_TIME) == PROCESS.start_time_ns {
        return [
            ("cpu_seconds_total", 12.34),
            ("open_fds", 17.0),
            ("max_fds", 1_048_576.0),
            ("virtual_memory_bytes", 123_456_789.0),
            ("resident_memory_bytes", 9_876_543.0),
            ("start_time_seconds", 1_763_929_999.12),
        ];
    }
    [
        ("cpu_seconds_total", float(snapshot.get(metrics::PROCESS_CPU)) / 1e9),
        ("open_fds", float(snapshot.get(metrics::PROCESS_OPEN_FDS))),
        ("max_fds", float(snapshot.get(metrics::PROCESS_MAX_FDS))),
        ("virtual_memory_bytes", float(snapshot.get(metrics::PROCESS_VIRTUAL_MEMORY))),
        ("resident_memory_bytes", float(snapshot.get(metrics::PROCESS_RESIDENT_MEMORY))),
        ("start_time_seconds", float(snapshot.get(PROCESS_START_TIME)) / 1e9),
    ]
}

/// Adds the samples of one histogram.
fn expect_histogram(
    expect: &mut impl FnMut(String, f64),
    (name, labels): (&str, &str),
    cells: &[u64],
) {
    let (sum_ns, buckets) = cells.split_last().unwrap();
    let mut cumulative = 0;
    for (bucket, count) in BUCKETS.iter().zip(buckets) {
        cumulative += count;
        let labels = format!("{labels} le={}", bucket.le);
        expect(format!("{name}_bucket {}", labels.trim_start()), float(cumulative));
    }
    expect(format!("{name}_sum {labels}"), float(*sum_ns) / 1e9);
    expect(format!("{name}_count {labels}"), float(cumulative));
}

/// Adds the samples of counters and gauges without labels.
fn expect_singles(expect: &mut impl FnMut(String, f64), snapshot: &Snapshot) {
    for (name, counter) in [
        ("connections_accepted", metrics::CONNECTIONS_ACCEPTED),
        ("worker_restarts", metrics::WORKER_RESTARTS),
        ("computation_fallbacks", metrics::COMPUTATION_FALLBACKS),
        ("cache_hits", metrics::CACHE_HITS),
        ("cache_misses", metrics::CACHE_MISSES),
        ("connection_yields", metrics::CONNECTION_YIELDS),
        ("access_log_dropped", metrics::ACCESS_LOG_DROPPED),
    ] {
        expect(format!("fibsrv_{name}_total "), float(snapshot.get(counter)));
    }
    for (name, gauge) in [
        ("connections", metrics::CONNECTIONS),
        ("workers", metrics::WORKERS),
        ("compute_queue_length", metrics::COMPUTE_QUEUE_LENGTH),
        ("cache_bytes", metrics::CACHE_BYTES),
        ("metrics_shared", metrics::METRICS_SHARED),
    ] {
        expect(format!("fibsrv_{name} "), float(snapshot.get(gauge)));
    }
}

/// What the parser must find, stated independently of the table.
fn expected(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut expect = |key: String, value: f64| assert_eq!(samples.insert(key, value), None);
    for labels in RequestLabels::all() {
        let (handler, code) = (labels.handler.as_str(), labels.status.code());
        let method = labels.method.map_or("none", Method::as_str);
        expect(
            format!("fibsrv_requests_total handler={handler} method={method} code={code}"),
            float(snapshot.get(metrics::REQUESTS.with(labels))),
        );
    }
    let other = "fibsrv_requests_total handler=none method=none code=other";
    expect(other.to_owned(), float(*snapshot.values(metrics::REQUESTS).last().unwrap()));
    for handler in Handler::ALL {
        let cells = snapshot.values(metrics::REQUEST_DURATION.with(handler));
        let labels = format!("handler={}", handler.as_str());
        expect_histogram(&mut expect, ("fibsrv_request_duration_seconds", &labels), cells);
    }
    let cells = snapshot.values(metrics::COMPUTATION_DURATION);
    expect_histogram(&mut expect, ("fibsrv_computation_duration_seconds", ""), cells);
    for (name, counts) in [
        ("computations", snapshot.values(metrics::COMPUTATIONS)),
        ("gzip_codings", snapshot.values(metrics::GZIP_CODINGS)),
    ] {
        for (executor, count) in ["thread", "loop"].iter().zip(counts) {
            expect(format!("fibsrv_{name}_total executor={executor}"), float(*count));
        }
    }
    for (form, count) in ResponseForm::ALL.iter().zip(snapshot.values(metrics::RESPONSE_FORMS)) {
        expect(format!("fibsrv_response_forms_total form={}", form.as_str()), float(*count));
    }
    let rejections = Reject::ALL.map(Reject::as_str);
    let closings = CloseReason::ALL.map(CloseReason::as_str);
    for (name, reasons, counts) in [
        ("requests_rejected", &rejections[..], snapshot.values(metrics::REQUESTS_REJECTED)),
        ("connections_closed", &closings, snapshot.values(metrics::CONNECTIONS_CLOSED)),
        ("accept_pauses", &["full", "error"], snapshot.values(metrics::ACCEPT_PAUSES)),
        (
            "computations_rejected",
            &["queue", "memory", "thread"],
            snapshot.values(metrics::COMPUTATIONS_REJECTED),
        ),
    ] {
        for (reason, count) in reasons.iter().zip(counts) {
            expect(format!("fibsrv_{name}_total reason={reason}"), float(*count));
        }
    }
    let build = "fibsrv_build_info version=1.2.3 revision=a\"b\\c \
                 rustc=rustc 1.95.0 (59807616e 2026-04-14)";
    expect(build.to_owned(), 1.0);
    expect_singles(&mut expect, snapshot);
    for (name, summary) in
        [("request", metrics::REQUEST_SIZE), ("response", metrics::RESPONSE_SIZE)]
    {
        for (part, value) in ["sum", "count"].iter().zip(snapshot.values(summary)) {
            expect(format!("fibsrv_{name}_size_bytes_{part} "), float(*value));
        }
    }
    if snapshot.get(PROCESS_START_TIME) > 0 {
        for (name, value) in expected_process(snapshot) {
            expect(format!("process_{name} "), value);
        }
    }
    samples
}

#[test]
fn every_sample_has_the_value_of_the_snapshot() {
    for format in FORMATS {
        for snapshot in [Snapshot::empty(), with_process(), full()] {
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
        ("counter", "fibsrv_access_log_dropped fibsrv_response_forms"),
        ("counter", "fibsrv_computation_fallbacks fibsrv_computations_rejected"),
        ("counter", "fibsrv_gzip_codings fibsrv_cache_hits fibsrv_cache_misses"),
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
            let has_suffix = kind == "counter" && format == ExpositionFormat::Text;
            let suffix = if has_suffix { "_total" } else { "" };
            for name in names.split(' ') {
                expected_types.insert(format!("{name}{suffix}"), kind.to_owned());
            }
        }
        assert_eq!(parse(format, &rendered(format, &full())).1, expected_types);
    }
}

#[test]
fn help_needs_no_escaping() {
    let text = rendered(ExpositionFormat::Text, &full());
    for help in text.lines().filter(|line| line.starts_with("# HELP")) {
        assert!(!help.contains(['\\', '"']) && help.ends_with('.'), "{help}");
    }
}

#[test]
fn buckets_never_fall_and_the_last_is_the_count() {
    let (samples, _) = parse(ExpositionFormat::Text, &rendered(ExpositionFormat::Text, &full()));
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
    render(&mut out, ExpositionFormat::Text, &Snapshot::empty(), &BUILD);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("fibsrv_workers 0\n") && !text.contains("process_"));
}
