//! Bytes to be written: rendered responses, then possibly one body that is shared instead of copied.

use std::sync::Arc;

use crate::http::Span;

/// Rendered bytes, then a shared body, and how much of both has been written. What follows a shared body becomes
/// rendered bytes once the body has been written.
///
/// Invariant: `sent` is at most the total length. Once everything is sent, all fields are empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    shared: Option<SharedBody>,
    pub(super) sent: usize,
}

/// The bytes of a shared body that `span` selects, and what follows them.
#[derive(Debug)]
struct SharedBody {
    bytes: Arc<[u8]>,
    span: Span,
    tail: &'static [u8],
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), shared: None, sent: 0 }
    }

    /// Appends the bytes of a shared body that `span` selects, and `tail`. Nothing may follow them.
    pub(super) fn share(&mut self, bytes: &Arc<[u8]>, span: Span, tail: &'static [u8]) {
        debug_assert!(self.shared.is_none(), "a shared body ends the batch");
        self.shared = Some(SharedBody { bytes: Arc::clone(bytes), span, tail });
    }

    /// Whether nothing more can be appended.
    pub(super) const fn is_ended(&self) -> bool {
        self.shared.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() + self.shared_bytes().len()
    }

    /// The bytes not written yet, in order. Either segment may be empty.
    pub(super) fn segments(&self) -> [&[u8]; 2] {
        let shared_sent = self.sent.saturating_sub(self.bytes.len());
        [
            self.bytes.get(self.sent..).unwrap_or_default(),
            self.shared_bytes().get(shared_sent..).unwrap_or_default(),
        ]
    }

    /// Records that `count` more bytes have been written.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        let length = self.bytes.len() + self.shared_bytes().len();
        debug_assert!(self.sent <= length, "more sent than there was");
        if self.sent >= length {
            self.bytes.clear();
            self.sent = 0;
            if let Some(shared) = self.shared.take() {
                self.bytes.extend_from_slice(shared.tail);
            }
        }
    }

    /// Number of rendered bytes that have been written and can be dropped.
    pub(super) fn used(&self) -> usize {
        self.sent.min(self.bytes.len())
    }

    fn shared_bytes(&self) -> &[u8] {
        self.shared.as_ref().map(|shared| shared.span.of(&shared.bytes)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_segments_are_written_in_order_in_any_pieces() {
        for step in 1..=12 {
            let mut outbox = Outbox::new();
            outbox.bytes.extend_from_slice(b"head");
            outbox.share(&Arc::from(&b"a body."[..]), Span::new(2, 6), b" end");
            let mut written = Vec::new();
            while !outbox.is_empty() {
                let mut piece = outbox.segments().concat();
                piece.truncate(step);
                outbox.advance(piece.len());
                written.extend(piece);
            }
            assert_eq!(written, b"headbody end");
            assert!(!outbox.is_ended() && outbox.segments().concat().is_empty());
        }
    }
}
