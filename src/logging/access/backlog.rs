//! Lines that are to be written: which of them go when not all were taken.

/// Whole lines, and at their front perhaps the rest of one that was taken in part.
///
/// Invariant: `begun` is zero or just behind a line end.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) bytes: Vec<u8>,
    /// Bytes at the front that finish a line whose beginning has been taken.
    begun: usize,
}

impl Backlog {
    /// Takes in that the first `count` bytes have been written, and no more can be now. The lines left are
    /// dropped, and counted. But the rest of a line that was begun stays, to go before everything else: it
    /// would spoil the next one.
    pub(super) fn taken(&mut self, count: usize) -> u64 {
        let whole = self.bytes.get(..count).unwrap_or(&self.bytes);
        let kept_until = if count < self.begun {
            self.begun
        } else if whole.last().is_none_or(|byte| *byte == b'\n') {
            whole.len()
        } else {
            let rest = self.bytes.get(count..).unwrap_or_default();
            count + memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
        };
        let dropped = self.bytes.get(kept_until..).unwrap_or_default();
        let dropped = memchr::memchr_iter(b'\n', dropped).count() as u64;
        self.bytes.truncate(kept_until);
        self.bytes.drain(..count.min(kept_until));
        self.begun = self.bytes.len();
        dropped
    }

    /// Forgets a line that was begun: whoever has its beginning is not written to any more. Says how many
    /// lines that were.
    pub(super) fn give_up_begun(&mut self) -> u64 {
        let was_begun = self.begun > 0;
        self.bytes.drain(..self.begun);
        self.begun = 0;
        u64::from(was_begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"one\ntwo\nthree\n";

    fn check(count: usize, dropped: u64, kept: &str) -> Backlog {
        let mut backlog = Backlog { bytes: LINES.to_vec(), begun: 0 };
        assert_eq!(backlog.taken(count), dropped, "{count}");
        assert_eq!(str::from_utf8(&backlog.bytes).unwrap(), kept, "{count}");
        backlog
    }

    #[test]
    fn whole_lines_are_dropped_and_a_begun_one_is_kept() {
        check(LINES.len(), 0, "");
        check(0, 3, "");
        check(4, 2, "");
        check(8, 1, "");
        check(1, 2, "ne\n");
        check(3, 2, "\n");
        check(9, 0, "hree\n");
    }

    #[test]
    fn the_rest_of_a_line_goes_first_however_long_that_takes() {
        let mut backlog = check(1, 2, "ne\n");
        for (count, dropped, kept) in [(0, 1, "ne\n"), (1, 1, "e\n"), (2, 1, ""), (5, 0, "")] {
            backlog.bytes.extend_from_slice(b"next\n");
            assert_eq!(backlog.taken(count), dropped);
            assert_eq!(str::from_utf8(&backlog.bytes).unwrap(), kept);
        }
    }

    #[test]
    fn what_was_begun_can_be_given_up() {
        let mut backlog = check(1, 2, "ne\n");
        backlog.bytes.extend_from_slice(b"next\n");
        assert_eq!((backlog.give_up_begun(), backlog.give_up_begun()), (1, 0));
        assert_eq!(backlog.bytes, b"next\n");
    }

    /// Whatever is taken of it, what has been written is whole lines in order, and each line was written or
    /// counted as dropped.
    #[test]
    fn every_line_is_written_or_counted() {
        for step in 0..LINES.len() {
            let (mut backlog, mut written, mut dropped) = (Backlog::default(), Vec::new(), 0);
            for round in 0..50 {
                backlog.bytes.extend_from_slice(LINES);
                let count = (round * step) % (backlog.bytes.len() + 1);
                written.extend_from_slice(&backlog.bytes[..count]);
                dropped += backlog.taken(count);
            }
            written.extend_from_slice(&backlog.bytes);
            let text = String::from_utf8(written).unwrap();
            assert!(text.lines().all(|line| ["one", "two", "three"].contains(&line)), "{text}");
            assert_eq!(text.lines().count() as u64 + dropped, 150);
        }
    }
}
