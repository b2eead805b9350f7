//! Request bodies: how one is delimited, and how to discard it in bounded memory (RFC 9112 sections 6 and 7).
//!
//! This server does not use bodies but must know where each ends, because requests can be smuggled if a part of a body
//! is taken for the next request. So the chunked grammar is read strictly, byte by byte, and only the state is kept.

use super::{
    chunk_extension::Extension,
    lines::{is_text, is_token},
};
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

/// Maximum size of the framing of a chunked body, in bytes: everything that is not content, which is chunk sizes,
/// extensions, line ends and trailers together. Each byte of content pays for one more, because a client may send small
/// chunks: so a body is at most this much longer than twice its content.
pub const CHUNK_FRAMING_MAX: u32 = 16 * 1024;

/// Discards one body as its bytes arrive, and finds its end.
#[derive(Debug)]
pub struct BodyDiscarder {
    state: State,
    /// Bytes of content that may still arrive.
    content_left: u64,
    /// Bytes of framing that may still arrive.
    framing_left: u32,
}

/// The position of the next byte in the body. The line end after a chunk's data is a state too, hence checked.
///
/// ```text
/// Size ──hex──▶ SizeDigits ─── CR ───▶ SizeLf ──LF──▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
///                   │                    ▲     └─size 0─▶ Trailer… ─▶ Done
///                   └──; SP──▶ Extension─┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes are left of a body of known length.
    Length(u64),
    /// The first digit of a chunk's size.
    Size,
    /// Further digits of a chunk's size, with its value so far.
    SizeDigits(u64),
    /// An extension of a chunk of this size.
    Extension(u64, Extension),
    /// The LF that ends a chunk's size line.
    SizeLf(u64),
    /// This many bytes are left of a chunk's data.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the CR of the empty line that ends the body.
    TrailerStart,
    /// Within the name of a trailer field.
    TrailerName,
    /// Within the value of a trailer field.
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyDiscarder {
    /// Begins to discard a body. Fails if its length exceeds `content_max` bytes.
    pub fn new(framing: Framing, content_max: u64) -> Result<Self, Reject> {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) if length > content_max => return Err(Reject::BodyTooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
        };
        Ok(Self { state, content_left: content_max, framing_left: CHUNK_FRAMING_MAX })
    }

    /// Whether the whole body has been discarded.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Discards the part of the body at the front of `input` and returns its length. If it is less than all of
    /// `input`, the body is complete.
    pub fn discard(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.is_done() {
                break;
            }
            at += if let State::Length(left) | State::Data(left) = &mut self.state {
                let discarded = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= discarded as u64;
                let paid = u32::try_from(discarded).unwrap_or(u32::MAX);
                self.framing_left = self.framing_left.saturating_add(paid);
                discarded
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

    /// Returns the state after `byte`, which is part of the framing.
    fn after(&mut self, byte: u8) -> Result<State, Reject> {
        self.framing_left = self.framing_left.checked_sub(1).ok_or(Reject::BadChunk)?;
        Ok(match (self.state, byte) {
            (State::Size, _) => State::SizeDigits(hex(byte)?),
            (State::SizeDigits(size), b'\r') => State::SizeLf(size),
            (State::SizeDigits(size), b';' | b' ' | b'\t') => {
                extension_after(size, Extension::Complete, byte)?
            }
            (State::SizeDigits(size), _) => {
                let digit = hex(byte)?;
                let size = size.checked_mul(16).ok_or(Reject::BadChunk)?;
                State::SizeDigits(size + digit)
            }
            (State::Extension(size, extension), b'\r') if extension.may_end() => {
                State::SizeLf(size)
            }
            (State::Extension(size, extension), _) => extension_after(size, extension, byte)?,
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
        self.content_left = self.content_left.checked_sub(size).ok_or(Reject::BodyTooLarge)?;
        Ok(State::Data(size))
    }
}

fn extension_after(size: u64, extension: Extension, byte: u8) -> Result<State, Reject> {
    let extension = extension.after(byte).ok_or(Reject::BadChunk)?;
    Ok(State::Extension(size, extension))
}

fn hex(byte: u8) -> Result<u64, Reject> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(Reject::BadChunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Discards `input` at once and byte by byte. Checks that both leave the expected bytes after the body.
    fn check(framing: Framing, input: &[u8], expected: Result<Option<&[u8]>, Reject>) {
        let mut whole = BodyDiscarder::new(framing, 100).unwrap();
        let all_at_once = whole
            .discard(input)
            .map(|count| whole.is_done().then(|| input.get(count..).unwrap_or_default()));
        assert_eq!(all_at_once, expected, "{}", input.escape_ascii());

        let mut single = BodyDiscarder::new(framing, 100).unwrap();
        let mut count = 0;
        let byte_by_byte = loop {
            match input.get(count..=count).map_or(Ok(0), |byte| single.discard(byte)) {
                Ok(0) => {
                    break Ok(single.is_done().then(|| input.get(count..).unwrap_or_default()));
                }
                Ok(discarded) => count += discarded,
                Err(reject) => break Err(reject),
            }
        };
        assert_eq!(byte_by_byte, expected, "{}", input.escape_ascii());
    }

    #[test]
    fn a_body_of_known_length_ends_after_that_many_bytes() {
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
    fn a_chunked_body_ends_after_its_trailers() {
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
    fn malformed_chunks_are_bad_chunks() {
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
            b"3;a=\"\r\n",
            b"3;\r\n",
            b"3;a b\r\n",
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
    fn the_limit_applies_to_the_content_of_all_chunks() {
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
    fn all_framing_of_a_body_shares_one_budget() {
        let budget = CHUNK_FRAMING_MAX as usize;
        for (start, filler) in
            [("1;", b'e'), ("1;a=\"", b'q'), ("1", b' '), ("0\r\nA:", b't'), ("", b'0')]
        {
            let mut body = start.as_bytes().to_vec();
            body.resize(budget, filler);
            check(Framing::Chunked, &body, Ok(None));
            body.push(filler);
            check(Framing::Chunked, &body, Err(Reject::BadChunk));
        }
        // Small pieces add up, over sizes, extensions, line ends and trailers. 50 bytes are content and pay for 50.
        let chunk = b"1;a=b\r\nx\r\n";
        let mut body = chunk.repeat(50);
        body.extend(b"0\r\nA:");
        body.resize(budget + 50 + 50, b't');
        check(Framing::Chunked, &body, Ok(None));
        body.push(b't');
        check(Framing::Chunked, &body, Err(Reject::BadChunk));
    }
}
