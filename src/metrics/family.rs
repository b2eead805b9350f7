//! What a row of the table of metrics consists of.

use std::marker::PhantomData;

use crate::metrics::histogram::BUCKETS;

/// What the cells of a family mean: how they are exposed, and how they are added up over slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of events.
    Counter,
    /// A time in nanoseconds that only grows, exposed in seconds.
    Duration,
    /// A level, added up over the slots that have an owner.
    Gauge,
    /// A moment in nanoseconds since 1970-01-01 UTC, exposed in seconds. Of several the earliest; 0: unknown.
    Earliest,
    /// The buckets of [`BUCKETS`], not cumulative, and the sum in nanoseconds.
    Histogram,
    /// A sum, and the number of observations.
    Summary,
    /// No cell: a constant 1 whose labels describe the [`Build`](crate::metrics::Build).
    Info,
}

impl Kind {
    /// The number of cells of one series.
    pub const fn cells(self) -> usize {
        match self {
            Self::Counter | Self::Duration | Self::Gauge | Self::Earliest => 1,
            Self::Histogram => BUCKETS.len() + 1,
            Self::Summary => 2,
            Self::Info => 0,
        }
    }

    /// Whether the value is the state of the slot's owner, and means nothing once the owner is gone.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::Gauge | Self::Earliest)
    }
}

/// A set of labels with known values.
pub trait Labels: Copy {
    /// The names of the labels.
    const NAMES: &'static [&'static str];
    /// For each series, in order, the values of all labels.
    const VALUES: &'static [&'static str];

    /// The place of the series with these values.
    fn index(self) -> usize;
}

/// No labels: a single series.
impl Labels for () {
    const NAMES: &'static [&'static str] = &[];
    const VALUES: &'static [&'static str] = &[];

    fn index(self) -> usize {
        0
    }
}

/// The kinds as types, so that a counter is not set and a gauge not exposed as a histogram.
pub mod kind {
    use super::Kind;

    /// A type that stands for a [`Kind`].
    pub trait MetricKind: Copy {
        /// The kind.
        const KIND: Kind;
    }

    /// What only grows.
    pub trait Cumulative: MetricKind {}
    /// What is set to a value.
    pub trait Level: MetricKind {}

    macro_rules! kinds {
        ($($kind:ident),*) => {$(
            #[doc = concat!("[`Kind::", stringify!($kind), "`].")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $kind;
            impl MetricKind for $kind {
                const KIND: Kind = Kind::$kind;
            }
        )*};
    }
    kinds!(Counter, Duration, Gauge, Earliest, Histogram, Summary, Info);

    impl Cumulative for Counter {}
    impl Cumulative for Duration {}
    impl Level for Gauge {}
    impl Level for Earliest {}
}

/// The place of a family, or with [`with`](Self::with) of one of its series, in a [`Slot`](crate::metrics::Slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric<K, L = ()> {
    start: usize,
    types: PhantomData<(K, L)>,
}

impl<K: kind::MetricKind, L: Labels> Metric<K, L> {
    /// The number of cells of all series.
    pub(super) const CELLS: usize = K::KIND.cells()
        * match L::NAMES.len() {
            0 => 1,
            names => L::VALUES.len() / names,
        };

    /// The family whose first cell is at this place.
    pub(super) const fn at(start: usize) -> Self {
        Self { start, types: PhantomData }
    }

    /// What the row says.
    pub(super) const fn family(name: &'static str, help: &'static str) -> Family {
        let (label_names, label_values, cells) = (L::NAMES, L::VALUES, Self::CELLS);
        Family { name, help, kind: K::KIND, label_names, label_values, cells }
    }

    /// The series with these labels.
    #[inline]
    #[must_use]
    pub fn with(self, labels: L) -> Metric<K> {
        Metric::at(self.start + labels.index() * K::KIND.cells())
    }

    /// The place of the first cell.
    pub(super) const fn start(self) -> usize {
        self.start
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, without the suffix `_total`.
    pub name: &'static str,
    /// The help text, one line.
    pub help: &'static str,
    /// The type.
    pub kind: Kind,
    /// The names of the labels.
    pub label_names: &'static [&'static str],
    /// For each series, in order, the values of the labels.
    pub label_values: &'static [&'static str],
    /// The number of cells of all series.
    pub cells: usize,
}

impl Family {
    /// Whether the operating system counts this: such families are left out where it does not.
    pub fn is_of_process(&self) -> bool {
        self.name.starts_with("process_")
    }
}
