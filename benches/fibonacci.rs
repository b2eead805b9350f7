//! Benchmarks of the table lookup and of each algorithm, with GMP for comparison (`--features gmp`).

mod reference;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use fibsrv::fibonacci::{Calculator, DEFAULT_LAST, Table, check, doubling};

/// From everyday n to the cap.
const NS: [u64; 12] = [
    20, 94, 300, 1_000, 10_000, 10_001, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
];

/// The largest n for ibig's conversion and for n additions, which take seconds beyond.
const IBIG_TO: u64 = 1_000_000;
const ADDITIONS_TO: u64 = 100_000;

fn lookup_against_computation(criterion: &mut Criterion) {
    let Ok(table) = Table::new(DEFAULT_LAST) else { return };
    let mut calculator = Calculator::new(table.clone());
    let mut group = criterion.benchmark_group("F(n)");
    for n in NS {
        if n >= 300_000 {
            group.sample_size(10).measurement_time(Duration::from_secs(3));
        }
        if n <= u64::from(DEFAULT_LAST) {
            bench(&mut group, "table", n, |n| table.get(n));
        }
        bench(&mut group, "calculator", n, |n| calculator.compute(n));
        #[cfg(feature = "gmp")]
        bench(&mut group, "gmp", n, reference::by_gmp);
        if n <= IBIG_TO {
            bench(&mut group, "ibig", n, doubling::digits);
        }
        if n <= ADDITIONS_TO {
            bench(&mut group, "additions", n, reference::by_additions);
        }
    }
    group.finish();
}

fn bench<Output>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    algorithm: &str,
    n: u64,
    mut compute: impl FnMut(u64) -> Output,
) {
    group.bench_with_input(BenchmarkId::new(algorithm, n), &n, |bencher, &n| {
        bencher.iter(|| compute(black_box(n)));
    });
}

/// Measures the check, which is part of every computation, and the first use, which prepares constants.
fn parts(criterion: &mut Criterion) {
    let Ok(table) = Table::new(DEFAULT_LAST) else { return };
    let mut calculator = Calculator::new(table.clone());
    let mut group = criterion.benchmark_group("part");
    for n in [10_001, 1_000_000] {
        let digits = calculator.compute(n).digits;
        bench(&mut group, "check", n, |n| check(n, &digits));
        bench(&mut group, "first use", n, |n| Calculator::new(table.clone()).compute(n));
    }
    group.finish();
}

fn construction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table of");
    for last in [1_000, DEFAULT_LAST, 12_000] {
        group.bench_with_input(BenchmarkId::from_parameter(last), &last, |bencher, &last| {
            bencher.iter_with_large_drop(|| Table::new(black_box(last)));
        });
    }
    group.finish();
}

criterion_group!(fibonacci, lookup_against_computation, parts, construction);
criterion_main!(fibonacci);
