//! The curve n → time of each algorithm as CSV: `algorithm,n,microseconds`. GMP with `--features gmp`.
//!
//! `fibsrv` uses the widest vectors of the CPU. It is also run with each kind of narrower ones.
//!
//! Each figure is the minimum of several runs. The algorithms take turns for each n, so that what else the machine does
//! affects all of them.

#![expect(clippy::print_stdout, reason = "the table is the output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod reference;

use std::hint::black_box;
use std::time::Instant;

use fibsrv::fibonacci::{Calculator, DEFAULT_LAST, Table, Vectors, doubling};

/// Points for each factor of ten in n.
const PER_DECADE: i32 = 24;

/// Time after which an algorithm is not run again, in seconds, and with larger n not at all.
const ROUND_S: f64 = 0.3;
const LIMIT_S: f64 = 2.0;

/// An algorithm and the time of its last figure.
struct Algorithm<'a> {
    name: String,
    compute: Box<dyn FnMut(u64) + 'a>,
    last_s: f64,
}

impl<'a> Algorithm<'a> {
    fn new<Output>(name: &str, mut compute: impl FnMut(u64) -> Output + 'a) -> Self {
        Self {
            name: name.to_owned(),
            compute: Box::new(move |n| drop(black_box(compute(n)))),
            last_s: 0.0,
        }
    }

    /// The time of one run in seconds.
    fn time(&mut self, n: u64) -> f64 {
        let start = Instant::now();
        (self.compute)(black_box(n));
        start.elapsed().as_secs_f64()
    }
}

fn main() {
    let Ok(table) = Table::new(DEFAULT_LAST) else { return };
    let mut calculator = Calculator::new(table.clone());
    let mut algorithms = vec![
        Algorithm::new("fibsrv", |n| calculator.compute(n)),
        #[cfg(feature = "gmp")]
        Algorithm::new("GMP", reference::by_gmp),
        Algorithm::new("ibig", doubling::digits),
        Algorithm::new("additions", reference::by_additions),
    ];
    algorithms.extend(Vectors::available().into_iter().skip(1).map(|vectors| {
        let mut calculator = Calculator::with_vectors(table.clone(), vectors);
        Algorithm::new(&format!("fibsrv with {vectors}"), move |n| calculator.compute(n))
    }));
    println!("algorithm,n,microseconds");
    for step in 0..=4 * PER_DECADE {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "up to 10^8")]
        let n = (10_000.0 * 10_f64.powf(f64::from(step) / f64::from(PER_DECADE))) as u64 + 1;
        let n = n.min(fibsrv::fibonacci::MAX_N);
        algorithms.retain(|algorithm| algorithm.last_s < LIMIT_S);
        let mut best = vec![f64::MAX; algorithms.len()];
        let start = Instant::now();
        for round in 0..200 {
            for (algorithm, best) in algorithms.iter_mut().zip(&mut best) {
                if round == 0 || *best < ROUND_S / 4.0 {
                    *best = best.min(algorithm.time(n));
                }
            }
            if start.elapsed().as_secs_f64() > ROUND_S && round > 1 {
                break;
            }
        }
        for (algorithm, best) in algorithms.iter_mut().zip(best) {
            algorithm.last_s = best;
            println!("{},{n},{:.1}", algorithm.name, best * 1e6);
        }
    }
}
