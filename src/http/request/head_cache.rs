//! A cache of valid heads. A head that differs from a cached one only in the last segment of its path needs no parsing.
//!
//! A client sends the same fields with each of its requests, and most of its paths have the same start. What such heads
//! have in common is compared, not tokenized, checked and interpreted again. benches/README.md has the instructions
//! that this saves.

use crate::http::{
    Method, Span,
    request::{
        limits::Limits,
        parsed::Request,
        target::{self, Target},
    },
};

/// Number of slots. A new head replaces the one in the slot of its hash.
const HEADS: u8 = 32;
/// Size of the longest head that is cached, in bytes.
const HEAD_BYTES_MAX: usize = 1024;

const END_OF_LINE: &[u8] = b" HTTP/1.1\r\n";

/// The heads of all connections.
#[derive(Debug)]
pub(super) struct HeadCache {
    slots: [CachedHead; HEADS as usize],
}

/// What a cached head has in common with those like it.
#[derive(Debug, Default)]
struct CachedHead {
    /// The request line up to the last slash of the path.
    start: Vec<u8>,
    /// The lines after the request line, the empty line included.
    fields: Vec<u8>,
    /// The request, if there is one. Only its target and the length of its head depend on the last segment.
    request: Option<Request>,
    /// Length of the longest last segment that the limits allow.
    segment_bytes_max: usize,
}

/// The slot of a connection's previous head. Another head may have replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheSlot(u8);

impl HeadCache {
    /// Creates an empty cache.
    pub(super) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| CachedHead::default()) }
    }

    /// Parses the head at the front of `bytes` if it is like the one in `slot`.
    #[inline]
    pub(super) fn parse(&self, slot: CacheSlot, bytes: &[u8]) -> Option<Request> {
        self.slots.get(usize::from(slot.0))?.parse(bytes)
    }

    /// Caches a valid head that ends with these fields and the empty line, if others like it can be parsed by
    /// comparison. Returns its slot.
    ///
    /// It must be short, and its target a path without escapes and query. Responses to HEAD have no content, which
    /// `HeadScanner::is_head_method` must know, should the body be rejected.
    pub(super) fn insert(
        &mut self,
        (head, fields): (&[u8], &[u8]),
        request: &Request,
        limits: &Limits,
    ) -> Option<CacheSlot> {
        let line = head.strip_suffix(fields)?.strip_suffix(END_OF_LINE)?;
        let path_start = path_start(request);
        let start = line.get(..=memchr::memrchr(b'/', line)?)?;
        let segment = line.get(start.len()..)?;
        if request.target != Target::Path(Span::new(path_start, line.len()))
            || head.len() > HEAD_BYTES_MAX
            || request.method == Method::Head
            || target::plain_run(segment) < segment.len()
        {
            return None;
        }
        let target_bytes_left = limits.target_bytes.checked_sub(start.len() - path_start)?;
        let head_bytes_left = limits.head_bytes.checked_sub(head.len() - segment.len())?;
        let slot = hash(fields) % HEADS;
        let cached = self.slots.get_mut(usize::from(slot))?;
        cached.start.clear();
        cached.start.extend_from_slice(start);
        cached.fields.clear();
        cached.fields.extend_from_slice(fields);
        cached.request = Some(*request);
        cached.segment_bytes_max = target_bytes_left.min(head_bytes_left);
        Some(CacheSlot(slot))
    }
}

impl CachedHead {
    fn parse(&self, bytes: &[u8]) -> Option<Request> {
        let request = self.request.as_ref()?;
        let from_segment = bytes.strip_prefix(self.start.as_slice())?;
        let segment_bytes = target::plain_run(from_segment);
        let fields = from_segment.get(segment_bytes..)?.strip_prefix(END_OF_LINE)?;
        if segment_bytes > self.segment_bytes_max || !fields.starts_with(&self.fields) {
            return None;
        }
        let path_end = self.start.len() + segment_bytes;
        Some(Request {
            target: Target::Path(Span::new(path_start(request), path_end)),
            head_bytes: path_end + END_OF_LINE.len() + self.fields.len(),
            ..*request
        })
    }
}

/// Where the target begins.
const fn path_start(request: &Request) -> usize {
    request.method.as_str().len() + 1
}

/// FNV-1a on eight bytes at a time: fast and well distributed. Collisions that a client provokes do no harm, because
/// one only costs parsing a head again.
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
    use crate::http::request::{head::Parser, scan::HeadScanner};

    const LIMITS: Limits =
        Limits { head_bytes: 2000, target_bytes: 40, fields: 8, body_bytes: 9, pipelined: 8 };

    fn head(line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    /// Parses a head with the cache, and returns it with the slot if it is cached.
    fn cached(cache: &mut HeadCache, head: &str) -> Option<CacheSlot> {
        let request = parse(head);
        let mut scan = HeadScanner::default();
        let complete = scan.find_end(head.as_bytes(), &LIMITS).unwrap().unwrap();
        cache.insert((complete.bytes, complete.header_block), &request, &LIMITS)
    }

    fn parse(head: &str) -> Request {
        Parser::new(LIMITS).parse(head.as_bytes(), &mut HeadScanner::default()).unwrap().unwrap()
    }

    #[test]
    fn heads_that_differ_in_the_last_segment_are_parsed_by_comparison() {
        for fields in ["", "Connection: close\r\n", "Content-Length: 7\r\nExpect: 100-continue\r\n"]
        {
            for method in ["GET", "POST", "OPTIONS"] {
                let mut cache = HeadCache::new();
                let slot = cached(&mut cache, &head(&format!("{method} /a/b/1"), fields)).unwrap();
                for segment in ["", "1", "20", "x-y~z:@", "0123456789012345678901234567890123"] {
                    let head = head(&format!("{method} /a/b/{segment}"), fields);
                    let more = format!("{head}GET /");
                    assert_eq!(cache.parse(slot, more.as_bytes()), Some(parse(&head)), "{head}");
                }
            }
        }
    }

    #[test]
    fn other_heads_are_not() {
        let mut cache = HeadCache::new();
        let like = head("GET /a/1", "A: b\r\n");
        let slot = cached(&mut cache, &like).unwrap();
        assert!(cache.parse(slot, like.as_bytes()).is_some());
        assert!(cache.parse(CacheSlot(slot.0 ^ 1), like.as_bytes()).is_none(), "another slot");
        for other in [
            head("GET /a/1", "A: c\r\n"),
            head("GET /a/1", "a: b\r\n"),
            head("GET /b/1", "A: b\r\n"),
            head("PUT /a/1", "A: b\r\n"),
            head("GET /a/1?", "A: b\r\n"),
            head("GET /a/%31", "A: b\r\n"),
            head("GET /a/1 ", "A: b\r\n"),
            head("GET /a/\u{1}", "A: b\r\n"),
            head(&format!("GET /a/{}", "1".repeat(38)), "A: b\r\n"),
            like.replace("HTTP/1.1", "HTTP/1.0"),
            like.replace("HTTP/1.1\r", "HTTP/1.1"),
            format!("\r\n{like}"),
            like[..like.len() - 1].to_owned(),
            String::new(),
        ] {
            assert_eq!(cache.parse(slot, other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn heads_that_cannot_be_compared_are_not_cached() {
        let padded = |length: usize| {
            let fields = format!("A: {}\r\n", "x".repeat(length));
            head("GET /1", &fields)
        };
        let padding = HEAD_BYTES_MAX - padded(0).len();
        for (head, is_cached) in [
            (padded(padding), true),
            (padded(padding + 1), false),
            (head("HEAD /1", ""), false),
            (head("GET /1?", ""), false),
            (head("GET /%31", ""), false),
            (head("GET http://a/1", ""), false),
            (head("GET http://a", ""), false),
            (head("OPTIONS *", ""), false),
            (head("CONNECT a:1", ""), false),
            (head("GET /1", "").replace("1.1", "1.0"), false),
            (format!("\r\n{}", head("GET /1", "")), false),
        ] {
            assert_eq!(cached(&mut HeadCache::new(), &head).is_some(), is_cached, "{head:?}");
        }
    }

    #[test]
    fn the_limit_of_the_head_includes_the_segment() {
        let limits = Limits { head_bytes: head("GET /12", "").len(), ..LIMITS };
        let (mut parser, mut scan) = (Parser::new(limits), HeadScanner::default());
        for (target, fits) in [("/1", true), ("/12", true), ("/123", false)] {
            let head = head(&format!("GET {target}"), "");
            assert_eq!(parser.parse(head.as_bytes(), &mut scan).is_ok(), fits, "{target}");
            scan.restart();
        }
    }

    #[test]
    fn a_replaced_head_is_not_found() {
        let mut cache = HeadCache::new();
        let heads: Vec<String> =
            (0..1000).map(|n| head("GET /1", &format!("A: {n}\r\n"))).collect();
        let slots: Vec<CacheSlot> =
            heads.iter().map(|head| cached(&mut cache, head).unwrap()).collect();
        let is_found =
            |(head, slot): &(&String, &CacheSlot)| cache.parse(**slot, head.as_bytes()).is_some();
        let found = heads.iter().zip(&slots).filter(is_found).count();
        assert_eq!(found, usize::from(HEADS), "each slot has the last head that was inserted");
    }
}
