//! Eight complex numbers side by side, and their arithmetic on vectors of any width.
//!
//! The CPU's vectors hold eight, four or one `f64`. Eight lanes are one, two or eight such vectors, called
//! *parts* here. The lanes of a value never meet: there is no operation across lanes.

use pulp::Simd;

/// Numbers side by side.
pub(super) const LANES: usize = 8;

/// Eight complex numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Lanes {
    pub(super) re: [f64; LANES],
    pub(super) im: [f64; LANES],
}

pub(super) const ZERO: Lanes = Lanes { re: [0.0; LANES], im: [0.0; LANES] };

impl Lanes {
    /// Makes lane t of the complex number `lane(t)`.
    pub(super) fn from_fn(mut lane: impl FnMut(usize) -> [f64; 2]) -> Self {
        let mut lanes = Self::default();
        for (t, (re, im)) in lanes.re.iter_mut().zip(&mut lanes.im).enumerate() {
            [*re, *im] = lane(t);
        }
        lanes
    }
}

/// The lane of a run of coefficients: runs that differ by four are side by side.
pub(super) const fn lane(run: usize) -> usize {
    run % 4 * 2 + run / 4
}

/// The run of coefficients in a lane.
pub(super) const fn run(lane: usize) -> usize {
    lane % 2 * 4 + lane / 2
}

/// One part of [`Lanes`], in registers.
#[derive(Clone, Copy)]
pub(super) struct Complex<S: Simd> {
    pub(super) re: S::f64s,
    pub(super) im: S::f64s,
}

/// Whether a·b + c is one operation. pulp calls a slow function for it on CPUs that have none.
const fn is_fused<S: Simd>() -> bool {
    !(cfg!(target_arch = "x86_64") && S::F64_LANES == 2)
}

/// a·b + c.
#[inline(always)]
pub(super) fn mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
    if is_fused::<S>() {
        simd.mul_add_e_f64s(a, b, c)
    } else {
        simd.add_f64s(simd.mul_f64s(a, b), c)
    }
}

/// c − a·b.
#[inline(always)]
pub(super) fn negate_mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
    if is_fused::<S>() {
        simd.negate_mul_add_e_f64s(a, b, c)
    } else {
        simd.sub_f64s(c, simd.mul_f64s(a, b))
    }
}

/// How many parts eight lanes have.
pub(super) const fn parts<S: Simd>() -> usize {
    LANES / S::F64_LANES
}

/// Whether eight lanes are at least four parts, so that quarters of the lanes have parts of their own.
pub(super) const fn has_quarters<S: Simd>() -> bool {
    parts::<S>() >= 4
}

/// Reads one part of eight real numbers.
#[expect(clippy::indexing_slicing, reason = "a part is below the number of parts")]
#[inline(always)]
pub(super) fn load<S: Simd>(lanes: &[f64; LANES], part: usize) -> S::f64s {
    S::as_simd_f64s(lanes).0[part]
}

/// Writes one part of eight real numbers.
#[expect(clippy::indexing_slicing, reason = "a part is below the number of parts")]
#[inline(always)]
pub(super) fn store<S: Simd>(lanes: &mut [f64; LANES], part: usize, value: S::f64s) {
    S::as_mut_simd_f64s(lanes).0[part] = value;
}

impl<S: Simd> Complex<S> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self { re: simd.splat_f64s(0.0), im: simd.splat_f64s(0.0) }
    }

    /// The same number in all lanes.
    #[inline(always)]
    pub(super) fn splat(simd: S, [re, im]: [f64; 2]) -> Self {
        Self { re: simd.splat_f64s(re), im: simd.splat_f64s(im) }
    }

    #[inline(always)]
    pub(super) fn load(lanes: &Lanes, part: usize) -> Self {
        Self { re: load::<S>(&lanes.re, part), im: load::<S>(&lanes.im, part) }
    }

    #[inline(always)]
    pub(super) fn store(self, lanes: &mut Lanes, part: usize) {
        store::<S>(&mut lanes.re, part, self.re);
        store::<S>(&mut lanes.im, part, self.im);
    }

    #[inline(always)]
    pub(super) fn plus(self, simd: S, other: Self) -> Self {
        Self { re: simd.add_f64s(self.re, other.re), im: simd.add_f64s(self.im, other.im) }
    }

    #[inline(always)]
    pub(super) fn minus(self, simd: S, other: Self) -> Self {
        Self { re: simd.sub_f64s(self.re, other.re), im: simd.sub_f64s(self.im, other.im) }
    }

    /// a·b.
    #[inline(always)]
    pub(super) fn times(self, simd: S, by: Self) -> Self {
        let (re, im) = (simd.mul_f64s(self.re, by.re), simd.mul_f64s(self.re, by.im));
        Self { re: negate_mul_add(simd, self.im, by.im, re), im: mul_add(simd, self.im, by.re, im) }
    }

    /// a·b̄, which undoes a multiplication by b of modulus one.
    #[inline(always)]
    pub(super) fn times_conjugate(self, simd: S, by: Self) -> Self {
        let (re, im) = (simd.mul_f64s(self.re, by.re), simd.mul_f64s(self.im, by.re));
        Self { re: mul_add(simd, self.im, by.im, re), im: negate_mul_add(simd, self.re, by.im, im) }
    }

    /// self + i·other and self − i·other.
    #[inline(always)]
    pub(super) fn plus_minus_i(self, simd: S, other: Self) -> [Self; 2] {
        let (a, b) = (self, other);
        [
            Self { re: simd.sub_f64s(a.re, b.im), im: simd.add_f64s(a.im, b.re) },
            Self { re: simd.add_f64s(a.re, b.im), im: simd.sub_f64s(a.im, b.re) },
        ]
    }
}

/// Computes Σ x(q)·ζ^(uq) for each u, where ζ = e^(2πi/`ODD`) has the powers `circle`.
///
/// Terms q and `ODD` − q have conjugate factors, and so have results u and `ODD` − u: that saves half of the products.
#[expect(clippy::indexing_slicing, reason = "all indices are below ODD")]
#[inline(always)]
pub(super) fn odd_transform<S: Simd, const ODD: usize>(
    simd: S,
    x: [Complex<S>; ODD],
    circle: &[[f64; 2]],
) -> [Complex<S>; ODD] {
    let (mut plus, mut minus, mut result) = (x, x, x);
    for k in 1..=ODD / 2 {
        plus[k] = x[k].plus(simd, x[ODD - k]);
        minus[k] = x[k].minus(simd, x[ODD - k]);
        result[0] = result[0].plus(simd, plus[k]);
    }
    for u in 1..=ODD / 2 {
        let (mut even, mut odd) = (x[0], Complex::zero(simd));
        for k in 1..=ODD / 2 {
            let [cos, sin] = circle[u * k % ODD];
            let (cos, sin) = (simd.splat_f64s(cos), simd.splat_f64s(sin));
            even.re = mul_add(simd, plus[k].re, cos, even.re);
            even.im = mul_add(simd, plus[k].im, cos, even.im);
            odd.re = mul_add(simd, minus[k].re, sin, odd.re);
            odd.im = mul_add(simd, minus[k].im, sin, odd.im);
        }
        [result[u], result[ODD - u]] = even.plus_minus_i(simd, odd);
    }
    result
}
