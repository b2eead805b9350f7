//! Cyclic convolution of sequences whose length is a power of two, eight of them side by side.
//!
//! A sequence of length 4h is a polynomial modulo z^4h − c, with c = 1 at first. With r a fourth root of c, that
//! ring is the product of the four rings modulo zʰ − r·iᵏ. One pass over the sequence goes from the former to
//! the latter; four smaller sequences are left, and the same is done with each. At length one the polynomials are
//! numbers, and are multiplied. Passes in reverse order lead back.
//!
//! Each block of a sequence is multiplied completely before the next one is begun, so that long sequences pass
//! through the caches as seldom as possible.

use pulp::{Simd, WithSimd};

use crate::fibonacci::large::lanes::{Complex, Lanes, parts};
use crate::fibonacci::large::roots::Root;

/// The longest block that is transformed pass by pass instead of block by block: 32 KiB.
const LEAF: usize = 256;

/// The powers r, r² and r³ of the root r that splits a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twist([[f64; 2]; 3]);

/// Returns the twists of the first `count` blocks, which are the same at every level.
///
/// Block b splits by r(b), and ring k of its parts is block 4b + k, modulo zʰ − r(b)·iᵏ. In units of a full
/// circle, the angle of c is therefore 0.d₀d₁d₂… in base 4 if b = …d₂d₁d₀, and that of r a quarter of it.
pub(super) fn twists(count: usize) -> Vec<Twist> {
    let mut roots = Vec::with_capacity(count);
    roots.push(Root::ONE);
    let mut denominator = 16;
    while roots.len() < count {
        let level = roots.len();
        for digit in 1..4 {
            let step = Root::new(digit, denominator);
            for rest in 0..level {
                roots.extend(roots.get(rest).map(|root| root.times(step)));
            }
        }
        denominator *= 4;
    }
    let twist = |root: Root| {
        let square = root.times(root);
        Twist([root, square, square.times(root)].map(Root::rounded))
    };
    roots.into_iter().take(count).map(twist).collect()
}

/// Multiplies sequences of the given length, one after the other in `points`, by those in `by`, or by themselves.
///
/// The result is the product multiplied by the length. What is in `by` afterwards is of no meaning.
pub(super) struct MultiplyAll<'a> {
    pub(super) points: &'a mut [Lanes],
    pub(super) by: Option<&'a mut [Lanes]>,
    pub(super) length: usize,
    pub(super) twists: &'a [Twist],
}

impl WithSimd for MultiplyAll<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (length, twists) = (self.length, self.twists);
        let mut others = self.by.map(|by| by.chunks_exact_mut(length));
        for points in self.points.chunks_exact_mut(length) {
            let mut by = others.as_mut().and_then(Iterator::next);
            if is_power_of_four(length) {
                simd.vectorize(Multiply { points, by, block: 0, twists });
                continue;
            }
            pair(simd, points);
            if let Some(by) = &mut by {
                pair(simd, by);
            }
            let (low, high) = points.split_at_mut(length / 2);
            let (by_low, by_high) = by.map(|by| by.split_at_mut(length / 2)).unzip();
            simd.vectorize(Multiply { points: low, by: by_low, block: 0, twists });
            simd.vectorize(Multiply { points: high, by: by_high, block: 2, twists });
            pair(simd, points);
        }
    }
}

/// Multiplies one block by another, or by itself.
struct Multiply<'a> {
    points: &'a mut [Lanes],
    by: Option<&'a mut [Lanes]>,
    block: usize,
    twists: &'a [Twist],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { points, mut by, block, twists } = self;
        let (Some(twist), true) = (twists.get(block), points.len() > LEAF) else {
            leaf_forward(simd, points, block, twists);
            match by {
                Some(by) => {
                    leaf_forward(simd, by, block, twists);
                    multiply_points(simd, points, by);
                }
                None => square_points(simd, points),
            }
            leaf_backward(simd, points, block, twists);
            return;
        };
        forward(simd, points, twist);
        if let Some(by) = &mut by {
            forward(simd, by, twist);
        }
        let quarter = points.len() / 4;
        let mut others = by.map(|by| by.chunks_exact_mut(quarter));
        for (ring, points) in points.chunks_exact_mut(quarter).enumerate() {
            let by = others.as_mut().and_then(Iterator::next);
            simd.vectorize(Multiply { points, by, block: 4 * block + ring, twists });
        }
        backward(simd, points, twist);
    }
}

#[inline(always)]
fn multiply_points<S: Simd>(simd: S, points: &mut [Lanes], by: &[Lanes]) {
    for (point, by) in points.iter_mut().zip(by) {
        for part in 0..parts::<S>() {
            let product = Complex::<S>::load(point, part);
            product.times(simd, Complex::load(by, part)).store(point, part);
        }
    }
}

#[inline(always)]
fn square_points<S: Simd>(simd: S, points: &mut [Lanes]) {
    for point in points {
        for part in 0..parts::<S>() {
            let value = Complex::<S>::load(point, part);
            value.times(simd, value).store(point, part);
        }
    }
}

/// Transforms a block down to single numbers.
#[inline(always)]
fn leaf_forward<S: Simd>(simd: S, points: &mut [Lanes], mut block: usize, twists: &[Twist]) {
    let mut length = points.len();
    while length >= 4 {
        let blocks = points.chunks_exact_mut(length);
        for (points, twist) in blocks.zip(twists.get(block..).unwrap_or_default()) {
            forward(simd, points, twist);
        }
        length /= 4;
        block *= 4;
    }
}

/// Undoes [`leaf_forward`].
#[inline(always)]
fn leaf_backward<S: Simd>(simd: S, points: &mut [Lanes], first: usize, twists: &[Twist]) {
    let (mut length, mut block) = (1, first * points.len());
    while length < points.len() {
        length *= 4;
        block /= 4;
        let blocks = points.chunks_exact_mut(length);
        for (points, twist) in blocks.zip(twists.get(block..).unwrap_or_default()) {
            backward(simd, points, twist);
        }
    }
}

/// One pass: from one ring to four.
#[inline(always)]
fn forward<S: Simd>(simd: S, points: &mut [Lanes], Twist(powers): &Twist) {
    let &[r1, r2, r3] = powers;
    let (r1, r2, r3) =
        (Complex::splat(simd, r1), Complex::splat(simd, r2), Complex::splat(simd, r3));
    let (low, high) = points.split_at_mut(points.len() / 2);
    let ((a0, a1), (a2, a3)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    for (((a0, a1), a2), a3) in a0.iter_mut().zip(a1).zip(a2).zip(a3) {
        for part in 0..parts::<S>() {
            let x0 = Complex::<S>::load(a0, part);
            let x1 = Complex::load(a1, part).times(simd, r1);
            let x2 = Complex::load(a2, part).times(simd, r2);
            let x3 = Complex::load(a3, part).times(simd, r3);
            let (even, odd) = (x0.plus(simd, x2), x1.plus(simd, x3));
            even.plus(simd, odd).store(a0, part);
            even.minus(simd, odd).store(a2, part);
            let (even, odd) = (x0.minus(simd, x2), x1.minus(simd, x3));
            let [plus, minus] = even.plus_minus_i(simd, odd);
            plus.store(a1, part);
            minus.store(a3, part);
        }
    }
}

/// The pass back, but for a factor of four.
#[inline(always)]
fn backward<S: Simd>(simd: S, points: &mut [Lanes], Twist(powers): &Twist) {
    let &[r1, r2, r3] = powers;
    let (r1, r2, r3) =
        (Complex::splat(simd, r1), Complex::splat(simd, r2), Complex::splat(simd, r3));
    let (low, high) = points.split_at_mut(points.len() / 2);
    let ((a0, a1), (a2, a3)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    for (((a0, a1), a2), a3) in a0.iter_mut().zip(a1).zip(a2).zip(a3) {
        for part in 0..parts::<S>() {
            let (x0, x1) = (Complex::<S>::load(a0, part), Complex::load(a1, part));
            let (x2, x3) = (Complex::load(a2, part), Complex::load(a3, part));
            let (even, odd) = (x0.plus(simd, x2), x1.plus(simd, x3));
            even.plus(simd, odd).store(a0, part);
            even.minus(simd, odd).times_conjugate(simd, r2).store(a2, part);
            let (even, odd) = (x0.minus(simd, x2), x1.minus(simd, x3));
            let [plus, minus] = even.plus_minus_i(simd, odd);
            minus.times_conjugate(simd, r1).store(a1, part);
            plus.times_conjugate(simd, r3).store(a3, part);
        }
    }
}

/// From the ring modulo z^2h − 1 to those modulo zʰ − 1 and zʰ + 1, which are blocks 0 and 2; and, but for a factor of
/// two, back.
#[inline(always)]
fn pair<S: Simd>(simd: S, points: &mut [Lanes]) {
    let (low, high) = points.split_at_mut(points.len() / 2);
    for (a0, a1) in low.iter_mut().zip(high) {
        for part in 0..parts::<S>() {
            let (x0, x1) = (Complex::<S>::load(a0, part), Complex::load(a1, part));
            x0.plus(simd, x1).store(a0, part);
            x0.minus(simd, x1).store(a1, part);
        }
    }
}

const fn is_power_of_four(length: usize) -> bool {
    length.trailing_zeros().is_multiple_of(2)
}
