//! Reads what the server wrote. Every reply of every test passes here, so that what the grammar asks of a
//! sender is asked of all of them.

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Whether the replies are to HEAD, which must not have content whatever their fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Expected,
    Forbidden,
}

impl Reply {
    /// The values of all fields with this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that must not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} twice: {self:?}");
        values.first().copied()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("UTF-8")
    }

    /// All replies in `output`, which they fill to its end.
    pub(crate) fn parse_all(mut output: &[u8], content: Content) -> Vec<Self> {
        let mut replies = Vec::new();
        while !output.is_empty() {
            let (reply, length) = Self::parse(output, content);
            replies.push(reply);
            output = &output[length..];
        }
        replies
    }

    /// The reply at the front of `output`, and its length in bytes.
    fn parse(output: &[u8], content: Content) -> (Self, usize) {
        let shown = output.escape_ascii();
        let head_bytes = output
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no end of the head in {shown}"));
        let head = str::from_utf8(&output[..head_bytes]).expect("heads are ASCII");
        let mut lines = head.split("\r\n");
        let (status, reason) = parse_status_line(lines.next().expect("split yields one"));
        let fields: Vec<_> = lines.map(parse_field).collect();
        let mut reply = Self { status, reason, fields, body: Vec::new() };
        let body_start = head_bytes + 4;
        let length = reply.body_length(content);
        let body = output.get(body_start..body_start + length);
        reply.body = body.unwrap_or_else(|| panic!("content is missing in {shown}")).to_vec();
        (reply, body_start + length)
    }

    /// How long the content is, by the rules for clients (RFC 9112 section 6.3).
    fn body_length(&self, content: Content) -> usize {
        assert_eq!(self.field("Transfer-Encoding"), None, "none is ever needed");
        let length = self.field("Content-Length");
        if self.status < 200 || self.status == 204 {
            assert_eq!(length, None, "forbidden by RFC 9110 section 8.6: {self:?}");
        }
        if self.status < 200 || matches!(self.status, 204 | 304) {
            return 0;
        }
        let length = length.unwrap_or_else(|| panic!("no length but the end of stream: {self:?}"));
        assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{self:?}");
        if content == Content::Forbidden { 0 } else { length.parse().expect("a length") }
    }
}

/// `HTTP-version SP status-code SP [ reason-phrase ]`.
fn parse_status_line(line: &str) -> (u16, String) {
    let rest = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{line:?}"));
    let (code, reason) = rest.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
    assert!(is_text(reason), "{line:?}");
    (code.parse().expect("digits"), reason.to_owned())
}

/// `field-name ":" SP field-value`, the value without white space around it.
fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(is_token), "{line:?}");
    assert!(is_text(value) && value.trim() == value, "{line:?}");
    (name.to_owned(), value.to_owned())
}

fn is_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
