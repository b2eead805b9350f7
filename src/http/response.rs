//! A response: a status, what determines its fields, and its content. [`super::render`] makes bytes of it.

use std::sync::Arc;

use crate::http::{Span, Status, json};

/// A response, independent of the connection that sends it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: Status,
    /// Determines the fields other than `Date`, `Connection` and `Content-Length`.
    pub kind: ResponseKind,
    /// The content; empty if the status allows none.
    pub body: Body<'a>,
}

impl<'a> Response<'a> {
    /// Returns a response with a line of text.
    pub const fn text(status: Status, text: &'a [u8]) -> Self {
        Self { status, kind: ResponseKind::Text, body: Body::Bytes(text) }
    }

    /// Returns an error with a line of text, which scripts of every origin may read.
    pub const fn error(status: Status, text: &'a [u8], field: ErrorField) -> Self {
        let kind = ResponseKind::Error(field, CrossOrigin::Readable);
        Self { status, kind, body: Body::Bytes(text) }
    }

    /// Returns an error with a line of text of a route for operators.
    pub const fn admin_error(status: Status, text: &'a [u8], field: ErrorField) -> Self {
        let kind = ResponseKind::Error(field, CrossOrigin::Hidden);
        Self { status, kind, body: Body::Bytes(text) }
    }

    /// Length of the content in bytes.
    pub fn content_len(&self) -> usize {
        let length = self.body.len();
        if let ResponseKind::NumberJson(n) = self.kind
            && self.status.has_content()
        {
            return json::number_length(n, length);
        }
        length
    }

    /// Length in bytes of the content that is sent in this mode.
    pub fn sent_len(&self, mode: BodyMode) -> usize {
        match mode {
            BodyMode::Send => self.content_len(),
            BodyMode::Omit => 0,
        }
    }

    /// What follows a shared body.
    pub const fn tail(&self) -> &'static [u8] {
        if let ResponseKind::NumberJson(_) = self.kind { json::NUMBER_END } else { b"" }
    }
}

/// The content of a response.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Bytes to copy into the output.
    Bytes(&'a [u8]),
    /// Such bytes, which are the problem details of an error.
    Problem(&'a [u8]),
    /// Bytes that several responses share and that are too many to copy.
    Shared(&'a Arc<[u8]>),
    /// Some of such bytes.
    SharedPart(&'a Arc<[u8]>, Span),
    /// The digits of a number of the table after the fields of
    /// [`render::push_number_fields`](super::render::push_number_fields), all to copy at once.
    Prefixed {
        /// Both.
        bytes: &'a [u8],
        /// Length of the fields in bytes.
        fields_bytes: usize,
    },
    /// Content of this length that has not been computed, in a response to HEAD.
    Length(usize),
    /// Such content, of a length that is not known: the response has no `Content-Length`.
    UnknownLength,
}

impl<'a> Body<'a> {
    /// This content without the fields before it.
    #[must_use]
    pub fn without_fields(self) -> Self {
        if let Self::Prefixed { bytes, fields_bytes } = self {
            return Self::Bytes(bytes.get(fields_bytes..).unwrap_or_default());
        }
        self
    }

    /// The bytes of this content that `span` selects.
    #[must_use]
    pub fn part(self, span: Span) -> Self {
        match self.without_fields() {
            Self::Bytes(bytes) | Self::Prefixed { bytes, .. } | Self::Problem(bytes) => {
                Self::Bytes(span.of(bytes))
            }
            Self::Shared(bytes) | Self::SharedPart(bytes, _) => Self::SharedPart(bytes, span),
            Self::Length(_) | Self::UnknownLength => Self::Length(span.len()),
        }
    }

    /// The bytes that are shared instead of copied, and which of them are sent.
    pub fn shared(&self) -> Option<(&'a Arc<[u8]>, Span)> {
        match self {
            Self::Shared(bytes) => Some((bytes, Span::new(0, bytes.len()))),
            Self::SharedPart(bytes, span) => Some((bytes, *span)),
            Self::Bytes(_)
            | Self::Problem(_)
            | Self::Prefixed { .. }
            | Self::Length(_)
            | Self::UnknownLength => None,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Problem(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
            Self::SharedPart(_, span) => span.len(),
            Self::Prefixed { bytes, fields_bytes } => bytes.len() - fields_bytes,
            Self::Length(length) => *length,
            Self::UnknownLength => 0,
        }
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The kind of content, which determines media type, caching and a few more fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// F(n), which never changes: cacheable for a year, with n as its strong entity tag.
    Number(u64),
    /// A part of F(n), with the fields of the whole.
    NumberPart {
        /// The index.
        n: u64,
        /// The digits that are sent.
        span: Span,
        /// The number of all digits.
        length: usize,
    },
    /// F(n), coded with gzip. The body is coded.
    NumberGzip(u64),
    /// F(n) in JSON. The body is the digits.
    NumberJson(u64),
    /// A line of text that must not be stored.
    Text,
    /// Content of this media type that must not be stored.
    Media(&'static str),
    /// An error, which must not be stored: a line of text, or problem details for a client that prefers them.
    Error(ErrorField, CrossOrigin),
    /// No content, and the methods for `Allow`.
    Allow(&'static str),
    /// The same for a preflight request of a browser.
    Preflight(&'static str),
    /// A line of text, and the number in `Location` (RFC 9110 section 15.4.4).
    SeeNumber(u64),
    /// A static file with these fields.
    File(&'static FileFields),
}

/// Whether scripts of other origins may read a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossOrigin {
    /// They may.
    Readable,
    /// They may not.
    Hidden,
}

/// The field that an error has because of its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorField {
    /// None.
    None,
    /// `Allow`, with these methods.
    Allow(&'static str),
    /// `Content-Range`, with the number of digits (RFC 9110 section 15.5.17).
    CompleteLength(usize),
    /// `Retry-After`, in seconds (RFC 9110 section 10.2.3).
    RetryAfter(u32),
}

/// The fields of a static file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileFields {
    /// The value of `Content-Type`.
    pub media_type: &'static str,
    /// The value of `Cache-Control`.
    pub cache_control: &'static str,
    /// The strong entity tag, in quotes.
    pub etag: &'static str,
    /// Further field lines, each with its line end, which a 304 lacks.
    pub others: &'static str,
}

impl ResponseKind {
    /// What follows n in the entity tag of a number: each representation has its own tag (RFC 9110 section 8.8.3).
    pub const fn tag_suffix(self) -> &'static str {
        match self {
            Self::NumberGzip(_) => "-gzip",
            Self::NumberJson(_) => "-json",
            Self::Number(_)
            | Self::NumberPart { .. }
            | Self::Text
            | Self::Media(_)
            | Self::Error(..)
            | Self::Allow(_)
            | Self::Preflight(_)
            | Self::SeeNumber(_)
            | Self::File(_) => "",
        }
    }
}

/// Whether the content is sent, or only the fields that describe it (RFC 9110 section 9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// The content is sent.
    Send,
    /// The content is omitted, in a response to HEAD.
    Omit,
}

/// The `Connection` field of a response (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionHeader {
    /// No field: HTTP/1.1 connections are persistent by default.
    Implied,
    /// `keep-alive`, which an HTTP/1.0 client needs.
    KeepAlive,
    /// `close`: the connection closes after this response.
    Close,
}
