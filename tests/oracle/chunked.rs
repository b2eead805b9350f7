//! The chunked coding (RFC 9112 section 7.1) read by straight recursive descent from a body that is all
//! there: what the state machine of the server, which takes bytes as they come, is held against.

/// What a body comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ends after so many bytes.
    Complete(usize),
    /// More is needed to tell.
    Incomplete,
    /// It is no chunked body, or has too long a line of sizes or too many trailers.
    Malformed,
    /// Its content is longer than the limit.
    TooLarge,
}

/// Reads the body at the front of `bytes`, whose content may take `content_max` bytes, and all that stands
/// between two pieces of it `overhead_max` bytes.
pub(crate) fn read(bytes: &[u8], content_max: u64, overhead_max: u32) -> Verdict {
    let mut reader = Reader { rest: bytes, overhead_left: overhead_max };
    match reader.body(content_max, overhead_max) {
        Ok(()) => Verdict::Complete(bytes.len() - reader.rest.len()),
        Err(verdict) => verdict,
    }
}

struct Reader<'b> {
    rest: &'b [u8],
    overhead_left: u32,
}

impl Reader<'_> {
    fn body(&mut self, content_max: u64, overhead_max: u32) -> Result<(), Verdict> {
        let mut content = 0_u128;
        loop {
            let size = self.size_line()?;
            if size == 0 {
                return self.trailers();
            }
            content += size;
            if content > content_max.into() {
                return Err(Verdict::TooLarge);
            }
            let size = usize::try_from(size).map_err(|_| Verdict::Incomplete)?;
            self.rest = self.rest.get(size..).ok_or(Verdict::Incomplete)?;
            self.overhead_left = overhead_max;
            self.expect(b'\r')?;
            self.expect(b'\n')?;
        }
    }

    fn size_line(&mut self) -> Result<u128, Verdict> {
        let mut size = digit(self.byte()?)?;
        let mut byte = self.byte()?;
        while !b"\r; \t".contains(&byte) {
            size = size * 16 + digit(byte)?;
            if size > u64::MAX.into() {
                return Err(Verdict::Malformed);
            }
            byte = self.byte()?;
        }
        // White space may stand there, but only before an extension.
        let has_space = byte != b'\r' && byte != b';';
        while byte == b' ' || byte == b'\t' {
            byte = self.byte()?;
        }
        if has_space && byte != b';' {
            return Err(Verdict::Malformed);
        }
        if byte == b';' {
            self.text_line()?;
        }
        self.expect(b'\n')?;
        Ok(size)
    }

    fn trailers(&mut self) -> Result<(), Verdict> {
        loop {
            let mut byte = self.byte()?;
            if byte == b'\r' {
                return self.expect(b'\n');
            }
            let mut name = 0;
            while byte != b':' {
                name += 1;
                if !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(&byte) {
                    return Err(Verdict::Malformed);
                }
                byte = self.byte()?;
            }
            if name == 0 {
                return Err(Verdict::Malformed);
            }
            self.text_line()?;
            self.expect(b'\n')?;
        }
    }

    /// Text up to a CR, and that.
    fn text_line(&mut self) -> Result<(), Verdict> {
        loop {
            match self.byte()? {
                b'\r' => return Ok(()),
                b'\t' => {}
                byte if byte < b' ' || byte == 0x7f => return Err(Verdict::Malformed),
                _ => {}
            }
        }
    }

    fn expect(&mut self, expected: u8) -> Result<(), Verdict> {
        if self.byte()? == expected { Ok(()) } else { Err(Verdict::Malformed) }
    }

    /// The next byte that is not content.
    fn byte(&mut self) -> Result<u8, Verdict> {
        let (byte, rest) = self.rest.split_first().ok_or(Verdict::Incomplete)?;
        self.rest = rest;
        self.overhead_left = self.overhead_left.checked_sub(1).ok_or(Verdict::Malformed)?;
        Ok(*byte)
    }
}

fn digit(byte: u8) -> Result<u128, Verdict> {
    match byte {
        b'0'..=b'9' => Ok((byte - b'0').into()),
        b'a'..=b'f' => Ok((byte - b'a' + 10).into()),
        b'A'..=b'F' => Ok((byte - b'A' + 10).into()),
        _ => Err(Verdict::Malformed),
    }
}
