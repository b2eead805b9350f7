//! Looking a number up against computing it, and what the table costs at start.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fibsrv::fibonacci::{DEFAULT_LAST, Table};
use ibig::UBig;

/// F(n) by n ibig additions and one conversion, as the program we replace computes it.
fn by_additions(n: u64) -> String {
    let [mut current, mut next] = [UBig::from(0_u8), UBig::from(1_u8)];
    for _ in 0..n {
        current += &next;
        std::mem::swap(&mut current, &mut next);
    }
    current.to_string()
}

fn lookup_against_computation(criterion: &mut Criterion) {
    let Ok(table) = Table::new(DEFAULT_LAST) else { return };
    let mut group = criterion.benchmark_group("F(n)");
    for n in [20, 94, 300, 1_000, 10_000] {
        group.bench_with_input(BenchmarkId::new("table", n), &n, |bencher, &n| {
            bencher.iter(|| table.get(black_box(n)));
        });
        group.bench_with_input(BenchmarkId::new("additions", n), &n, |bencher, &n| {
            bencher.iter(|| by_additions(black_box(n)));
        });
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

criterion_group!(fibonacci, lookup_against_computation, construction);
criterion_main!(fibonacci);
