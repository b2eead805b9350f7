//! How long answers took: one histogram per handler; and the histogram itself.
//!
//! Buckets are not cumulative here, so that an observation is one addition; [`super::exposition`] adds them
//! up. There is no counter of observations either: it is the sum of the buckets, which is why the exposed
//! `_count` equals the bucket `+Inf` always, also while a worker goes on counting.

use crate::metrics::{Counter, Handler, add, add_each};

/// The observations above the previous bucket's bound, up to and including this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Longest duration that belongs here, in nanoseconds.
    pub upper_ns: u64,
    /// The same in seconds, as the value of the label `le`.
    ///
    /// Written as OpenMetrics wants its floats, in both formats, for a query that names a bucket must not
    /// depend on what the scraper negotiated. (Prometheus 3 rewrites them to this form anyway.)
    pub le: &'static str,
}

/// From a microsecond, which is what a table lookup takes, to seconds, which is what a huge number takes.
pub static BUCKETS: [Bucket; 23] = [
    bucket(1_000, "1e-06"),
    bucket(2_500, "2.5e-06"),
    bucket(5_000, "5e-06"),
    bucket(10_000, "1e-05"),
    bucket(25_000, "2.5e-05"),
    bucket(50_000, "5e-05"),
    bucket(100_000, "0.0001"),
    bucket(250_000, "0.00025"),
    bucket(500_000, "0.0005"),
    bucket(1_000_000, "0.001"),
    bucket(2_500_000, "0.0025"),
    bucket(5_000_000, "0.005"),
    bucket(10_000_000, "0.01"),
    bucket(25_000_000, "0.025"),
    bucket(50_000_000, "0.05"),
    bucket(100_000_000, "0.1"),
    bucket(250_000_000, "0.25"),
    bucket(500_000_000, "0.5"),
    bucket(1_000_000_000, "1.0"),
    bucket(2_500_000_000, "2.5"),
    bucket(5_000_000_000, "5.0"),
    bucket(10_000_000_000, "10.0"),
    bucket(u64::MAX, "+Inf"),
];

const fn bucket(upper_ns: u64, le: &'static str) -> Bucket {
    Bucket { upper_ns, le }
}

/// The durations of one worker's answers.
#[derive(Debug)]
#[repr(transparent)]
pub struct Durations {
    by_handler: [Histogram; Handler::ALL.len()],
}

impl Durations {
    /// No observation yet.
    pub const fn new() -> Self {
        Self { by_handler: [const { Histogram::new() }; Handler::ALL.len()] }
    }

    /// Counts `times` answers of `handler` that took `duration_ns` nanoseconds each, as the requests of one
    /// batch do: they are measured together.
    #[inline]
    pub fn observe(&self, handler: Handler, duration_ns: u64, times: u64) {
        if let Some(histogram) = self.by_handler.get(handler as usize) {
            histogram.observe(duration_ns, times);
        }
    }

    /// Adds each count to the total in the same place.
    pub(super) fn add_to(&self, totals: &mut [DurationTotals; Handler::ALL.len()]) {
        for (total, histogram) in totals.iter_mut().zip(&self.by_handler) {
            histogram.add_to(total);
        }
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self::new()
    }
}

/// Durations of one kind, summed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationTotals {
    /// Observations in each of [`BUCKETS`], not cumulative.
    pub buckets: [u64; BUCKETS.len()],
    /// Sum of all observations in nanoseconds.
    pub sum_ns: u64,
}

impl DurationTotals {
    /// No observation.
    pub const fn empty() -> Self {
        Self { buckets: [0; BUCKETS.len()], sum_ns: 0 }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// Durations of one kind.
#[derive(Debug)]
#[repr(C)]
pub struct Histogram {
    buckets: [Counter; BUCKETS.len()],
    sum_ns: Counter,
}

impl Histogram {
    /// No observation yet.
    pub const fn new() -> Self {
        Self { buckets: [const { Counter::new() }; BUCKETS.len()], sum_ns: Counter::new() }
    }

    /// Counts `times` observations of `duration_ns` nanoseconds each.
    #[inline]
    pub fn observe(&self, duration_ns: u64, times: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(duration_ns)) {
            bucket.add(times);
        }
        self.sum_ns.add(duration_ns.saturating_mul(times));
    }

    /// Adds each count to the total in the same place.
    pub(super) fn add_to(&self, totals: &mut DurationTotals) {
        add_each(&mut totals.buckets, &self.buckets);
        add(&mut totals.sum_ns, &self.sum_ns);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The place in [`BUCKETS`] of the first bound that is not below `duration_ns`.
///
/// Each bound is at least twice the one before, so at most one lies between two powers of two: the highest
/// bit of the duration leaves a single bound to compare with, and there is no search.
#[inline]
fn bucket_of(duration_ns: u64) -> usize {
    let log2 = duration_ns.checked_ilog2().unwrap_or(0) as usize;
    let candidate = FIRST_BUCKET.get(log2).copied().map_or(0, usize::from);
    let is_above = BUCKETS.get(candidate).is_some_and(|bucket| bucket.upper_ns < duration_ns);
    candidate + usize::from(is_above)
}

/// For each power of two the place of the first bound that is not below it.
static FIRST_BUCKET: [u8; u64::BITS as usize] = first_buckets();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler only, which checks the bounds"
)]
const fn first_buckets() -> [u8; u64::BITS as usize] {
    let mut first = [0; u64::BITS as usize];
    let mut log2 = 0;
    while log2 < first.len() {
        let mut place = 0;
        while BUCKETS[place as usize].upper_ns < 1 << log2 {
            place += 1;
        }
        first[log2] = place;
        log2 += 1;
    }
    first
}

const _: () = assert!(bounds_double(), "bucket_of needs bounds that at least double");

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler only, which checks the bounds"
)]
const fn bounds_double() -> bool {
    let mut place = 1;
    while place < BUCKETS.len() {
        if BUCKETS[place].upper_ns / 2 < BUCKETS[place - 1].upper_ns {
            return false;
        }
        place += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(duration_ns: u64, expected: usize) {
        assert_eq!(bucket_of(duration_ns), expected, "{duration_ns} ns");
        let searched = BUCKETS.partition_point(|bucket| bucket.upper_ns < duration_ns);
        assert_eq!(searched, expected, "{duration_ns} ns, by searching");
    }

    #[test]
    fn bounds_are_inclusive() {
        check(0, 0);
        check(1, 0);
        for (place, bucket) in BUCKETS.iter().enumerate().take(BUCKETS.len() - 1) {
            check(bucket.upper_ns - 1, place);
            check(bucket.upper_ns, place);
            check(bucket.upper_ns + 1, place + 1);
        }
        check(u64::MAX, BUCKETS.len() - 1);
    }

    #[test]
    fn powers_of_two_and_their_neighbours_find_their_bucket() {
        for power in (0..u64::BITS).map(|log2| 1_u64 << log2) {
            for duration_ns in [power - 1, power, power.saturating_add(1)] {
                check(duration_ns, BUCKETS.partition_point(|bucket| bucket.upper_ns < duration_ns));
            }
        }
    }

    #[test]
    fn labels_say_the_bounds_in_seconds() {
        let (last, finite) = BUCKETS.split_last().unwrap();
        assert_eq!(last.le, "+Inf");
        for bucket in finite {
            let bound = Duration::from_secs_f64(bucket.le.parse().unwrap());
            assert_eq!(bound, Duration::from_nanos(bucket.upper_ns), "{}", bucket.le);
        }
    }

    #[test]
    fn a_batch_is_so_many_observations() {
        let durations = Durations::new();
        durations.observe(Handler::Readyz, 2_500, 16);
        durations.observe(Handler::Readyz, 2_501, 1);
        durations.observe(Handler::None, u64::MAX, 1);
        let mut totals = [DurationTotals::empty(); Handler::ALL.len()];
        durations.add_to(&mut totals);
        let readyz = totals[Handler::Readyz as usize];
        assert_eq!((readyz.buckets[1], readyz.buckets[2], readyz.count()), (16, 1, 17));
        assert_eq!(readyz.sum_ns, 42_501);
        assert_eq!(totals[Handler::None as usize].buckets[BUCKETS.len() - 1], 1);
        assert_eq!(totals[Handler::Fibonacci as usize], DurationTotals::empty());
    }
}
