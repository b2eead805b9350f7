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

impl Twist {
    #[inline(always)]
    fn splat<S: Simd>(&self, simd: S) -> [Complex<S>; 3] {
        let Self([first, second, third]) = *self;
        [Complex::splat(simd, first), Complex::splat(simd, second), Complex::splat(simd, third)]
    }
}

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
                    multiply_fours(simd, points, by, block, twists);
                }
                None => square_fours(simd, points, block, twists),
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

/// A part of one point in each of four rings.
type Four<S> = [Complex<S>; 4];

/// Multiplies blocks of four, between the last pass and the first one back.
#[inline(always)]
fn multiply_fours<S: Simd>(
    simd: S,
    points: &mut [Lanes],
    by: &[Lanes],
    block: usize,
    twists: &[Twist],
) {
    let blocks = twists.get(block * (points.len() / 4)..).unwrap_or_default();
    let fours = points.as_chunks_mut::<4>().0.iter_mut().zip(by.as_chunks::<4>().0);
    for (([a0, a1, a2, a3], [b0, b1, b2, b3]), twist) in fours.zip(blocks) {
        let roots = twist.splat(simd);
        for part in 0..parts::<S>() {
            let [x0, x1, x2, x3] = split_four(simd, load_four([a0, a1, a2, a3], part), roots);
            let [y0, y1, y2, y3]: Four<S> =
                split_four(simd, load_four([b0, b1, b2, b3], part), roots);
            let product =
                [x0.times(simd, y0), x1.times(simd, y1), x2.times(simd, y2), x3.times(simd, y3)];
            store_four(join_four(simd, product, roots), [a0, a1, a2, a3], part);
        }
    }
}

/// Squares blocks of four, between the last pass and the first one back.
#[inline(always)]
fn square_fours<S: Simd>(simd: S, points: &mut [Lanes], block: usize, twists: &[Twist]) {
    let blocks = twists.get(block * (points.len() / 4)..).unwrap_or_default();
    for ([a0, a1, a2, a3], twist) in points.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
        let roots = twist.splat(simd);
        for part in 0..parts::<S>() {
            let [x0, x1, x2, x3]: Four<S> =
                split_four(simd, load_four([a0, a1, a2, a3], part), roots);
            let square =
                [x0.times(simd, x0), x1.times(simd, x1), x2.times(simd, x2), x3.times(simd, x3)];
            store_four(join_four(simd, square, roots), [a0, a1, a2, a3], part);
        }
    }
}

#[inline(always)]
fn load_four<S: Simd>([a0, a1, a2, a3]: [&Lanes; 4], part: usize) -> Four<S> {
    [
        Complex::load(a0, part),
        Complex::load(a1, part),
        Complex::load(a2, part),
        Complex::load(a3, part),
    ]
}

#[inline(always)]
fn store_four<S: Simd>([x0, x1, x2, x3]: Four<S>, [a0, a1, a2, a3]: [&mut Lanes; 4], part: usize) {
    x0.store(a0, part);
    x1.store(a1, part);
    x2.store(a2, part);
    x3.store(a3, part);
}

/// Transforms a block down to rings of four numbers.
#[inline(always)]
fn leaf_forward<S: Simd>(simd: S, points: &mut [Lanes], mut block: usize, twists: &[Twist]) {
    let mut length = points.len();
    while length > 4 {
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
    let (mut length, mut block) = (4, first * (points.len() / 4));
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
fn forward<S: Simd>(simd: S, points: &mut [Lanes], twist: &Twist) {
    let roots = twist.splat(simd);
    let (low, high) = points.split_at_mut(points.len() / 2);
    let ((a0, a1), (a2, a3)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    for (((a0, a1), a2), a3) in a0.iter_mut().zip(a1).zip(a2).zip(a3) {
        for part in 0..parts::<S>() {
            let x = load_four([a0, a1, a2, a3], part);
            store_four(split_four(simd, x, roots), [a0, a1, a2, a3], part);
        }
    }
}

/// The pass back, but for a factor of four.
#[inline(always)]
fn backward<S: Simd>(simd: S, points: &mut [Lanes], twist: &Twist) {
    let roots = twist.splat(simd);
    let (low, high) = points.split_at_mut(points.len() / 2);
    let ((a0, a1), (a2, a3)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    for (((a0, a1), a2), a3) in a0.iter_mut().zip(a1).zip(a2).zip(a3) {
        for part in 0..parts::<S>() {
            let x = load_four([a0, a1, a2, a3], part);
            store_four(join_four(simd, x, roots), [a0, a1, a2, a3], part);
        }
    }
}

/// A point of a ring as points of four rings.
#[inline(always)]
fn split_four<S: Simd>(
    simd: S,
    [x0, x1, x2, x3]: Four<S>,
    [r1, r2, r3]: [Complex<S>; 3],
) -> Four<S> {
    let (x1, x2, x3) = (x1.times(simd, r1), x2.times(simd, r2), x3.times(simd, r3));
    let (even, odd) = (x0.plus(simd, x2), x1.plus(simd, x3));
    let [plus, minus] = x0.minus(simd, x2).plus_minus_i(simd, x1.minus(simd, x3));
    [even.plus(simd, odd), plus, even.minus(simd, odd), minus]
}

/// The inverse of [`split_four`], but for a factor of four.
#[inline(always)]
fn join_four<S: Simd>(
    simd: S,
    [x0, x1, x2, x3]: Four<S>,
    [r1, r2, r3]: [Complex<S>; 3],
) -> Four<S> {
    let (even, odd) = (x0.plus(simd, x2), x1.plus(simd, x3));
    let [plus, minus] = x0.minus(simd, x2).plus_minus_i(simd, x1.minus(simd, x3));
    [
        even.plus(simd, odd),
        minus.times_conjugate(simd, r1),
        even.minus(simd, odd).times_conjugate(simd, r2),
        plus.times_conjugate(simd, r3),
    ]
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
