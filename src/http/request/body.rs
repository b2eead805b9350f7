//! Request bodies: how one is delimited, and how to skip it in bounded memory (RFC 9112 sections 6 and 7).
//!
//! This server has no use for a body, but must know where it ends: what follows is the next request, and
//! taking one for the other is how requests are smuggled. So the chunked grammar is read strictly, byte by
//! byte, and nothing is kept of it but the state.

use super::lines::is_token;
use crate::http::Reject;

/// How the end of a request's body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// Longest chunk-size line and longest trailer section, in bytes. Extensions and trailers carry nothing
/// for us; a bound keeps a peer from sending them for ever.
pub const CHUNK_OVERHEAD_MAX: u32 = 4096;

/// Skips one body: takes bytes as they come, tells how many belonged to the body and whether it is over.
#[derive(Debug)]
pub struct BodyDiscarder {
    state: State,
    /// Bytes of content that may still come before the body is too large.
    allowance: u64,
    /// Bytes of chunk-size lines and trailers since the last chunk's data.
    overhead: u32,
}

/// Where in the body the next byte stands. The CR and the LF behind a chunk's data are states like any
/// other, hence checked.
///
/// ```text
/// Size ──hex──▶ SizeDigits ──;──▶ Extension ──CR─▶ SizeLf ──LF──▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
///                 │  │                ▲             ▲     └─size 0─▶ Trailer… ─▶ Done
///                 │  └─▶ SizeSpace ─;─┘             │
///                 └───────────────CR────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes are left of a body of known length.
    Length(u64),
    /// The first digit of a chunk's size.
    Size,
    /// Further digits of a chunk's size; what they have come to.
    SizeDigits(u64),
    /// White space between a chunk's size and its first extension: bad, and to be read over (RFC 9110
    /// section 5.6.3). Nothing but an extension may follow.
    SizeSpace(u64),
    /// Extensions (RFC 9112 section 7.1.1), not interpreted.
    Extension(u64),
    /// The LF that ends a chunk's size line.
    SizeLf(u64),
    /// This many bytes are left of a chunk's data.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the CR of the empty line that ends the body.
    TrailerStart,
    /// Inside the name of a trailer field.
    TrailerName,
    /// Inside the value of a trailer field.
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyDiscarder {
    /// Begins to skip a body framed so, unless its length alone exceeds `content_max` bytes.
    pub fn new(framing: Framing, content_max: u64) -> Result<Self, Reject> {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) if length > content_max => return Err(Reject::BodyTooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
        };
        Ok(Self { state, allowance: content_max, overhead: 0 })
    }

    /// Whether the whole body has been skipped.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Skips what belongs to the body at the front of `input`; returns how many bytes that was. Less than
    /// all of `input` means that the body is over.
    pub fn skip(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.is_done() {
                break;
            }
            at += if let State::Length(left) | State::Data(left) = &mut self.state {
                let skipped = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= skipped as u64;
                skipped
            } else {
                self.state = self.after(rest.first().copied().unwrap_or_default())?;
                1
            };
            if self.state == State::Length(0) {
                self.state = State::Done;
            } else if self.state == State::Data(0) {
                self.state = State::DataCr;
            }
        }
        Ok(at)
    }

    /// The state behind `byte` of a chunk's size line, of the end of its data or of the trailers.
    fn after(&mut self, byte: u8) -> Result<State, Reject> {
        self.overhead += 1;
        if self.overhead > CHUNK_OVERHEAD_MAX {
            return Err(Reject::BadChunk);
        }
        Ok(match (self.state, byte) {
            (State::Size, _) => State::SizeDigits(hex(byte)?),
            (State::SizeDigits(size) | State::Extension(size), b'\r') => State::SizeLf(size),
            (State::SizeDigits(size) | State::SizeSpace(size), b';') => State::Extension(size),
            (State::SizeDigits(size) | State::SizeSpace(size), b' ' | b'\t') => {
                State::SizeSpace(size)
            }
            (State::SizeDigits(size), _) => {
                let digit = hex(byte)?;
                let size = size.checked_mul(16).ok_or(Reject::BadChunk)?;
                State::SizeDigits(size + digit)
            }
            (State::Extension(size), _) if is_text(byte) => State::Extension(size),
            (State::SizeLf(size), b'\n') => self.begin_chunk(size)?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Reject::BadChunk),
        })
    }

    fn begin_chunk(&mut self, size: u64) -> Result<State, Reject> {
        if size == 0 {
            return Ok(State::TrailerStart);
        }
        self.allowance = self.allowance.checked_sub(size).ok_or(Reject::BodyTooLarge)?;
        self.overhead = 0;
        Ok(State::Data(size))
    }
}

fn hex(byte: u8) -> Result<u64, Reject> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(Reject::BadChunk)
}

/// What may stand in a field value or a chunk extension (RFC 9110 section 5.5): no control characters but
/// the tab.
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skips `input` whole and byte by byte; both must agree. Returns what is left behind the body.
    fn check(framing: Framing, input: &[u8], expected: Result<Option<&[u8]>, Reject>) {
        let mut whole = BodyDiscarder::new(framing, 100).unwrap();
        let all_at_once = whole
            .skip(input)
            .map(|count| whole.is_done().then(|| input.get(count..).unwrap_or_default()));
        assert_eq!(all_at_once, expected, "{}", input.escape_ascii());

        let mut single = BodyDiscarder::new(framing, 100).unwrap();
        let mut count = 0;
        let byte_by_byte = loop {
            match input.get(count..=count).map_or(Ok(0), |byte| single.skip(byte)) {
                Ok(0) => {
                    break Ok(single.is_done().then(|| input.get(count..).unwrap_or_default()));
                }
                Ok(skipped) => count += skipped,
                Err(reject) => break Err(reject),
            }
        };
        assert_eq!(byte_by_byte, expected, "{}", input.escape_ascii());
    }

    #[test]
    fn known_length() {
        check(Framing::Empty, b"GET", Ok(Some(b"GET")));
        check(Framing::Length(3), b"abcGET", Ok(Some(b"GET")));
        check(Framing::Length(3), b"abc", Ok(Some(b"")));
        check(Framing::Length(3), b"ab", Ok(None));
        assert!(BodyDiscarder::new(Framing::Length(100), 100).is_ok());
        assert_eq!(
            BodyDiscarder::new(Framing::Length(101), 100).unwrap_err(),
            Reject::BodyTooLarge
        );
    }

    #[test]
    fn chunked() {
        let chunked = |input, expected| check(Framing::Chunked, input, expected);
        chunked(b"0\r\n\r\nGET", Ok(Some(b"GET")));
        chunked(b"3\r\nabc\r\n0\r\n\r\n", Ok(Some(b"")));
        chunked(b"3\r\nabc\r\n00a\r\n0123456789\r\n0000\r\n\r\nG", Ok(Some(b"G")));
        chunked(b"3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", Ok(Some(b"")));
        chunked(b"3 \t;a = b\r\nabc\r\n0 ;x\r\n\r\n", Ok(Some(b"")));
        chunked(b"0\r\nExpires: never\r\nA:\r\n\r\nG", Ok(Some(b"G")));
        chunked(b"3\r\nab", Ok(None));
        chunked(b"0\r\n", Ok(None));
        chunked(b"64\r\n", Ok(None)); // 100, the limit
    }

    #[test]
    fn malformed_chunks() {
        for bad in [
            &b"\r\n"[..],
            b"g\r\n",
            b" 3\r\n",
            b"3 \r\n",
            b"3 3\r\n",
            b"3 a=b\r\n",
            b"-3\r\n",
            b"0x3\r\n",
            b"+3\r\n",
            b"3\n",
            b"3\rx",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"3\r\nabc\rx",
            b"3\r\nabc0\r\n",
            b"3;\x01\r\n",
            b"3;a\nb\r\n",
            b"0\r\n\n",
            b"0\r\n:\r\n",
            b"0\r\nA b: c\r\n",
            b"0\r\nA\r\n",
            b"0\r\n x: y\r\n",
            b"0\r\nA: \0\r\n",
            b"0\r\nA: b\n",
            b"0\r\nA: b\rc",
            b"0\r\n\rx",
            b"10000000000000000\r\n",
        ] {
            check(Framing::Chunked, bad, Err(Reject::BadChunk));
        }
    }

    #[test]
    fn bounds_hold_over_all_chunks() {
        check(Framing::Chunked, b"65\r\n", Err(Reject::BodyTooLarge)); // 101
        check(Framing::Chunked, b"ffffffffffffffff\r\n", Err(Reject::BodyTooLarge));
        let mut two = b"63\r\n".to_vec();
        two.extend([b'x'; 99]);
        two.extend(b"\r\n1\r\ny\r\n");
        check(Framing::Chunked, &two, Ok(None));
        two.extend(b"1\r\n");
        check(Framing::Chunked, &two, Err(Reject::BodyTooLarge));
    }

    #[test]
    fn extensions_trailers_and_leading_zeros_are_bounded() {
        let bound = CHUNK_OVERHEAD_MAX as usize;
        for (start, filler) in [("1;", b'e'), ("1", b' '), ("0\r\nA:", b't'), ("", b'0')] {
            let mut body = start.as_bytes().to_vec();
            body.resize(bound, filler);
            check(Framing::Chunked, &body, Ok(None));
            body.push(filler);
            check(Framing::Chunked, &body, Err(Reject::BadChunk));
        }
    }
}
