//! A strict reader of responses (RFC 9112 section 4) that shares nothing with what renders them: the oracle
//! of tests that look at all that a connection has written.

/// A response as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply<'o> {
    /// The status code.
    pub(crate) status: u16,
    /// The field lines.
    fields: &'o str,
    /// The content.
    pub(crate) body: &'o [u8],
}

impl<'o> Reply<'o> {
    /// Takes the first response off `output`, or none if it is malformed or not all there. Where the
    /// content ends depends on whether HEAD is `answered`.
    pub(crate) fn take(output: &mut &'o [u8], answered: Asked) -> Option<Self> {
        let head_end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(output.get(..head_end)?).ok()?;
        let (status_line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let (code, reason) = status_line.strip_prefix("HTTP/1.1 ")?.split_once(' ')?;
        let status = code.parse().ok().filter(|status| (100..600).contains(status))?;
        if code.len() != 3 || reason.is_empty() || !fields_are_valid(fields) {
            return None;
        }
        let mut reply = Self { status, fields, body: b"" };
        let has_length = !matches!(status, 100..200 | 204 | 304);
        if reply.field("content-length").is_some() != has_length {
            return None;
        }
        let length = match (reply.field("content-length"), answered) {
            (Some(length), Asked::Content) => length.parse().ok()?,
            (Some(_), Asked::Head) | (None, _) => 0,
        };
        let behind = output.get(head_end + 4..)?;
        reply.body = behind.get(..length)?;
        *output = behind.get(length..)?;
        Some(reply)
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'o str> {
        self.fields.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Whether it says that nothing will follow.
    pub(crate) fn is_last(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// What the request asked for that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The content as well.
    Content,
    /// The head alone.
    Head,
}

/// Whether each line is `name: value` and no name comes twice.
fn fields_are_valid(fields: &str) -> bool {
    let mut names = Vec::new();
    fields.split("\r\n").filter(|_| !fields.is_empty()).all(|line| {
        let Some((name, value)) = line.split_once(": ") else { return false };
        let is_new = !names.contains(&name.to_ascii_lowercase());
        names.push(name.to_ascii_lowercase());
        let name_is_valid = name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        let value_is_valid = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_new && !name.is_empty() && name_is_valid && !value.is_empty() && value_is_valid
    })
}
