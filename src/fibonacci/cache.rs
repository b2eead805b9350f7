//! What is known about the numbers beyond the table: those computed and kept, those being computed.
//!
//! All of them together have a bound in bytes. The number that was asked for longest ago makes room for a
//! new one, unless somebody is still being sent it: then dropping it here would free nothing.

use std::{collections::HashMap, sync::Arc};

use lru::LruCache;

use crate::fibonacci::digit_count;

/// What keeping a number costs beyond its digits, in bytes: generously.
const OVERHEAD_BYTES: usize = 256;

/// How many numbers that are being sent are passed over in search for one that can go.
const PASSED_OVER_MAX: usize = 64;

/// Numbers by n.
#[derive(Debug)]
pub struct Cache {
    kept: LruCache<u64, Arc<[u8]>>,
    /// The numbers being computed, and what is reserved for each.
    under_way: HashMap<u64, usize>,
    /// What is kept and what is reserved, in bytes.
    bytes: usize,
    bytes_max: usize,
    under_way_max: usize,
}

/// Why a number cannot be computed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// So many others are being computed already.
    Queue,
    /// Those that are being sent take all the memory.
    Memory,
}

impl Cache {
    /// Nothing known; at most `bytes_max` bytes will be kept or reserved, and `under_way_max` numbers
    /// computed at a time.
    pub fn new(bytes_max: usize, under_way_max: usize) -> Self {
        Self {
            kept: LruCache::unbounded(),
            under_way: HashMap::new(),
            bytes: 0,
            bytes_max,
            under_way_max,
        }
    }

    /// What keeping F(n) takes, in bytes.
    pub fn cost(n: u64) -> usize {
        digit_count(n).saturating_add(OVERHEAD_BYTES)
    }

    /// F(n), if it is kept.
    pub fn get(&mut self, n: u64) -> Option<&Arc<[u8]>> {
        self.kept.get(&n)
    }

    /// Whether F(n) is being computed.
    pub fn is_under_way(&self, n: u64) -> bool {
        self.under_way.contains_key(&n)
    }

    /// Reserves what F(n) needs, which is then under way until [`Self::finish`] or [`Self::abandon`].
    pub fn begin(&mut self, n: u64) -> Result<(), Rejection> {
        if self.under_way.len() >= self.under_way_max {
            return Err(Rejection::Queue);
        }
        self.begin_at_once(n)
    }

    /// The same for a number that is there at once, and takes no place in a queue.
    pub fn begin_at_once(&mut self, n: u64) -> Result<(), Rejection> {
        let cost = Self::cost(n);
        if !self.make_room(cost) {
            return Err(Rejection::Memory);
        }
        self.bytes += cost;
        self.under_way.insert(n, cost);
        Ok(())
    }

    /// Keeps F(n), which was under way.
    pub fn finish(&mut self, n: u64, digits: Arc<[u8]>) {
        if self.under_way.remove(&n).is_some() {
            self.kept.put(n, digits);
        }
    }

    /// Gives back what was reserved for F(n), which nobody computes any more.
    pub fn abandon(&mut self, n: u64) {
        self.bytes -= self.under_way.remove(&n).unwrap_or_default();
    }

    /// Bytes kept or reserved.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Numbers being computed.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Drops numbers until so many bytes are free; false if that cannot be.
    fn make_room(&mut self, bytes: usize) -> bool {
        let mut passed_over = 0;
        while self.bytes.saturating_add(bytes) > self.bytes_max {
            let Some((n, digits)) = self.kept.peek_lru() else { return false };
            let n = *n;
            if Arc::strong_count(digits) > 1 {
                passed_over += 1;
                if passed_over > PASSED_OVER_MAX {
                    return false;
                }
                self.kept.promote(&n);
            } else {
                self.kept.pop_lru();
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

    fn compute(store: &mut Cache, n: u64) -> Result<(), Rejection> {
        store.begin(n)?;
        store.finish(n, digits(n));
        Ok(())
    }

    #[test]
    fn a_number_is_under_way_and_then_kept() {
        let mut store = Cache::new(10_000, 2);
        assert!(store.get(1000).is_none() && !store.is_under_way(1000));
        store.begin(1000).unwrap();
        assert!(store.get(1000).is_none() && store.is_under_way(1000));
        assert_eq!((store.bytes(), store.under_way()), (Cache::cost(1000), 1));
        store.finish(1000, digits(1000));
        assert_eq!(store.get(1000).unwrap().len(), 209);
        assert_eq!((store.bytes(), store.under_way()), (Cache::cost(1000), 0));
    }

    #[test]
    fn the_one_asked_for_longest_ago_makes_room() {
        let mut store = Cache::new(3 * Cache::cost(1000), 8);
        for n in [998, 999, 1000] {
            compute(&mut store, n).unwrap();
        }
        assert!(store.get(998).is_some());
        compute(&mut store, 997).unwrap();
        let kept: Vec<u64> = (996..1001).filter(|n| store.get(*n).is_some()).collect();
        assert_eq!(kept, [997, 998, 1000]);
        assert!(store.bytes() <= 3 * Cache::cost(1000));
    }

    #[test]
    fn what_is_being_sent_is_neither_dropped_nor_exceeded() {
        let mut store = Cache::new(2 * Cache::cost(1000), 8);
        compute(&mut store, 999).unwrap();
        let sending = Arc::clone(store.get(999).unwrap());
        compute(&mut store, 1000).unwrap();
        let sending_too = Arc::clone(store.get(1000).unwrap());
        assert_eq!(store.begin(998), Err(Rejection::Memory));
        assert!(store.get(999).is_some() && store.get(1000).is_some());
        drop(sending);
        compute(&mut store, 998).unwrap();
        assert!(store.get(999).is_none() && store.get(1000).is_some());
        drop(sending_too);
    }

    #[test]
    fn the_search_for_room_is_bounded() {
        let count = PASSED_OVER_MAX as u64 + 1;
        let mut store = Cache::new((1000..1001 + count).map(Cache::cost).sum(), 8);
        compute(&mut store, 1000).unwrap();
        let sent: Vec<_> = (1001..1001 + count)
            .map(|n| {
                compute(&mut store, n).unwrap();
                Arc::clone(store.get(n).unwrap())
            })
            .collect();
        store.get(1000); // behind more of those being sent than are passed over
        assert_eq!(store.begin(2000), Err(Rejection::Memory));
        drop(sent);
        store.begin(2000).unwrap();
    }

    #[test]
    fn what_is_under_way_is_bounded_and_counts() {
        let mut store = Cache::new(10 * Cache::cost(1000), 2);
        store.begin(1000).unwrap();
        store.begin(1001).unwrap();
        assert_eq!(store.begin(1002), Err(Rejection::Queue));
        assert_eq!(store.begin_at_once(1003), Ok(()));
        store.finish(1003, digits(1003));
        store.abandon(1000);
        assert_eq!(store.bytes(), Cache::cost(1001) + Cache::cost(1003));
        store.begin(1002).unwrap();
        let mut small = Cache::new(Cache::cost(1000), 2);
        small.begin(1000).unwrap();
        assert_eq!(small.begin(1001), Err(Rejection::Memory));
    }
}
