//! What the server counts, the sum of it over all workers, and its text form.
//!
//! `families` is the table of all metrics. A new metric is one row there, which has the name, the help text,
//! the type and the labels, and which defines the constant that code counts with:
//!
//! ```
//! use fibsrv::metrics::{self, CloseReason, Slot, Snapshot};
//!
//! let slot = Slot::new();
//! slot.add(metrics::CONNECTIONS_CLOSED.with(CloseReason::Evicted), 1);
//! let snapshot = Snapshot::of([&slot].into_iter());
//! assert_eq!(snapshot.get(metrics::CONNECTIONS_CLOSED.with(CloseReason::Evicted)), 1);
//! ```
//!
//! One worker owns one [`Slot`] and is its only writer, so counting is a plain load and a plain store, never a
//! locked instruction. A scrape adds up the slots of all workers in a [`Snapshot`], and [`exposition`] renders
//! it. The place of a series in a slot is known when the program is compiled: there are no string keys and no
//! hashing, and the cardinality is fixed.
//!
//! [`shared`] decides whether the slots are in private or in shared memory. It is the only part of this module
//! that makes system calls; the figures of the operating system are handed in as a [`Process`].

pub mod exposition;
mod families;
mod family;
mod format;
mod histogram;
mod ids;
mod labels;
mod process;
mod requests;
pub mod shared;
mod slot;
mod snapshot;

pub use {
    families::*,
    family::{Family, Kind, Labels, Metric, kind},
    format::ExpositionFormat,
    histogram::{BUCKETS, Bucket},
    labels::{CloseReason, Executor, Handler, PauseReason, RejectReason, ResponseForm},
    process::Process,
    requests::RequestLabels,
    shared::Claim,
    slot::Slot,
    snapshot::{OwnerState, Snapshot},
};

/// Where the running program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of the package.
    pub version: &'static str,
    /// Revision of the source it was built from.
    pub revision: &'static str,
    /// Version of the compiler that built it.
    pub rustc: &'static str,
}
