//! The fixed table: F(0) to F(last) as decimal digits, built once at start.
//!
//! A lookup returns a slice of one arena. Converting each of ten thousand binary integers to decimal would
//! take 170 ms, so the digits are added in decimal. Every [`ANCHOR_EVERY`]th number is an *anchor*: it is also
//! computed with ibig and converted, and a difference ends the construction. A wrong digit is detected at the
//! next anchor, because all later numbers inherit the error.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ibig::UBig;

use crate::fibonacci::digits::{self, digit_count};

/// The last n of the table by default.
///
/// Ten thousand numbers are 10.5 MB, made with 40 million instructions, a third of which compute the anchors.
pub const DEFAULT_LAST: u32 = 10_000;

/// The largest last n that [`Table::new`] accepts.
///
/// Memory grows with the square of n: here it is 1.05 GB, a hundred times that of the default. Computing on
/// demand is far cheaper beyond.
pub const MAX_LAST: u32 = 100_000;

/// Numbers from one ibig conversion to the next: 64 would cost the default table 2.8 ms more, 1024
/// would save 1.2 ms.
const ANCHOR_EVERY: u32 = 256;

/// F(0)..=F(last) in decimal. Clones share the memory.
///
/// Each number may follow a prefix, so that text which always precedes it is copied together with it.
#[derive(Clone, Default)]
pub struct Table(Arc<Arena>);

/// The memory of a table.
struct Arena {
    /// All prefixes and numbers, without separators.
    bytes: Vec<u8>,
    /// Where each number is, and last the end of the arena.
    places: Vec<Place>,
}

/// Where a number begins in the arena, and where its prefix does.
#[derive(Clone, Copy, Debug)]
struct Place {
    prefix: u32,
    digits: u32,
}

/// A number of the table after its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixed<'a> {
    /// Both.
    pub bytes: &'a [u8],
    /// Length of the prefix in bytes.
    pub prefix_bytes: usize,
}

impl Table {
    /// Builds F(0)..=F(last) without prefixes.
    pub fn new(last: u32) -> Result<Self, TableError> {
        Self::with_prefixes(last, |_, _, _| ())
    }

    /// Builds F(0)..=F(last). The function appends the prefix of F(n), given n and its number of digits.
    pub fn with_prefixes(
        last: u32,
        push_prefix: impl Fn(&mut Vec<u8>, u64, usize),
    ) -> Result<Self, TableError> {
        let mut builder = Builder::new(last, push_prefix)?;
        for n in 0..=last {
            builder.push(n)?;
        }
        builder.finish()
    }

    /// Returns the digits of F(n), or `None` beyond the table.
    #[inline]
    pub fn get(&self, n: u64) -> Option<&[u8]> {
        let (place, next) = self.0.places(n)?;
        self.0.bytes.get(place.digits as usize..next.prefix as usize)
    }

    /// Returns the prefix and the digits of F(n), or `None` beyond the table.
    #[inline]
    pub fn get_prefixed(&self, n: u64) -> Option<Prefixed<'_>> {
        let (place, next) = self.0.places(n)?;
        Some(Prefixed {
            bytes: self.0.bytes.get(place.prefix as usize..next.prefix as usize)?,
            prefix_bytes: (place.digits - place.prefix) as usize,
        })
    }

    /// Returns the largest n in the table.
    #[inline]
    pub fn last(&self) -> u64 {
        (self.0.places.len() as u64).saturating_sub(2)
    }

    /// Returns the heap memory in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.bytes.len() + size_of_val(self.0.places.as_slice())
    }
}

impl Arena {
    /// Returns the places of F(n) and of what follows it.
    #[inline]
    fn places(&self, n: u64) -> Option<(Place, Place)> {
        let &[place, next] = self.places.get(usize::try_from(n).ok()?..)?.first_chunk()?;
        Some((place, next))
    }
}

impl Default for Arena {
    /// Returns F(0) only.
    fn default() -> Self {
        let places = vec![Place { prefix: 0, digits: 0 }, Place { prefix: 1, digits: 1 }];
        Self { bytes: vec![b'0'], places }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("last", &self.last()).finish_non_exhaustive()
    }
}

/// Why a table cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The requested last n exceeds [`MAX_LAST`].
    TooLong {
        /// The requested last n.
        last: u32,
    },
    /// The digits of F(n) differ from those computed with ibig: a defect of the program or of the machine.
    Corrupt {
        /// The first n found to be wrong. The error is between the previous anchor and this n.
        n: u32,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { last } => {
                write!(f, "a table up to F({last}) is too long: the limit is F({MAX_LAST})")
            }
            Self::Corrupt { n } => write!(f, "the table failed verification at F({n})"),
        }
    }
}

impl std::error::Error for TableError {}

/// A table being filled in the order of n.
struct Builder<P> {
    last: u32,
    push_prefix: P,
    arena: Arena,
    /// The digits of the two numbers before, the previous one first.
    before: [Range<usize>; 2],
    /// In binary, for the anchors: F(n) for the n to be pushed next, and F(n + 1).
    binary: [UBig; 2],
}

impl<P: Fn(&mut Vec<u8>, u64, usize)> Builder<P> {
    fn new(last: u32, push_prefix: P) -> Result<Self, TableError> {
        if last > MAX_LAST {
            return Err(TableError::TooLong { last });
        }
        // The memory is allocated at its final size, since the lengths of the numbers are known. The last prefix is
        // taken to be the longest.
        let mut longest_prefix = Vec::new();
        push_prefix(&mut longest_prefix, last.into(), digit_count(last.into()));
        let bytes = (0..=last).map(|n| longest_prefix.len() + digit_count(n.into())).sum();
        let places = Vec::with_capacity(last as usize + 2);
        let arena = Arena { bytes: Vec::with_capacity(bytes), places };
        let binary = [UBig::from(0_u8), UBig::from(1_u8)];
        Ok(Self { last, push_prefix, arena, before: [0..0, 0..0], binary })
    }

    /// Appends F(n), and checks it if it is an anchor or the last.
    fn push(&mut self, n: u32) -> Result<(), TableError> {
        let is_anchor = n.is_multiple_of(ANCHOR_EVERY) || n == self.last;
        let length = digit_count(n.into());
        let Arena { bytes, places } = &mut self.arena;
        let prefix = bytes.len();
        (self.push_prefix)(bytes, n.into(), length);
        let start = bytes.len();
        places.push(place(prefix, start, self.last)?);
        let number = push_sum(bytes, length, n, &self.before).ok_or(TableError::Corrupt { n })?;
        let [current, next] = &mut self.binary;
        if is_anchor && number != current.to_string().as_bytes() {
            return Err(TableError::Corrupt { n });
        }
        *current += &*next;
        std::mem::swap(current, next);
        let [previous, _] = std::mem::take(&mut self.before);
        self.before = [start..start + length, previous];
        Ok(())
    }

    /// Ends the table.
    fn finish(mut self) -> Result<Table, TableError> {
        let end = self.arena.bytes.len();
        self.arena.places.push(place(end, end, self.last)?);
        Ok(Table(Arc::new(self.arena)))
    }
}

fn place(prefix: usize, digits: usize, last: u32) -> Result<Place, TableError> {
    let position = |at| u32::try_from(at).map_err(|_| TableError::TooLong { last });
    Ok(Place { prefix: position(prefix)?, digits: position(digits)? })
}

/// Appends F(n) as the sum of its two predecessors. Returns it, or `None` if it has another length.
fn push_sum<'a>(
    bytes: &'a mut Vec<u8>,
    length: usize,
    n: u32,
    [longer, shorter]: &[Range<usize>; 2],
) -> Option<&'a [u8]> {
    let start = bytes.len();
    bytes.resize(start + length, b'0');
    let (before, number) = bytes.split_at_mut_checked(start)?;
    let fits = if n < 2 {
        number.fill(if n == 0 { b'0' } else { b'1' });
        true
    } else {
        digits::add(number, before.get(longer.clone())?, before.get(shorter.clone())?)
    };
    fits.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(table: &Table, n: u64, want: &str) {
        assert_eq!(table.get(n).map(String::from_utf8_lossy).as_deref(), Some(want), "F({n})");
    }

    #[test]
    fn published_values() {
        let table = Table::new(1_000).unwrap();
        check(&table, 0, "0");
        check(&table, 1, "1");
        check(&table, 2, "1");
        check(&table, 20, "6765");
        check(&table, 93, "12200160415121876738");
        check(&table, 94, "19740274219868223167");
        check(&table, 100, "354224848179261915075");
        check(&table, 186, "332825110087067562321196029789634457848");
        check(&table, 300, "222232244629420445529739893461909967206666939096499764990979600");
        check(
            &table,
            1_000,
            concat!(
                "4346655768693745643568852767504062580256466051737178040248172908953655",
                "5417949051890403879840079255169295922593080322634775209689623239873322",
                "471161642996440906533187938298969649928516003704476137795166849228875",
            ),
        );
    }

    #[test]
    fn prefixes_precede_their_numbers() {
        let push_prefix = |out: &mut Vec<u8>, n: u64, length| {
            out.extend_from_slice(format!("F({n}) has {length}: ").repeat(length % 3).as_bytes());
        };
        let (table, plain) =
            (Table::with_prefixes(300, push_prefix).unwrap(), Table::new(300).unwrap());
        for n in 0..=300 {
            let digits = plain.get(n).unwrap();
            let mut expected = Vec::new();
            push_prefix(&mut expected, n, digits.len());
            let prefix_bytes = expected.len();
            expected.extend_from_slice(digits);
            let bytes = expected.as_slice();
            assert_eq!(table.get_prefixed(n), Some(Prefixed { bytes, prefix_bytes }), "F({n})");
            assert_eq!(table.get(n), Some(digits), "F({n})");
        }
        assert_eq!(table.get_prefixed(301), None);
        assert_eq!(plain.get_prefixed(20), Some(Prefixed { bytes: b"6765", prefix_bytes: 0 }));
    }

    #[test]
    fn every_entry_equals_ibig() {
        let table = Table::new(DEFAULT_LAST).unwrap();
        let [mut current, mut next] = [UBig::from(0_u8), UBig::from(1_u8)];
        for n in 0..=DEFAULT_LAST.into() {
            check(&table, n, &current.to_string());
            current += &next;
            std::mem::swap(&mut current, &mut next);
        }
    }

    #[test]
    fn ends_at_the_requested_n() {
        for last in [0, 1, 2, 3, ANCHOR_EVERY - 1, ANCHOR_EVERY, ANCHOR_EVERY + 1] {
            let table = Table::new(last).unwrap();
            assert_eq!(table.last(), u64::from(last));
            assert!(table.get(last.into()).is_some(), "F({last})");
            for beyond in [u64::from(last) + 1, u64::from(last) + 2, u64::MAX] {
                assert_eq!(table.get(beyond), None, "F({beyond}) of {last}");
            }
        }
    }

    #[test]
    fn the_default_table_takes_at_most_16_mib() {
        let table = Table::new(DEFAULT_LAST).unwrap();
        assert!(table.size_bytes() <= 16 << 20, "{} bytes", table.size_bytes());
        assert_eq!(table.get(DEFAULT_LAST.into()).map(<[u8]>::len), Some(2_090));
    }

    #[test]
    fn a_last_n_beyond_the_maximum_is_rejected() {
        for last in [MAX_LAST + 1, u32::MAX] {
            assert_eq!(Table::new(last).unwrap_err(), TableError::TooLong { last });
        }
    }

    /// Changes one digit of F(`wrong`) right after it is written. The number at `caught_at` must be rejected.
    #[track_caller]
    fn check_corruption(wrong: u32, last: u32, caught_at: u32) {
        let mut builder = Builder::new(last, |_, _, _| ()).unwrap();
        let outcome = (0..=last).try_for_each(|n| {
            builder.push(n)?;
            if n == wrong {
                let digit = builder.arena.bytes.last_mut().unwrap();
                *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
            }
            Ok(())
        });
        assert_eq!(outcome, Err(TableError::Corrupt { n: caught_at }));
    }

    #[test]
    fn a_wrong_digit_is_detected_at_the_next_anchor() {
        check_corruption(100, 1_000, ANCHOR_EVERY);
        check_corruption(ANCHOR_EVERY - 1, 1_000, ANCHOR_EVERY);
        check_corruption(ANCHOR_EVERY, 1_000, 2 * ANCHOR_EVERY);
        check_corruption(998, 999, 999);
    }
}
