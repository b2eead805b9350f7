//! Prepared transforms: preparing one takes as long as using it a few times.

use crate::fibonacci::transform::Transform;

/// Points of all cached transforms together: some 40 MB. One computation at the cap needs 786,000.
const POINTS_MAX: usize = 1 << 20;

/// Transforms by length, in the order of their last use.
#[derive(Default)]
pub(super) struct TransformCache {
    cached: Vec<Transform>,
}

impl TransformCache {
    /// Returns the transform for sequences of up to `count` integers. Evicts the least recently used ones.
    pub(super) fn at_least(&mut self, count: usize) -> &Transform {
        let length = fast_length(count);
        let position = self.cached.iter().position(|cached| cached.length() == length as usize);
        let transform =
            position.map_or_else(|| Transform::new(length), |index| self.cached.remove(index));
        while self.points() + transform.length() > POINTS_MAX && !self.cached.is_empty() {
            self.cached.remove(0);
        }
        self.cached.push_mut(transform)
    }

    fn points(&self) -> usize {
        self.cached.iter().map(Transform::length).sum()
    }
}

/// A length from `count` up, at most a fifth more, that has small prime factors only.
///
/// Five lengths for each power of two: more would save a few per cent in a run but be reused less often.
fn fast_length(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX / 2).max(9);
    let power = count.next_power_of_two();
    let shorter = [9, 10, 12, 14].map(|sixteenths| power / 16 * sixteenths);
    shorter.into_iter().find(|&length| length >= count).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_long_enough_and_not_much_longer() {
        for count in 1..100_000 {
            let length = fast_length(count) as usize;
            assert!(length >= count, "{count}");
            assert!(length <= (count + count / 5 + 1).max(16), "{count}: {length}");
        }
    }

    #[test]
    fn the_size_of_the_cache_is_bounded() {
        let mut transforms = TransformCache::default();
        for count in [1_000, 300_000, 2_000, 400_000, 300_000, 500_000, 1_000, POINTS_MAX] {
            assert!(transforms.at_least(count).length() >= count);
            assert!(transforms.points() <= POINTS_MAX || transforms.cached.len() == 1);
        }
    }
}
