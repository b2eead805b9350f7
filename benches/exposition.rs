//! The cost of counting a request and of a scrape.

use criterion::{Criterion, criterion_group, criterion_main};
use fibsrv::{
    http::{Method, Status},
    metrics::{
        self, Build, Claim, ExpositionFormat, Handler, RequestLabels, Slot, Snapshot, exposition,
        shared::SharedMemory,
    },
    server::process_stats::ProcessStats,
};
use std::hint::black_box;

const BUILD: Build = Build { version: "0.1.0", revision: "0123456789ab", rustc: "rustc 1.95.0" };

/// The labels of the most frequent response.
const OK: RequestLabels =
    RequestLabels { handler: Handler::Fibonacci, method: Some(Method::Get), status: Status::Ok };

criterion_group!(benches, counting, scraping);
criterion_main!(benches);

fn counting(criterion: &mut Criterion) {
    let slot = Slot::new();
    let mut group = criterion.benchmark_group("count");
    group.bench_function("requests_add", |bencher| {
        bencher.iter(|| {
            slot.add(metrics::REQUESTS.with(black_box(OK)), black_box(1));
        });
    });
    group.bench_function("durations_observe", |bencher| {
        let mut duration_ns: u64 = 1;
        bencher.iter(|| {
            // A linear congruential sequence over 0.5 us to 16 ms, which a branch predictor cannot learn.
            duration_ns = duration_ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let spread = 500 << (duration_ns >> 60);
            let metric = metrics::REQUEST_DURATION.with(black_box(Handler::Fibonacci));
            slot.observe(metric, spread, black_box(16));
        });
    });
    let shared = SharedMemory::in_memory().and_then(|memory| memory.claim());
    for (name, counters) in [("whole_batch", Ok(Claim::private())), ("shared_batch", shared)] {
        let Ok(counters) = counters else { continue };
        group.bench_function(name, |bencher| bencher.iter(|| count_a_batch(&counters)));
    }
    group.finish();
}

/// What is counted for a batch of sixteen requests.
fn count_a_batch(slot: &Slot) {
    slot.add(metrics::REQUESTS.with(OK), black_box(16));
    slot.observe(metrics::REQUEST_DURATION.with(Handler::Fibonacci), black_box(3_200), 16);
    slot.summarize(metrics::REQUEST_SIZE, black_box(1600), 16);
    slot.summarize(metrics::RESPONSE_SIZE, black_box(3200), 16);
}

fn scraping(criterion: &mut Criterion) {
    let slots: Vec<Slot> = (0..64).map(|_| busy_slot()).collect();
    let snapshot = Snapshot::of(slots.iter());
    let stats = ProcessStats::new().ok();
    let memory = SharedMemory::in_memory().ok();
    let shared: Vec<_> = memory
        .iter()
        .flat_map(|memory| (0..64).map_while(|_| memory.claim().ok()))
        .inspect(|counters| count_a_lot(counters))
        .collect();
    let mut group = criterion.benchmark_group("scrape");
    group.bench_function("snapshot_1", |bencher| {
        bencher.iter(|| Snapshot::of(black_box(&slots).iter().take(1)));
    });
    group.bench_function("snapshot_64", |bencher| {
        bencher.iter(|| Snapshot::of(black_box(&slots).iter()));
    });
    if let Some(counters) = shared.last() {
        group.bench_function("shared_64", |bencher| bencher.iter(|| counters.snapshot()));
    }
    for (name, format) in
        [("text", ExpositionFormat::Text), ("openmetrics", ExpositionFormat::OpenMetrics)]
    {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                exposition::render(&mut out, format, black_box(&snapshot), &BUILD);
            });
        });
    }
    if let Some(stats) = stats {
        group.bench_function("process", |bencher| bencher.iter(|| stats.read()));
    }
    group.finish();
}

/// A slot in which every request series and every histogram has large counts.
fn busy_slot() -> Slot {
    let slot = Slot::new();
    count_a_lot(&slot);
    slot
}

fn count_a_lot(slot: &Slot) {
    for (labels, n) in RequestLabels::all().zip(123_456..) {
        slot.add(metrics::REQUESTS.with(labels), n);
        for shift in 0..24 {
            slot.observe(metrics::REQUEST_DURATION.with(labels.handler), 700 << shift, n);
        }
    }
}
