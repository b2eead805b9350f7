//! The buckets of the histograms of durations.
//!
//! The cells of a histogram are not cumulative, so that an observation is one addition; the exposition adds them
//! up. There is no counter of observations either: it is the sum of the buckets, which is why the exposed
//! `_count` always equals the bucket `+Inf`, also while a worker continues counting.

/// The range above the previous bucket's bound, up to and including this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The longest duration in this bucket, in nanoseconds.
    pub upper_ns: u64,
    /// The same in seconds, as the value of the label `le`.
    ///
    /// Both formats have the floats of OpenMetrics: a query that names a bucket must not depend on the
    /// negotiated format. (Prometheus 3 rewrites them to this form anyway.)
    pub le: &'static str,
}

/// From a microsecond, which a table lookup takes, to seconds, which a huge number takes.
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

/// The place in [`BUCKETS`] of the first bound that is not below `duration_ns`.
///
/// Each bound is at least twice the previous one, so at most one is between two powers of two. The highest
/// bit of the duration leaves a single bound to compare with, and there is no search.
#[inline]
pub(super) fn bucket_of(duration_ns: u64) -> usize {
    let log2 = duration_ns.checked_ilog2().unwrap_or(0) as usize;
    let candidate = FIRST_BUCKET.get(log2).copied().map_or(0, usize::from);
    let is_above = BUCKETS.get(candidate).is_some_and(|bucket| bucket.upper_ns < duration_ns);
    candidate + usize::from(is_above)
}

/// For each power of two the place of the first bound that is not below it.
static FIRST_BUCKET: [u8; u64::BITS as usize] = first_buckets();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
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
    fn each_bound_is_at_least_twice_the_previous_one() {
        for pair in BUCKETS.windows(2) {
            assert!(pair[1].upper_ns / 2 >= pair[0].upper_ns, "{}", pair[1].le);
        }
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
    fn labels_are_the_bounds_in_seconds() {
        let (last, finite) = BUCKETS.split_last().unwrap();
        assert_eq!(last.le, "+Inf");
        for bucket in finite {
            let bound = Duration::from_secs_f64(bucket.le.parse().unwrap());
            assert_eq!(bound, Duration::from_nanos(bucket.upper_ns), "{}", bucket.le);
        }
    }
}
