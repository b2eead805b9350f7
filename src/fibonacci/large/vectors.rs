//! The kinds of vectors that a CPU may have, and the selection of one at run time.

use std::fmt;

#[cfg(not(target_arch = "x86_64"))]
use pulp::Arch;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V2, V3, V4};
use pulp::{Scalar, Simd, WithSimd};

/// A kind of vectors that this CPU has.
#[derive(Clone, Copy)]
pub struct Vectors(Width);

#[derive(Clone, Copy)]
enum Width {
    /// Numbers one by one, which every CPU has.
    One,
    /// SSE4.2: two numbers, without fused operations.
    #[cfg(target_arch = "x86_64")]
    Two(V2),
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Four(V3),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Eight(V4),
    /// The widest vectors of another architecture.
    #[cfg(not(target_arch = "x86_64"))]
    Widest(Arch),
}

impl Vectors {
    /// Returns the widest kind.
    pub fn widest() -> Self {
        Self::available().into_iter().next().unwrap_or(Self(Width::One))
    }

    /// Returns all kinds, the widest first.
    #[cfg(target_arch = "x86_64")]
    pub fn available() -> Vec<Self> {
        let wide = [
            V4::try_new().map(Width::Eight),
            V3::try_new().map(Width::Four),
            V2::try_new().map(Width::Two),
        ];
        wide.into_iter().flatten().chain([Width::One]).map(Self).collect()
    }

    /// Returns all kinds, the widest first.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn available() -> Vec<Self> {
        [Width::Widest(Arch::new()), Width::One].map(Self).into()
    }

    /// Runs an operation with these vectors.
    #[inline(always)]
    pub(super) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Width::One => Scalar::new().vectorize(op),
            #[cfg(target_arch = "x86_64")]
            Width::Two(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Width::Four(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Width::Eight(simd) => Simd::vectorize(simd, op),
            #[cfg(not(target_arch = "x86_64"))]
            Width::Widest(arch) => arch.dispatch(op),
        }
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Width::One => "scalar",
            #[cfg(target_arch = "x86_64")]
            Width::Two(_) => "SSE4.2",
            #[cfg(target_arch = "x86_64")]
            Width::Four(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Width::Eight(_) => "AVX-512",
            #[cfg(not(target_arch = "x86_64"))]
            Width::Widest(_) => "widest",
        })
    }
}
