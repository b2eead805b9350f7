//! Large Fibonacci numbers, by doubling in decimal, so that nothing is converted at the end.
//!
//! From F(j) and F(j+1), squared, follow all numbers about twice as far. The last step is one product. Numbers are
//! rows of `limbs`, which `split` turns into points, `cyclic` multiplies, and `join` turns back. `plan` has the
//! constants of a length, made of `roots` of unity, and `precision` the bound on rounding errors. `lanes` is the type
//! that all of these compute with.
//!
//! Nothing here verifies a result; [`calculator`](super::calculator) does.

#![expect(
    clippy::inline_always,
    reason = "vector code has to be compiled into the function for which wide vectors are enabled"
)]

mod cyclic;
mod join;
mod lanes;
mod limbs;
mod plan;
pub(super) mod precision;
mod roots;
mod split;
#[cfg(test)]
mod tests;
mod vectors;

use std::borrow::Cow;
use std::sync::Arc;

pub use vectors::Vectors;

use crate::fibonacci::digits::digit_count;
use crate::fibonacci::large::cyclic::MultiplyAll;
use crate::fibonacci::large::join::{Join, Sum};
use crate::fibonacci::large::lanes::{LANES, Lanes};
use crate::fibonacci::large::limbs::{Base, Write};
use crate::fibonacci::large::plan::{Plans, Shape};
use crate::fibonacci::large::precision::is_safe;
use crate::fibonacci::large::split::Split;
use crate::fibonacci::table::Table;

/// The largest start without a table: F(128) fits in a `u128`.
const START_MAX: u64 = 127;

/// Computes large numbers, one after the other, and reuses plans and working memory.
pub(super) struct Doubling {
    table: Table,
    plans: Plans,
    vectors: Vectors,
    memory: WorkingMemory,
}

/// Working memory of a computation: two numbers and their points.
#[derive(Default)]
struct WorkingMemory {
    numbers: [Vec<f64>; 2],
    points: [Vec<Lanes>; 2],
}

impl Doubling {
    pub(super) fn new(table: Table, vectors: Vectors) -> Self {
        Self { table, plans: Plans::default(), vectors, memory: WorkingMemory::default() }
    }

    /// Returns F(n), by limbs of so many digits, or `None` if rounding errors might reach one half.
    pub(super) fn compute(&mut self, n: u64, digits: u32) -> Option<Arc<[u8]>> {
        let steps = Steps::new(n, START_MAX.max(self.table.last().saturating_sub(1)));
        self.start(&steps, digits);
        for (k, outputs) in steps.doublings() {
            self.double(outputs.map(|output| output.at(k)), digits)?;
        }
        self.last_product(n, digits)
    }

    /// Sets the two numbers to those that the first step needs.
    fn start(&mut self, steps: &Steps, digits: u32) {
        let [current, next] = [steps.start, steps.start + 1].map(|j| start_digits(&self.table, j));
        for (number, output) in self.memory.numbers.iter_mut().zip(steps.start_outputs()) {
            let terms = output.of_pair(&current, &next);
            limbs::read(terms, digits, number);
        }
    }

    /// Replaces the numbers by sums of their squares.
    fn double(&mut self, sums: [Sum<2>; 2], digits: u32) -> Option<()> {
        let Self { plans, vectors, memory, .. } = self;
        let plan = memory.split(plans, *vectors).and_then(|index| plans.get(index))?;
        for points in &mut memory.points {
            let length = plan.shape.length;
            vectors.dispatch(MultiplyAll { points, by: None, length, twists: &plans.twists });
        }
        let ([x, y], [a, b]) = (&mut memory.numbers, &memory.points);
        vectors.dispatch(Join {
            plan,
            products: [a, b],
            sums,
            numbers: [x, y],
            base: Base::balanced(digits),
        });
        memory.numbers.iter_mut().for_each(limbs::trim);
        Some(())
    }

    /// Multiplies the numbers: F(2k) = F(k)·L(k) and F(2k+1) = F(k+1)·L(k) − (−1)ᵏ.
    fn last_product(&mut self, n: u64, digits: u32) -> Option<Arc<[u8]>> {
        let Self { plans, vectors, memory, .. } = self;
        let plan = memory.split(plans, *vectors).and_then(|index| plans.get(index))?;
        let ([number, _], [points, by]) = (&mut memory.numbers, &mut memory.points);
        let length = plan.shape.length;
        vectors.dispatch(MultiplyAll { points, by: Some(by), length, twists: &plans.twists });
        let constant = if n.is_multiple_of(2) { 0.0 } else { -sign(n / 2) };
        vectors.dispatch(Join {
            plan,
            products: [points],
            sums: [Sum { factors: [1.0], constant }],
            numbers: [number],
            base: Base::positive(digits),
        });
        let mut text: Arc<[u8]> = std::iter::repeat_n(b'0', digit_count(n)).collect();
        if let Some(text) = Arc::get_mut(&mut text) {
            vectors.dispatch(Write { number, digits, text });
        }
        Some(text)
    }
}

impl WorkingMemory {
    /// Makes points of the numbers. Returns the index of their plan, or `None` if products of them might be wrong.
    fn split(&mut self, plans: &mut Plans, vectors: Vectors) -> Option<usize> {
        let shape = Shape::for_limbs(self.numbers.iter().map(Vec::len).max().unwrap_or(0));
        let index = plans.prepare(shape);
        let plan = plans.get(index)?;
        let mut squares = [0.0; 2];
        let numbers = self.numbers.iter_mut().zip(&mut self.points);
        for ((limbs, points), squares) in numbers.zip(&mut squares) {
            limbs.resize(shape.points(), 0.0);
            points.resize(shape.points() / LANES, Lanes::default());
            *squares = vectors.dispatch(Split { plan, limbs, points });
        }
        let [x, y] = squares;
        is_safe(shape, [x.max(y); 2]).then_some(index)
    }
}

/// Returns the digits of F(j), from the table or by additions.
fn start_digits(table: &Table, j: u64) -> Cow<'_, [u8]> {
    let added = || {
        let (number, _) = (0..j).fold((0_u128, 1_u128), |(a, b), _| (b, a + b));
        number.to_string().into_bytes().into()
    };
    table.get(j).map_or_else(added, Cow::from)
}

/// The indices on the way to F(n): `start` is n without its last `shift` bits.
struct Steps {
    n: u64,
    start: u64,
    shift: u32,
}

impl Steps {
    /// The fewest steps from an index up to `start_max`.
    fn new(n: u64, start_max: u64) -> Self {
        let mut shift = 1;
        while n >> shift > start_max {
            shift += 1;
        }
        Self { n, start: n >> shift, shift }
    }

    /// The two numbers at the start.
    fn start_outputs(&self) -> [Term; 2] {
        if self.shift == 1 { self.factors() } else { [Term::Current, Term::Next] }
    }

    /// The index of each doubling, and the two numbers there.
    fn doublings(&self) -> impl Iterator<Item = (u64, [Term; 2])> {
        (1..self.shift).rev().map(|shift| {
            let pair = [Term::Current, Term::Next];
            (self.n >> shift, if shift == 1 { self.factors() } else { pair })
        })
    }

    /// The factors of the last product.
    fn factors(&self) -> [Term; 2] {
        let factor = if self.n.is_multiple_of(2) { Term::Current } else { Term::Next };
        [factor, Term::Lucas]
    }
}

/// A number at an index k.
#[derive(Clone, Copy)]
enum Term {
    /// F(k).
    Current,
    /// F(k+1).
    Next,
    /// L(k) = 2·F(k+1) − F(k), the Lucas number.
    Lucas,
}

impl Term {
    /// This number as a sum of multiples of F(k) and F(k+1).
    const fn of_pair<'a>(self, current: &'a [u8], next: &'a [u8]) -> [(&'a [u8], f64); 2] {
        match self {
            Self::Current => [(current, 1.0), (b"", 0.0)],
            Self::Next => [(next, 1.0), (b"", 0.0)],
            Self::Lucas => [(current, -1.0), (next, 2.0)],
        }
    }

    /// This number at k as a sum of squares at j = ⌊k/2⌋.
    ///
    /// All follow from F(2j+1) = F(j)² + F(j+1)², F(2j) = F(j)·(2·F(j+1) − F(j)), and Cassini's identity
    /// F(j)·F(j+1) = F(j+1)² − F(j)² − (−1)ʲ, which saves a third product.
    fn at(self, k: u64) -> Sum<2> {
        let sign = sign(k / 2);
        let (factors, constant) = match (self, k.is_multiple_of(2)) {
            (Self::Current, true) => ([-3.0, 2.0], -2.0 * sign),
            (Self::Current, false) | (Self::Next, true) => ([1.0, 1.0], 0.0),
            (Self::Next, false) => ([-2.0, 3.0], -2.0 * sign),
            (Self::Lucas, true) => ([5.0, 0.0], 2.0 * sign),
            (Self::Lucas, false) => ([-5.0, 5.0], -4.0 * sign),
        };
        Sum { factors, constant }
    }
}

/// (−1)ᵏ.
fn sign(k: u64) -> f64 {
    if k.is_multiple_of(2) { 1.0 } else { -1.0 }
}
