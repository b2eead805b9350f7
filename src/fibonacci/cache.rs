//! The cache of computed numbers: least recently used out first, within a bound in bytes.
//!
//! A number that is still being sent is not evicted, because that would free nothing.

use std::sync::Arc;

use lru::LruCache;

use crate::fibonacci::digit_count;

/// Memory that a cached number takes beyond its digits, in bytes: a generous estimate.
const OVERHEAD_BYTES: usize = 256;

/// Maximum number of entries in use that one search for room skips.
const SKIPPED_MAX: usize = 64;

/// Computed numbers by n.
#[derive(Debug)]
pub struct Cache {
    cached: LruCache<u64, Arc<[u8]>>,
    /// Bytes cached or reserved.
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// Returns an empty cache that holds and reserves at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { cached: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    /// Memory that F(n) takes in the cache, in bytes.
    pub fn cost(n: u64) -> usize {
        digit_count(n).saturating_add(OVERHEAD_BYTES)
    }

    /// F(n), if it is cached. It becomes the most recently used.
    pub fn get(&mut self, n: u64) -> Option<&Arc<[u8]>> {
        self.cached.get(&n)
    }

    /// Reserves the memory for F(n), evicting other numbers if needed. Returns false if that does not suffice.
    /// Exactly one call of [`Self::insert`] or [`Self::cancel`] must follow a success.
    #[must_use]
    pub fn reserve(&mut self, n: u64) -> bool {
        let cost = Self::cost(n);
        let fits = self.evict_until_free(cost);
        if fits {
            self.bytes += cost;
        }
        fits
    }

    /// Inserts F(n), whose memory is reserved.
    pub fn insert(&mut self, n: u64, digits: Arc<[u8]>) {
        self.cached.put(n, digits);
    }

    /// Releases the memory reserved for F(n).
    pub fn cancel(&mut self, n: u64) {
        self.bytes = self.bytes.saturating_sub(Self::cost(n));
    }

    /// Bytes cached or reserved.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicts numbers until `bytes` more fit. Returns false if they cannot.
    fn evict_until_free(&mut self, bytes: usize) -> bool {
        let mut skipped = 0;
        while self.bytes.saturating_add(bytes) > self.bytes_max {
            let Some((n, digits)) = self.cached.peek_lru() else { return false };
            let n = *n;
            if Arc::strong_count(digits) > 1 {
                skipped += 1;
                if skipped > SKIPPED_MAX {
                    return false;
                }
                self.cached.promote(&n);
            } else {
                self.cached.pop_lru();
                self.bytes -= Self::cost(n);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(n: u64) -> Arc<[u8]> {
        vec![b'1'; digit_count(n)].into()
    }

    fn compute(cache: &mut Cache, n: u64) -> bool {
        let fits = cache.reserve(n);
        if fits {
            cache.insert(n, digits(n));
        }
        fits
    }

    #[test]
    fn a_number_is_reserved_and_then_cached() {
        let mut cache = Cache::new(10_000);
        assert!(cache.get(1000).is_none());
        assert!(cache.reserve(1000));
        assert!(cache.get(1000).is_none());
        assert_eq!(cache.bytes(), Cache::cost(1000));
        cache.insert(1000, digits(1000));
        assert_eq!(cache.get(1000).unwrap().len(), 209);
        assert_eq!(cache.bytes(), Cache::cost(1000));
    }

    #[test]
    fn the_least_recently_used_is_evicted() {
        let mut cache = Cache::new(3 * Cache::cost(1000));
        for n in [998, 999, 1000] {
            assert!(compute(&mut cache, n));
        }
        assert!(cache.get(998).is_some());
        assert!(compute(&mut cache, 997));
        let cached: Vec<u64> = (996..1001).filter(|n| cache.get(*n).is_some()).collect();
        assert_eq!(cached, [997, 998, 1000]);
        assert!(cache.bytes() <= 3 * Cache::cost(1000));
    }

    #[test]
    fn numbers_being_sent_are_not_evicted_and_count() {
        let mut cache = Cache::new(2 * Cache::cost(1000));
        assert!(compute(&mut cache, 999));
        let sending = Arc::clone(cache.get(999).unwrap());
        assert!(compute(&mut cache, 1000));
        let sending_too = Arc::clone(cache.get(1000).unwrap());
        assert!(!cache.reserve(998));
        assert!(cache.get(999).is_some() && cache.get(1000).is_some());
        drop(sending);
        assert!(compute(&mut cache, 998));
        assert!(cache.get(999).is_none() && cache.get(1000).is_some());
        drop(sending_too);
    }

    #[test]
    fn the_search_for_room_is_bounded() {
        let count = SKIPPED_MAX as u64 + 1;
        let mut cache = Cache::new((1000..1001 + count).map(Cache::cost).sum());
        assert!(compute(&mut cache, 1000));
        let sent: Vec<_> = (1001..1001 + count)
            .map(|n| {
                assert!(compute(&mut cache, n));
                Arc::clone(cache.get(n).unwrap())
            })
            .collect();
        cache.get(1000); // after more numbers in use than one search skips
        assert!(!cache.reserve(2000));
        drop(sent);
        assert!(cache.reserve(2000));
    }

    #[test]
    fn reservations_count_and_can_be_cancelled() {
        let mut cache = Cache::new(Cache::cost(1000) + Cache::cost(1001));
        assert!(cache.reserve(1000) && cache.reserve(1001));
        assert!(!cache.reserve(1002));
        cache.cancel(1000);
        assert_eq!(cache.bytes(), Cache::cost(1001));
        assert!(cache.reserve(1000));
        cache.insert(1000, digits(1000));
        assert_eq!(cache.bytes(), Cache::cost(1000) + Cache::cost(1001));
    }
}
