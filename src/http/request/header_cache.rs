//! Header blocks that were found valid before, and what they came to.
//!
//! A client sends the same fields with each of its requests. If what stands behind a request line is byte
//! for byte a block that has been read before, it means the same again, and need not be tokenized, checked
//! and interpreted anew. benches/README.md has what that saves.

use crate::http::request::headers::HeaderSummary;

/// Number of cached blocks; a new one takes the place of the one with the same hash.
const BLOCKS: u8 = 32;
/// Longest block that is remembered, in bytes.
const BLOCK_BYTES_MAX: usize = 1024;

/// The blocks of all connections.
#[derive(Debug)]
pub(super) struct HeaderCache {
    slots: [CachedHeaders; BLOCKS as usize],
}

/// A header block, from the end of the request line to the end of the head.
#[derive(Debug, Default)]
pub(super) struct CachedHeaders {
    bytes: Vec<u8>,
    summary: HeaderSummary,
}

/// Where a connection's last block may still be found. It may be another one by now: compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheSlot(u8);

impl HeaderCache {
    /// No block yet.
    pub(super) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| CachedHeaders::default()) }
    }

    /// The block that `text` begins with, if it is the one that the hint points to.
    pub(super) fn find(&self, hint: CacheSlot, text: &[u8]) -> Option<&CachedHeaders> {
        let block = self.slots.get(usize::from(hint.0))?;
        (!block.bytes.is_empty() && text.starts_with(&block.bytes)).then_some(block)
    }

    /// Remembers a block that was found valid; returns where to find it again.
    pub(super) fn insert(&mut self, bytes: &[u8], summary: &HeaderSummary) -> CacheSlot {
        let place = hash(bytes) % BLOCKS;
        let Some(block) = self.slots.get_mut(usize::from(place)) else {
            return CacheSlot::default();
        };
        if bytes.len() <= BLOCK_BYTES_MAX && block.bytes != bytes {
            block.bytes.clear();
            block.bytes.extend_from_slice(bytes);
            block.summary = *summary;
        }
        CacheSlot(place)
    }
}

impl CachedHeaders {
    /// Length in bytes, the empty line included.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What the fields come to.
    pub(super) const fn summary(&self) -> &HeaderSummary {
        &self.summary
    }
}

/// FNV-1a, eight bytes at a step: it has to be quick and to spread, and need not withstand anybody, as a
/// clash costs no more than reading a block anew.
fn hash(bytes: &[u8]) -> u8 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = words.chain(rest.iter().map(|byte| u64::from(*byte)));
    let hash = all.fold(OFFSET, |hash, word| (hash ^ word).wrapping_mul(PRIME));
    hash.to_le_bytes().last().copied().unwrap_or_default() // the byte that has seen all others
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
    fn a_block_is_found_where_it_was_put() {
        let mut slots = HeaderCache::new();
        let hint = slots.insert(b"A: b\r\n\r\n", &summary_of(b"7"));
        let block = slots.find(hint, b"A: b\r\n\r\nGET").unwrap();
        assert_eq!((block.len(), *block.summary()), (8, summary_of(b"7")));
        for other in [&b"A: b\r\n\r"[..], b"A: c\r\n\r\n", b"", b"a: b\r\n\r\n"] {
            assert!(slots.find(hint, other).is_none(), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_hint_may_be_outdated() {
        let mut slots = HeaderCache::new();
        assert!(slots.find(CacheSlot::default(), b"\r\n").is_none());
        let blocks_of = |n: usize| format!("A: {n}\r\n\r\n").into_bytes();
        let hints: Vec<CacheSlot> =
            (0..1000).map(|n| slots.insert(&blocks_of(n), &summary_of(b"1"))).collect();
        let found = (0..1000).filter(|n| slots.find(hints[*n], &blocks_of(*n)).is_some()).count();
        assert_eq!(found, usize::from(BLOCKS), "every place has the last block that was put there");
    }

    #[test]
    fn long_blocks_are_not_remembered() {
        let mut slots = HeaderCache::new();
        for (length, is_remembered) in [(BLOCK_BYTES_MAX, true), (BLOCK_BYTES_MAX + 1, false)] {
            let block = vec![b'x'; length];
            let hint = slots.insert(&block, &HeaderSummary::default());
            assert_eq!(slots.find(hint, &block).is_some(), is_remembered, "{length}");
        }
    }
}
