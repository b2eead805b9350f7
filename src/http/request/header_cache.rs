//! A cache of valid header blocks and their summaries.
//!
//! A client sends the same fields with each of its requests. If the bytes after a request line equal a cached block,
//! its summary is used, and the block is not tokenized, checked and interpreted again. benches/README.md has the
//! instructions that this saves.

use crate::http::request::headers::HeaderSummary;

/// Number of slots. A new block replaces the one in the slot of its hash.
const BLOCKS: u8 = 32;
/// Size of the longest block that is cached, in bytes.
const BLOCK_BYTES_MAX: usize = 1024;

/// The header blocks of all connections.
#[derive(Debug)]
pub(super) struct HeaderCache {
    slots: [CachedHeaders; BLOCKS as usize],
}

/// A cached header block: all lines after the request line, the empty line included.
#[derive(Debug, Default)]
pub(super) struct CachedHeaders {
    bytes: Vec<u8>,
    summary: HeaderSummary,
}

/// The slot of a connection's previous header block. Another block may have replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheSlot(u8);

impl HeaderCache {
    /// Creates an empty cache.
    pub(super) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| CachedHeaders::default()) }
    }

    /// Returns the block in `slot` if `text` begins with it.
    pub(super) fn find(&self, slot: CacheSlot, text: &[u8]) -> Option<&CachedHeaders> {
        let cached = self.slots.get(usize::from(slot.0))?;
        (!cached.bytes.is_empty() && text.starts_with(&cached.bytes)).then_some(cached)
    }

    /// Caches a valid block and returns its slot.
    pub(super) fn insert(&mut self, bytes: &[u8], summary: &HeaderSummary) -> CacheSlot {
        let slot = hash(bytes) % BLOCKS;
        let Some(cached) = self.slots.get_mut(usize::from(slot)) else {
            return CacheSlot::default();
        };
        if bytes.len() <= BLOCK_BYTES_MAX && cached.bytes != bytes {
            cached.bytes.clear();
            cached.bytes.extend_from_slice(bytes);
            cached.summary = *summary;
        }
        CacheSlot(slot)
    }
}

impl CachedHeaders {
    /// Length in bytes, the empty line included.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The summary of the fields.
    pub(super) const fn summary(&self) -> &HeaderSummary {
        &self.summary
    }
}

/// FNV-1a on eight bytes at a time: fast and well distributed. Collisions that a client provokes do no harm, because
/// one only costs parsing a block again.
fn hash(bytes: &[u8]) -> u8 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = words.chain(rest.iter().map(|byte| u64::from(*byte)));
    let hash = all.fold(OFFSET, |hash, word| (hash ^ word).wrapping_mul(PRIME));
    hash.to_le_bytes().last().copied().unwrap_or_default() // the byte that depends on all others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(length: &[u8]) -> HeaderSummary {
        let mut summary = HeaderSummary::default();
        summary.add("content-length", length).unwrap();
        summary
    }

    #[test]
    fn a_block_is_found_in_its_slot_if_all_bytes_are_equal() {
        let mut cache = HeaderCache::new();
        let slot = cache.insert(b"A: b\r\n\r\n", &summary_of(b"7"));
        let block = cache.find(slot, b"A: b\r\n\r\nGET").unwrap();
        assert_eq!((block.len(), *block.summary()), (8, summary_of(b"7")));
        for other in [&b"A: b\r\n\r"[..], b"A: c\r\n\r\n", b"", b"a: b\r\n\r\n"] {
            assert!(cache.find(slot, other).is_none(), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_replaced_block_is_not_found() {
        let mut cache = HeaderCache::new();
        assert!(cache.find(CacheSlot::default(), b"\r\n").is_none());
        let blocks_of = |n: usize| format!("A: {n}\r\n\r\n").into_bytes();
        let slots: Vec<CacheSlot> =
            (0..1000).map(|n| cache.insert(&blocks_of(n), &summary_of(b"1"))).collect();
        let found = (0..1000).filter(|n| cache.find(slots[*n], &blocks_of(*n)).is_some()).count();
        assert_eq!(found, usize::from(BLOCKS), "each slot has the last block that was inserted");
    }

    #[test]
    fn long_blocks_are_not_cached() {
        let mut cache = HeaderCache::new();
        for (length, is_cached) in [(BLOCK_BYTES_MAX, true), (BLOCK_BYTES_MAX + 1, false)] {
            let block = vec![b'x'; length];
            let slot = cache.insert(&block, &HeaderSummary::default());
            assert_eq!(cache.find(slot, &block).is_some(), is_cached, "{length}");
        }
    }
}
