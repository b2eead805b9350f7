//! Decimal digits in the gzip format (RFC 1952), with Huffman coding only (RFC 1951).
//!
//! The digits of a large number have no pattern, so a general compressor searches for repetitions in vain: it takes
//! longer, and its output is longer too. Here one block has all digits. The lengths of its codes are constant, and only
//! their assignment depends on the digits: the six most frequent ones have three bits. So the size is known before the
//! first bit is written, and it is at most 3.5 bits per digit and 40 bytes.

#![expect(clippy::indexing_slicing, reason = "indices are digits, or nibbles into sixteen entries")]

use std::sync::Arc;

use crc32fast::Hasher;

/// Magic number, DEFLATE, no flags, no modification time, no extra flags, unknown system (RFC 1952 section 2.3).
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// The CRC-32 of the digits, and their number.
const TRAILER_BYTES: usize = 8;
/// The type of the block and the lengths of its codes. They always have 128 bits.
const BLOCK_HEADER_BYTES: usize = 16;

/// Lengths of the codes of the digits in bits, from the most frequent digit to the rarest.
const LENGTHS: [u8; 10] = [3, 3, 3, 3, 3, 3, 4, 4, 4, 5];
/// Their sum.
const LENGTHS_SUM: usize = 35;
/// Length of the code that ends the block.
const END_BITS: u8 = 5;
/// That code: the last one in canonical order.
const END: u64 = 0b11111;

/// The symbols of the alphabet of code lengths in the order in which their own lengths are listed, up to the last one
/// that is used (RFC 1951 section 3.2.7).
const SYMBOLS: [u8; 18] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
/// The symbol for 11 to 138 zeros. Seven bits follow it.
const ZEROS: u8 = 18;
const ZEROS_MIN: u64 = 11;

/// Maximum length in bytes of `length` digits in this format. Digits that are equally frequent reach it.
pub const fn gzip_bytes_max(length: usize) -> usize {
    // More frequent digits have no longer codes, so the average of the lengths is the maximum per digit.
    bytes(length * LENGTHS_SUM / LENGTHS.len())
}

/// Length in bytes, if the digits have this many bits.
const fn bytes(bits: usize) -> usize {
    HEADER.len() + BLOCK_HEADER_BYTES + (bits + END_BITS as usize).div_ceil(8) + TRAILER_BYTES
}

/// Returns ASCII digits in the gzip format.
pub fn gzip(digits: &[u8]) -> Arc<[u8]> {
    let counts = count(digits);
    let code = Code::new(&counts);
    let bits: usize =
        counts.iter().zip(code.lengths).map(|(count, length)| count * usize::from(length)).sum();
    let mut gzipped: Arc<[u8]> = std::iter::repeat_n(0, bytes(bits)).collect();
    if let Some(out) = Arc::get_mut(&mut gzipped) {
        let mut out = BitWriter { out, position: 0, pending: 0, bits: 0 };
        for byte in HEADER {
            out.put(byte.into(), 8);
        }
        code.describe(&mut out);
        code.encode(digits, &mut out);
        out.align();
        let mut crc = Hasher::new();
        crc.update(digits);
        out.put(crc.finalize().into(), 32);
        out.put(digits.len() as u64 & u64::from(u32::MAX), 32); // modulo 2^32
    }
    gzipped
}

/// Returns how often each digit occurs.
fn count(digits: &[u8]) -> [usize; 10] {
    // Several tables, because adding twice to one counter takes longer than to two.
    let mut tables = [[0_usize; 16]; 4];
    let (groups, rest) = digits.as_chunks::<4>();
    for group in groups {
        for (table, digit) in tables.iter_mut().zip(group) {
            table[usize::from(digit & 0xF)] += 1;
        }
    }
    for digit in rest {
        tables[0][usize::from(digit & 0xF)] += 1;
    }
    std::array::from_fn(|digit| tables.iter().map(|table| table[digit]).sum())
}

/// The code of the digits.
struct Code {
    /// Length of the code of each digit, in bits.
    lengths: [u8; 10],
    /// Two digits by their low nibbles: their codes, the first bit to be written lowest, and the length of both.
    pairs: [(u16, u8); 256],
    /// The same for one digit.
    singles: [(u16, u8); 10],
}

impl Code {
    /// Returns a code that is best for digits with these counts.
    fn new(counts: &[usize; 10]) -> Self {
        let mut by_count: [usize; 10] = std::array::from_fn(|digit| digit);
        by_count.sort_by_key(|digit| std::cmp::Reverse(counts[*digit]));
        let mut lengths = [0; 10];
        by_count.iter().zip(LENGTHS).for_each(|(digit, length)| lengths[*digit] = length);

        // Codes of one length are consecutive, in the order of the digits (RFC 1951 section 3.2.2).
        let mut next = [0b000, 0b1100, 0b11110];
        let singles = lengths.map(|length| {
            let code: u16 = next[usize::from(length) - 3];
            next[usize::from(length) - 3] += 1;
            (code.reverse_bits() >> (16 - length), length)
        });
        let mut pairs = [(0, 0); 256];
        for (first, (code, length)) in singles.iter().enumerate() {
            for (second, (next_code, next_length)) in singles.iter().enumerate() {
                pairs[first << 4 | second] = (code | next_code << length, length + next_length);
            }
        }
        Self { lengths, pairs, singles }
    }

    /// Writes the header of the block (RFC 1951 section 3.2.7).
    fn describe(&self, out: &mut BitWriter<'_>) {
        out.put(1, 1); // the last block
        out.put(2, 2); // dynamic Huffman codes
        out.put(0, 5); // 257 codes: literals and the end of the block, no lengths of repetitions
        out.put(1, 5); // two codes of distances, as zlib writes if none is used
        out.put(SYMBOLS.len() as u64 - 4, 4);
        for symbol in SYMBOLS {
            out.put(code_of_length(symbol).1.into(), 3);
        }
        let zeros = |out: &mut BitWriter<'_>, count| {
            put_length(out, ZEROS);
            out.put(count - ZEROS_MIN, 7);
        };
        zeros(out, b'0'.into());
        self.lengths.iter().for_each(|length| put_length(out, *length));
        zeros(out, 138);
        zeros(out, 255 - u64::from(b'9') - 138);
        put_length(out, END_BITS);
        put_length(out, 1);
        put_length(out, 1);
    }

    /// Writes the digits and the end of the block.
    fn encode(&self, digits: &[u8], out: &mut BitWriter<'_>) {
        let (groups, rest) = digits.as_chunks::<8>();
        for group in groups {
            let (mut codes, mut bits) = (0, 0);
            for &[first, second] in group.as_chunks::<2>().0 {
                let (code, length) = self.pairs[usize::from(first << 4 | second & 0xF)];
                codes |= u64::from(code) << bits;
                bits += u32::from(length);
            }
            out.put(codes, bits); // at most 40 bits
        }
        for digit in rest {
            let (code, length) = self.singles[usize::from(digit & 0xF)];
            out.put(code.into(), length.into());
        }
        out.put(END, END_BITS.into());
    }
}

/// Writes a symbol of the alphabet of code lengths.
fn put_length(out: &mut BitWriter<'_>, symbol: u8) {
    let (code, length) = code_of_length(symbol);
    out.put(code, length);
}

/// The code of a symbol of the alphabet of code lengths, the first bit lowest, and its length in bits.
const fn code_of_length(symbol: u8) -> (u64, u32) {
    match symbol {
        3 => (0b00, 2),
        4 => (0b10, 2),
        ZEROS => (0b01, 2),
        1 => (0b011, 3),
        5 => (0b111, 3),
        _ => (0, 0),
    }
}

/// Writes bits, the lowest one of a byte first.
struct BitWriter<'a> {
    out: &'a mut [u8],
    /// Number of complete bytes.
    position: usize,
    /// The bits after them, at most seven between two calls.
    pending: u64,
    bits: u32,
}

impl BitWriter<'_> {
    /// Writes the lowest `bits` of `value`, at most 56; the others must be zero.
    fn put(&mut self, value: u64, bits: u32) {
        self.pending |= value << self.bits;
        self.bits += bits;
        let bytes = self.pending.to_le_bytes();
        // Eight bytes are one store. Only near the end there is less room, for no more than the bytes that are
        // complete.
        if let Some(out) = self.out.get_mut(self.position..).and_then(<[u8]>::first_chunk_mut) {
            *out = bytes;
        } else if let Some(out) = self.out.get_mut(self.position..) {
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = byte);
        }
        self.position += self.bits as usize / 8;
        self.pending >>= self.bits & !7;
        self.bits &= 7;
    }

    /// Completes a byte with zeros.
    fn align(&mut self) {
        self.put(0, self.bits.next_multiple_of(8) - self.bits);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::fibonacci::Calculator;

    /// Compares with an independent decoder, which checks CRC and length. Returns the size.
    #[track_caller]
    fn check(digits: &[u8]) -> usize {
        let gzipped = gzip(digits);
        let (mut decoder, mut found) = (GzDecoder::new(&gzipped[..]), Vec::new());
        decoder.read_to_end(&mut found).unwrap();
        assert!(found == digits, "{} digits", digits.len());
        assert!(decoder.into_inner().is_empty(), "nothing follows");
        assert!(gzipped.len() <= gzip_bytes_max(digits.len()), "{} digits", digits.len());
        gzipped.len()
    }

    #[test]
    fn any_number_of_digits_is_decoded() {
        for length in 0..=100 {
            for digit in b'0'..=b'9' {
                check(&vec![digit; length]);
            }
            check(&b"0123456789".repeat(10)[..length]);
        }
    }

    #[test]
    fn equally_frequent_digits_reach_the_maximum() {
        for repetitions in [1, 2, 1_000] {
            let digits = b"9081726354".repeat(repetitions);
            assert_eq!(check(&digits), gzip_bytes_max(digits.len()));
        }
        assert_eq!([0, 10, 4_096].map(gzip_bytes_max), [35, 39, 1_827]);
    }

    #[test]
    fn a_large_number_takes_less_than_44_percent() {
        let digits = Calculator::default().compute(1_000_000).digits;
        let size = check(&digits);
        assert!(size * 100 < digits.len() * 44, "{size} bytes");
    }

    proptest! {
        #[test]
        fn any_digits_are_decoded(digits in "[0-9]{0,300}|[0-3]{0,300}|[57]{0,300}9{0,300}[0-9]{0,9}") {
            check(digits.as_bytes());
        }
    }
}
