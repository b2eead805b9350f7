//! A response that owns its text.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::parser::{ReplyRef, ReplyTo};

/// A response as a client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    /// The content, decoded.
    pub(crate) body: String,
}

impl From<ReplyRef<'_>> for Reply {
    fn from(reply: ReplyRef<'_>) -> Self {
        let mut body = String::new();
        let mut plain = reply.body;
        let read = if reply.is_gzip() && !reply.body.is_empty() {
            GzDecoder::new(reply.body).read_to_string(&mut body)
        } else {
            plain.read_to_string(&mut body)
        };
        read.expect("a body that is text");
        let fields = reply.fields().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            status: reply.status,
            reason: reply.reason.to_owned(),
            fields: fields.collect(),
            body,
        }
    }
}

impl Reply {
    /// Removes the first reply from `received`. Returns none if it is incomplete.
    pub(crate) fn take(received: &mut Vec<u8>, to: ReplyTo) -> Option<Self> {
        let parsed = ReplyRef::parse(received, to);
        let parsed =
            parsed.unwrap_or_else(|problem| panic!("{problem}: {}", received.escape_ascii()));
        let (reply, length) = parsed.map(|parsed| (Self::from(parsed), parsed.length))?;
        received.drain(..length);
        Some(reply)
    }

    /// Parses `output`, which must consist of complete replies, none of them to HEAD.
    pub(crate) fn parse_all(output: &[u8]) -> Vec<Self> {
        Self::parse_all_to(output, ReplyTo::Other)
    }

    /// Parses `output`, which must consist of complete replies to requests of this kind.
    pub(crate) fn parse_all_to(mut output: &[u8], to: ReplyTo) -> Vec<Self> {
        let mut replies = Vec::new();
        while !output.is_empty() {
            match ReplyRef::parse(output, to) {
                Ok(Some(reply)) => {
                    output = output.get(reply.length..).unwrap_or_default();
                    replies.push(reply.into());
                }
                Ok(None) => panic!("an incomplete reply: {}", output.escape_ascii()),
                Err(problem) => panic!("{problem}: {}", output.escape_ascii()),
            }
        }
        replies
    }

    /// The value of a field. The parser rejects a second field with the same name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}
