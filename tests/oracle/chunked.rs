//! The chunked coding (RFC 9112 section 7.1), parsed by plain recursive descent from a body that has arrived, as an
//! oracle for the state machine of the server, which takes the bytes as they arrive.

/// The outcome of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ends after this many bytes.
    Complete(usize),
    /// More bytes are needed.
    Incomplete,
    /// It is not a chunked body, or its framing exceeds the limit.
    Malformed,
    /// Its content exceeds the limit.
    TooLarge,
}

/// Parses the body at the front of `bytes`, with at most `content_max` bytes of content and `framing_max` other bytes,
/// and as many more as there are bytes of content.
pub(crate) fn read(bytes: &[u8], content_max: u64, framing_max: u32) -> Verdict {
    let mut reader = Reader { rest: bytes, framing_left: framing_max };
    match reader.body(content_max) {
        Ok(()) => Verdict::Complete(bytes.len() - reader.rest.len()),
        Err(verdict) => verdict,
    }
}

struct Reader<'b> {
    rest: &'b [u8],
    framing_left: u32,
}

impl Reader<'_> {
    fn body(&mut self, content_max: u64) -> Result<(), Verdict> {
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
            let paid = u32::try_from(size).map_err(|_| Verdict::TooLarge)?;
            self.framing_left = self.framing_left.saturating_add(paid);
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
        self.extensions(byte)?;
        self.expect(b'\n')?;
        Ok(size)
    }

    /// Parses the extensions of a chunk from the byte after its size to the CR.
    fn extensions(&mut self, mut byte: u8) -> Result<(), Verdict> {
        loop {
            let has_space = is_space(byte);
            byte = self.skip_space(byte)?;
            match byte {
                b'\r' if !has_space => return Ok(()),
                b';' => {}
                _ => return Err(Verdict::Malformed),
            }
            byte = self.byte()?;
            byte = self.skip_space(byte)?;
            byte = self.token(byte)?;
            let has_space = is_space(byte);
            byte = self.skip_space(byte)?;
            if byte == b'=' {
                byte = self.byte()?;
                byte = self.skip_space(byte)?;
                byte = if byte == b'"' { self.quoted_string()? } else { self.token(byte)? };
            } else if has_space && byte != b';' {
                return Err(Verdict::Malformed);
            }
        }
    }

    /// Parses the rest of a quoted string. Returns the byte after it.
    fn quoted_string(&mut self) -> Result<u8, Verdict> {
        loop {
            let mut byte = self.byte()?;
            if byte == b'"' {
                return self.byte();
            }
            if byte == b'\\' {
                byte = self.byte()?;
            }
            if is_control(byte) {
                return Err(Verdict::Malformed);
            }
        }
    }

    fn trailers(&mut self) -> Result<(), Verdict> {
        loop {
            let byte = self.byte()?;
            if byte == b'\r' {
                return self.expect(b'\n');
            }
            if self.token(byte)? != b':' {
                return Err(Verdict::Malformed);
            }
            let mut byte = self.byte()?;
            while byte != b'\r' {
                if is_control(byte) {
                    return Err(Verdict::Malformed);
                }
                byte = self.byte()?;
            }
            self.expect(b'\n')?;
        }
    }

    /// Parses a token that begins with `byte`. Returns the byte after it.
    fn token(&mut self, mut byte: u8) -> Result<u8, Verdict> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !is_token(byte) {
            return Err(Verdict::Malformed);
        }
        while is_token(byte) {
            byte = self.byte()?;
        }
        Ok(byte)
    }

    /// Returns the first byte from `byte` on that is not white space.
    fn skip_space(&mut self, mut byte: u8) -> Result<u8, Verdict> {
        while is_space(byte) {
            byte = self.byte()?;
        }
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), Verdict> {
        if self.byte()? == expected { Ok(()) } else { Err(Verdict::Malformed) }
    }

    /// The next byte that is not content.
    fn byte(&mut self) -> Result<u8, Verdict> {
        let (byte, rest) = self.rest.split_first().ok_or(Verdict::Incomplete)?;
        self.rest = rest;
        self.framing_left = self.framing_left.checked_sub(1).ok_or(Verdict::Malformed)?;
        Ok(*byte)
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

fn digit(byte: u8) -> Result<u128, Verdict> {
    match byte {
        b'0'..=b'9' => Ok((byte - b'0').into()),
        b'a'..=b'f' => Ok((byte - b'a' + 10).into()),
        b'A'..=b'F' => Ok((byte - b'A' + 10).into()),
        _ => Err(Verdict::Malformed),
    }
}
