//! Which metrics are exposed, under which names, and what they mean.
//!
//! Every series is written on every scrape, also while it is zero, so that rates are right from the first
//! request on. How a sample is spelled is the business of `text`.

use super::{
    Build, Format, Handler, Process, SizeTotals, Snapshot,
    durations::{BUCKETS, DurationTotals},
    requests::SERIES,
    text::{Kind, Labels, Value, Writer},
};

/// Appends the exposition to `out`. Without `process` (no `/proc`) its families are left out: a guess
/// would be worse than a gap.
pub fn render(
    out: &mut Vec<u8>,
    format: Format,
    snapshot: &Snapshot,
    process: Option<&Process>,
    build: &Build,
) {
    let mut writer = Writer::new(out, format);
    write_requests(&mut writer, &snapshot.requests);
    write_durations(&mut writer, &snapshot.request_durations);
    write_sizes(&mut writer, snapshot);
    write_connections(&mut writer, snapshot);
    write_workers(&mut writer, snapshot);
    write_build(&mut writer, build);
    if let Some(process) = process {
        write_process(&mut writer, process);
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
        let handler = ("handler", handler.as_str());
        let mut cumulative = 0;
        for (bucket, count) in BUCKETS.iter().zip(&totals.buckets) {
            cumulative += count;
            family.part("_bucket", &[handler, ("le", bucket.le)], Value::Count(cumulative));
        }
        family.part("_sum", &[handler], Value::Nanoseconds(totals.sum_ns));
        family.part("_count", &[handler], Value::Count(cumulative));
    }
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

/// Connections, and later those refused or timed out, by reason.
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
        "1 if these metrics are the sum over all processes on the port, 0 if each process counts \
         for itself.",
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

/// The standard process metrics, of the process that answers the scrape.
fn write_process(writer: &mut Writer<'_>, process: &Process) {
    writer
        .family(
            Kind::Counter,
            "process_cpu_seconds",
            "Processor time, user and system, in seconds.",
        )
        .sample(NO_LABELS, Value::Nanoseconds(process.cpu_time_ns));
    write_gauge(writer, "process_open_fds", "Open file descriptors.", process.open_fds);
    write_gauge(writer, "process_max_fds", "Limit of open file descriptors.", process.max_fds);
    write_gauge(
        writer,
        "process_virtual_memory_bytes",
        "Size of the address space in bytes.",
        process.virtual_memory_bytes,
    );
    write_gauge(
        writer,
        "process_resident_memory_bytes",
        "Memory held in RAM in bytes.",
        process.resident_memory_bytes,
    );
    writer
        .family(
            Kind::Gauge,
            "process_start_time_seconds",
            "When the process started, in seconds since 1970-01-01 UTC.",
        )
        .sample(NO_LABELS, Value::Nanoseconds(process.start_time_ns));
}

const NO_LABELS: &Labels<'static> = &[];

fn write_counter(writer: &mut Writer<'_>, name: &'static str, help: &str, count: u64) {
    writer.family(Kind::Counter, name, help).sample(NO_LABELS, Value::Count(count));
}

fn write_gauge(writer: &mut Writer<'_>, name: &'static str, help: &str, value: u64) {
    writer.family(Kind::Gauge, name, help).sample(NO_LABELS, Value::Count(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Slot;
    use nom_openmetrics::{MetricDescriptor, parser};
    use std::collections::BTreeMap;

    const FORMATS: [Format; 2] = [Format::Text, Format::OpenMetrics];
    const BUILD: Build = Build {
        version: "1.2.3",
        revision: "a\"b\\c",
        rustc: "rustc 1.95.0 (59807616e 2026-04-14)",
    };
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
        render(&mut out, format, snapshot, Some(&PROCESS), &BUILD);
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
        snapshot.is_shared = true;
        snapshot
    }

    /// The numbers of these tests are small enough for a lossless conversion.
    fn float(number: u64) -> f64 {
        f64::from(u32::try_from(number).unwrap())
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
                expect(
                    format!("{name}_bucket handler={handler} le={}", bucket.le),
                    float(cumulative),
                );
            }
            expect(format!("{name}_sum handler={handler}"), float(totals.sum_ns) / 1e9);
            expect(format!("{name}_count handler={handler}"), float(totals.count()));
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
            ("fibsrv_metrics_shared", f64::from(snapshot.is_shared)),
            ("process_cpu_seconds_total", 12.34),
            ("process_open_fds", 17.0),
            ("process_max_fds", 1_048_576.0),
            ("process_virtual_memory_bytes", 123_456_789.0),
            ("process_resident_memory_bytes", 9_876_543.0),
            ("process_start_time_seconds", 1_763_929_999.12),
        ] {
            expect(format!("{name} "), value);
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
            ("counter", "process_cpu_seconds"),
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
        let text = rendered(Format::Text, &Snapshot::empty());
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
        render(&mut out, Format::Text, &Snapshot::empty(), None, &BUILD);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("fibsrv_workers 0\n") && !text.contains("process_"));
    }
}
