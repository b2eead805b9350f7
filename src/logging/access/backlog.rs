//! Lines waiting to be written, and which of them are dropped after a partial write.

/// Whole lines, possibly preceded by the rest of a line that was written in part.
///
/// Invariant: `partial_bytes` is zero or the position after a line end.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) bytes: Vec<u8>,
    /// Bytes at the front that complete a line whose beginning has been written.
    partial_bytes: usize,
}

impl Backlog {
    /// Removes the first `count` bytes, which have been written, and drops the rest, as no more can be written now.
    /// Returns the number of lines dropped. The rest of a line that was written in part stays, so that the next line
    /// does not continue it.
    pub(super) fn advance(&mut self, count: usize) -> u64 {
        let written = self.bytes.get(..count).unwrap_or(&self.bytes);
        let retained = if count < self.partial_bytes {
            self.partial_bytes
        } else if written.last().is_none_or(|byte| *byte == b'\n') {
            written.len()
        } else {
            let rest = self.bytes.get(count..).unwrap_or_default();
            count + memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
        };
        let dropped = self.bytes.get(retained..).unwrap_or_default();
        let dropped = memchr::memchr_iter(b'\n', dropped).count() as u64;
        self.bytes.truncate(retained);
        self.bytes.drain(..count.min(retained));
        self.partial_bytes = self.bytes.len();
        dropped
    }

    /// Discards the rest of a line that was written in part, before the destination changes. Returns the number of
    /// lines discarded.
    pub(super) fn discard_partial(&mut self) -> u64 {
        let is_partial = self.partial_bytes > 0;
        self.bytes.drain(..self.partial_bytes);
        self.partial_bytes = 0;
        u64::from(is_partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"one\ntwo\nthree\n";

    fn check(count: usize, dropped: u64, kept: &str) -> Backlog {
        let mut backlog = Backlog { bytes: LINES.to_vec(), partial_bytes: 0 };
        assert_eq!(backlog.advance(count), dropped, "{count}");
        assert_eq!(str::from_utf8(&backlog.bytes).unwrap(), kept, "{count}");
        backlog
    }

    #[test]
    fn whole_lines_are_dropped_and_a_partial_line_is_kept() {
        check(LINES.len(), 0, "");
        check(0, 3, "");
        check(4, 2, "");
        check(8, 1, "");
        check(1, 2, "ne\n");
        check(3, 2, "\n");
        check(9, 0, "hree\n");
    }

    #[test]
    fn the_rest_of_a_partial_line_is_written_first() {
        let mut backlog = check(1, 2, "ne\n");
        for (count, dropped, kept) in [(0, 1, "ne\n"), (1, 1, "e\n"), (2, 1, ""), (5, 0, "")] {
            backlog.bytes.extend_from_slice(b"next\n");
            assert_eq!(backlog.advance(count), dropped);
            assert_eq!(str::from_utf8(&backlog.bytes).unwrap(), kept);
        }
    }

    #[test]
    fn a_partial_line_can_be_discarded() {
        let mut backlog = check(1, 2, "ne\n");
        backlog.bytes.extend_from_slice(b"next\n");
        assert_eq!((backlog.discard_partial(), backlog.discard_partial()), (1, 0));
        assert_eq!(backlog.bytes, b"next\n");
    }

    /// However much each write accepts, the output is whole lines in order, and every line is written or counted as
    /// dropped.
    #[test]
    fn every_line_is_written_or_counted() {
        for step in 0..LINES.len() {
            let (mut backlog, mut written, mut dropped) = (Backlog::default(), Vec::new(), 0);
            for round in 0..50 {
                backlog.bytes.extend_from_slice(LINES);
                let count = (round * step) % (backlog.bytes.len() + 1);
                written.extend_from_slice(&backlog.bytes[..count]);
                dropped += backlog.advance(count);
            }
            written.extend_from_slice(&backlog.bytes);
            let text = String::from_utf8(written).unwrap();
            assert!(text.lines().all(|line| ["one", "two", "three"].contains(&line)), "{text}");
            assert_eq!(text.lines().count() as u64 + dropped, 150);
        }
    }
}
