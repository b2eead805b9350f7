//! The cache of computed numbers: least recently used out first, within a bound in bytes.
//!
//! The digits of a number and its gzip format are separate entries. One that is still being sent is not evicted,
//! because that would free nothing.

use std::sync::Arc;

use lru::LruCache;

use crate::fibonacci::{digit_count, gzip_bytes_max};

/// Memory that a cached number takes beyond its digits, in bytes: a generous estimate.
const OVERHEAD_BYTES: usize = 256;

/// Maximum number of entries in use that one search for room skips.
const SKIPPED_MAX: usize = 64;

/// A form in which a number is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CachedForm {
    /// Its digits.
    Digits,
    /// Its digits in the gzip format.
    Gzip,
}

/// F(n) in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// The index.
    pub n: u64,
    /// The form.
    pub form: CachedForm,
}

impl CacheKey {
    /// The digits of F(n).
    pub const fn digits(n: u64) -> Self {
        Self { n, form: CachedForm::Digits }
    }

    /// F(n) in the gzip format.
    pub const fn gzip(n: u64) -> Self {
        Self { n, form: CachedForm::Gzip }
    }
}

/// Computed numbers.
#[derive(Debug)]
pub struct Cache {
    cached: LruCache<CacheKey, Arc<[u8]>>,
    /// Bytes cached or reserved.
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// Returns an empty cache that holds and reserves at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { cached: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    /// Memory that an entry takes, in bytes. For the gzip format it is the maximum, which is less than a thousandth
    /// more.
    pub fn cost(key: CacheKey) -> usize {
        let bytes = match key.form {
            CachedForm::Digits => digit_count(key.n),
            CachedForm::Gzip => gzip_bytes_max(digit_count(key.n)),
        };
        bytes.saturating_add(OVERHEAD_BYTES)
    }

    /// An entry, if it is cached. It becomes the most recently used.
    pub fn get(&mut self, key: CacheKey) -> Option<&Arc<[u8]>> {
        self.cached.get(&key)
    }

    /// Reserves the memory for an entry, evicting others if needed. Returns false if that does not suffice.
    /// Exactly one call of [`Self::insert`] or [`Self::cancel`] must follow a success.
    #[must_use]
    pub fn reserve(&mut self, key: CacheKey) -> bool {
        let cost = Self::cost(key);
        // Digits that are being coded cannot be evicted, so nothing is evicted in vain for what does not fit beside
        // them.
        let coded = match key.form {
            CachedForm::Digits => 0,
            CachedForm::Gzip => Self::cost(CacheKey::digits(key.n)),
        };
        let fits = cost.saturating_add(coded) <= self.bytes_max && self.evict_until_free(cost);
        if fits {
            self.bytes += cost;
        }
        fits
    }

    /// Inserts an entry, whose memory is reserved.
    pub fn insert(&mut self, key: CacheKey, content: Arc<[u8]>) {
        self.cached.put(key, content);
    }

    /// Releases the memory reserved for an entry.
    pub fn cancel(&mut self, key: CacheKey) {
        self.bytes = self.bytes.saturating_sub(Self::cost(key));
    }

    /// Bytes cached or reserved.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicts entries until `bytes` more fit. Returns false if they cannot.
    fn evict_until_free(&mut self, bytes: usize) -> bool {
        let mut skipped = 0;
        while self.bytes.saturating_add(bytes) > self.bytes_max {
            let Some((key, content)) = self.cached.peek_lru() else { return false };
            let key = *key;
            if Arc::strong_count(content) > 1 {
                skipped += 1;
                if skipped > SKIPPED_MAX {
                    return false;
                }
                self.cached.promote(&key);
            } else {
                self.cached.pop_lru();
                self.bytes -= Self::cost(key);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fibonacci::MAX_N;

    fn digits(n: u64) -> Arc<[u8]> {
        vec![b'1'; digit_count(n)].into()
    }

    fn compute(cache: &mut Cache, n: u64) -> bool {
        let fits = cache.reserve(CacheKey::digits(n));
        if fits {
            cache.insert(CacheKey::digits(n), digits(n));
        }
        fits
    }

    fn cost(n: u64) -> usize {
        Cache::cost(CacheKey::digits(n))
    }

    #[test]
    fn each_form_is_an_entry_of_its_own() {
        let mut cache = Cache::new(10_000);
        assert!(compute(&mut cache, 1000));
        let gzip = CacheKey::gzip(1000);
        assert!(cache.get(gzip).is_none());
        assert!(cache.reserve(gzip));
        assert_eq!(cache.bytes(), cost(1000) + Cache::cost(gzip));
        let content = crate::fibonacci::gzip(&digits(1000));
        assert!(content.len() + OVERHEAD_BYTES <= Cache::cost(gzip));
        cache.insert(gzip, content);
        assert!(cache.get(gzip).is_some() && cache.get(CacheKey::digits(1000)).is_some());
        let mut small = Cache::new(Cache::cost(gzip) + cost(1000));
        assert!(small.reserve(gzip) && small.reserve(CacheKey::digits(1000)));
        assert!(!small.reserve(gzip));
        small.cancel(gzip);
        small.cancel(CacheKey::digits(1000));
        let mut smaller = Cache::new(Cache::cost(gzip) + cost(1000) - 1);
        assert!(!smaller.reserve(gzip), "the digits, which cannot be evicted, take the rest");
        assert_eq!(small.bytes(), 0);
    }

    #[test]
    fn a_number_is_reserved_and_then_cached() {
        let mut cache = Cache::new(10_000);
        assert!(cache.get(CacheKey::digits(1000)).is_none());
        assert!(cache.reserve(CacheKey::digits(1000)));
        assert!(cache.get(CacheKey::digits(1000)).is_none());
        assert_eq!(cache.bytes(), cost(1000));
        cache.insert(CacheKey::digits(1000), digits(1000));
        assert_eq!(cache.get(CacheKey::digits(1000)).unwrap().len(), 209);
        assert_eq!(cache.bytes(), cost(1000));
    }

    #[test]
    fn the_least_recently_used_is_evicted() {
        let mut cache = Cache::new(3 * cost(1000));
        for n in [998, 999, 1000] {
            assert!(compute(&mut cache, n));
        }
        assert!(cache.get(CacheKey::digits(998)).is_some());
        assert!(compute(&mut cache, 997));
        let cached: Vec<u64> =
            (996..1001).filter(|n| cache.get(CacheKey::digits(*n)).is_some()).collect();
        assert_eq!(cached, [997, 998, 1000]);
        assert!(cache.bytes() <= 3 * cost(1000));
    }

    #[test]
    fn the_largest_number_evicts_no_more_than_it_needs() {
        let (largest, others) = (cost(MAX_N), 1_000_000..1_000_200_u64);
        let mut cache = Cache::new(2 * largest);
        for n in others.clone() {
            assert!(compute(&mut cache, n));
        }
        assert!(cache.bytes() > 2 * largest - cost(1_000_200), "full");
        assert!(cache.reserve(CacheKey::digits(MAX_N)));
        let kept = others.filter(|n| cache.get(CacheKey::digits(*n)).is_some()).count();
        assert!((99..=100).contains(&kept), "{kept}");
        // A second one finds room, and a third one does not while both are being computed.
        assert!(cache.reserve(CacheKey::digits(MAX_N - 1)));
        assert!(!cache.reserve(CacheKey::digits(MAX_N - 2)));
        assert_eq!(cache.bytes(), largest + cost(MAX_N - 1));
    }

    #[test]
    fn numbers_being_sent_are_not_evicted_and_count() {
        let mut cache = Cache::new(2 * cost(1000));
        assert!(compute(&mut cache, 999));
        let sending = Arc::clone(cache.get(CacheKey::digits(999)).unwrap());
        assert!(compute(&mut cache, 1000));
        let sending_too = Arc::clone(cache.get(CacheKey::digits(1000)).unwrap());
        assert!(!cache.reserve(CacheKey::digits(998)));
        assert!(
            cache.get(CacheKey::digits(999)).is_some()
                && cache.get(CacheKey::digits(1000)).is_some()
        );
        drop(sending);
        assert!(compute(&mut cache, 998));
        assert!(
            cache.get(CacheKey::digits(999)).is_none()
                && cache.get(CacheKey::digits(1000)).is_some()
        );
        drop(sending_too);
    }

    #[test]
    fn the_search_for_room_is_bounded() {
        let count = SKIPPED_MAX as u64 + 1;
        let mut cache = Cache::new((1000..1001 + count).map(cost).sum());
        assert!(compute(&mut cache, 1000));
        let sent: Vec<_> = (1001..1001 + count)
            .map(|n| {
                assert!(compute(&mut cache, n));
                Arc::clone(cache.get(CacheKey::digits(n)).unwrap())
            })
            .collect();
        cache.get(CacheKey::digits(1000)); // after more numbers in use than one search skips
        assert!(!cache.reserve(CacheKey::digits(2000)));
        drop(sent);
        assert!(cache.reserve(CacheKey::digits(2000)));
    }

    #[test]
    fn reservations_count_and_can_be_cancelled() {
        let mut cache = Cache::new(cost(1000) + cost(1001));
        assert!(cache.reserve(CacheKey::digits(1000)) && cache.reserve(CacheKey::digits(1001)));
        assert!(!cache.reserve(CacheKey::digits(1002)));
        cache.cancel(CacheKey::digits(1000));
        assert_eq!(cache.bytes(), cost(1001));
        assert!(cache.reserve(CacheKey::digits(1000)));
        cache.insert(CacheKey::digits(1000), digits(1000));
        assert_eq!(cache.bytes(), cost(1000) + cost(1001));
    }
}
