//! Work for the compute thread, and its results.

use std::sync::Arc;

use crate::fibonacci::{CacheKey, Calculator, Mismatch, gzip};

/// Something to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// F(n).
    Compute {
        /// The index.
        n: u64,
    },
    /// F(n) in the gzip format.
    Gzip {
        /// The index.
        n: u64,
        /// F(n).
        digits: Arc<[u8]>,
    },
}

/// A job that has been done.
#[derive(Clone, Debug)]
pub struct Completed {
    /// What has been computed.
    pub key: CacheKey,
    /// The result.
    pub content: Arc<[u8]>,
    /// What was wrong with the first result, if it failed verification and was computed again.
    pub fallback: Option<Mismatch>,
    /// Time it took, in nanoseconds.
    pub duration_ns: u64,
}

impl Job {
    /// What is to be computed.
    pub const fn key(&self) -> CacheKey {
        match self {
            Self::Compute { n } => CacheKey::digits(*n),
            Self::Gzip { n, .. } => CacheKey::gzip(*n),
        }
    }

    /// Does the work. The caller knows how long it took.
    pub fn run(self, calculator: &mut Calculator) -> Completed {
        let key = self.key();
        let (content, fallback) = match self {
            Self::Compute { n } => {
                let computed = calculator.compute(n);
                (computed.digits, computed.fallback)
            }
            Self::Gzip { digits, .. } => (gzip(&digits), None),
        };
        Completed { key, content, fallback, duration_ns: 0 }
    }
}
