//! Answers, read back by a parser that shares nothing with the server's.

/// Whether an answer has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Get,
    Head,
}

/// One answer, in the bytes it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'bytes> {
    pub(crate) status: u16,
    head: &'bytes str,
    pub(crate) body: &'bytes [u8],
    /// All its bytes.
    pub(crate) length: usize,
}

impl<'bytes> Reply<'bytes> {
    /// The first answer in `bytes`, if it is whole; an error if it can be none.
    pub(crate) fn parse(bytes: &'bytes [u8], asked: Asked) -> Result<Option<Self>, &'static str> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            let is_no_answer = !b"HTTP/1.1 ".starts_with(bytes.get(..9).unwrap_or(bytes));
            return if is_no_answer { Err("not an answer") } else { Ok(None) };
        };
        let head = bytes.get(..end + 2).unwrap_or_default();
        let head = str::from_utf8(head).map_err(|_| "head is not text")?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or("no status line")?;
        let mut reply = Self { status, head, body: &[], length: end + 4 };
        let has_body = asked == Asked::Get && status >= 200 && status != 204 && status != 304;
        if has_body {
            let length = reply.field("content-length").ok_or("no Content-Length")?;
            let length: usize = length.parse().map_err(|_| "bad Content-Length")?;
            let Some(body) = bytes.get(reply.length..reply.length + length) else {
                return Ok(None);
            };
            reply.body = body;
            reply.length += length;
        }
        Ok(Some(reply))
    }

    /// The value of the first field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&'bytes str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.trim())
    }

    /// Whether the connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What honest clients ask for, and what is right.
pub(crate) const ASK: &[u8] = b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const F20: &[u8] = b"6765";

/// Takes the answer to [`ASK`] out of an inbox: none if it is not there yet, else whether it is right.
pub(crate) fn take_f20(inbox: &mut Vec<u8>) -> Option<bool> {
    match Reply::parse(inbox, Asked::Get) {
        Ok(None) => None,
        Ok(Some(reply)) => {
            let is_right = reply.status == 200 && reply.body == F20;
            let length = reply.length;
            inbox.drain(..length);
            Some(is_right)
        }
        Err(_) => {
            inbox.clear();
            Some(false)
        }
    }
}
