//! A strict parser of responses (RFC 9112 section 4) that shares no code with the server's renderer.
//!
//! Every response that a test or a benchmark receives passes it, so the grammar is checked for all of them.

/// The request that a reply belongs to: a reply to HEAD has no body, whatever its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    Head,
    Other,
}

/// A response as a client received it, borrowed from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyRef<'b> {
    pub(crate) status: u16,
    pub(crate) reason: &'b str,
    fields: &'b str,
    pub(crate) body: &'b [u8],
    /// Bytes of head and body.
    pub(crate) length: usize,
}

const VERSION: &str = "HTTP/1.1 ";

impl<'b> ReplyRef<'b> {
    /// Parses the first reply in `bytes`. Returns none if it is incomplete, and an error if it is malformed.
    pub(crate) fn parse(bytes: &'b [u8], to: ReplyTo) -> Result<Option<Self>, &'static str> {
        let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            let start = bytes.get(..VERSION.len()).unwrap_or(bytes);
            let may_be_reply = VERSION.as_bytes().starts_with(start);
            return if may_be_reply { Ok(None) } else { Err("not a reply") };
        };
        let head = str::from_utf8(bytes.get(..head_end).unwrap_or_default());
        let head = head.map_err(|_| "a head that is not text")?;
        let (status_line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let (status, reason) = parse_status_line(status_line).ok_or("a malformed status line")?;
        if !fields_are_valid(fields) {
            return Err("malformed or repeated fields");
        }
        let mut reply = Self { status, reason, fields, body: b"", length: head_end + 4 };
        let body_length = reply.body_length(to)?;
        let Some(body) = bytes.get(reply.length..reply.length + body_length) else {
            return Ok(None);
        };
        reply.body = body;
        reply.length += body_length;
        Ok(Some(reply))
    }

    /// Removes the first reply from `output`. Returns none if it is malformed or incomplete.
    pub(crate) fn take(output: &mut &'b [u8], to: ReplyTo) -> Option<Self> {
        let reply = Self::parse(output, to).ok().flatten()?;
        *output = output.get(reply.length..)?;
        Some(reply)
    }

    /// The length of the body by the rules for clients (RFC 9112 section 6.3), without those for codings
    /// and for the end of the stream: the server needs neither.
    fn body_length(&self, to: ReplyTo) -> Result<usize, &'static str> {
        if self.field("Transfer-Encoding").is_some() {
            return Err("a transfer coding");
        }
        // RFC 9110 section 8.6.
        let has_length = !matches!(self.status, 100..200 | 204 | 304);
        match (self.field("Content-Length"), has_length) {
            (None, false) => Ok(0),
            (Some(_), false) => Err("Content-Length with a status that has none"),
            // RFC 9110 section 9.3.2: it need not be computed for HEAD. This server omits it for coded numbers only.
            (None, true) if to == ReplyTo::Head && self.is_gzip() => Ok(0),
            (None, true) => Err("no Content-Length"),
            (Some(length), true) => {
                let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| is_number);
                let length = length.ok_or("a malformed Content-Length")?;
                Ok(if to == ReplyTo::Head { 0 } else { length })
            }
        }
    }

    /// Names and values of the fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'b str, &'b str)> {
        self.fields.split("\r\n").filter_map(|line| line.split_once(": "))
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'b str> {
        let found = self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// Whether the body is coded with gzip.
    pub(crate) fn is_gzip(&self) -> bool {
        self.field("Content-Encoding") == Some("gzip")
    }

    /// Whether the server closes the connection after this reply.
    pub(crate) fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Parses `HTTP-version SP status-code SP reason-phrase`.
fn parse_status_line(line: &str) -> Option<(u16, &str)> {
    let (code, reason) = line.strip_prefix(VERSION)?.split_once(' ')?;
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let status = code.parse().ok().filter(|status| is_code && (100..600).contains(status))?;
    (!reason.is_empty() && is_text(reason)).then_some((status, reason))
}

/// Whether each line is `field-name ":" SP field-value` and no name is repeated.
fn fields_are_valid(fields: &str) -> bool {
    let lines = || fields.split("\r\n").filter(|_| !fields.is_empty());
    lines().enumerate().all(|(number, line)| {
        let Some((name, value)) = line.split_once(": ") else { return false };
        let mut before = lines().take(number).filter_map(|line| line.split_once(": "));
        let is_new = before.all(|(other, _)| !other.eq_ignore_ascii_case(name));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        let is_value = !value.is_empty() && is_text(value) && value.trim() == value;
        is_new && is_name && !name.is_empty() && is_value
    })
}

fn is_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
