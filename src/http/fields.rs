//! The fields of a response, but those that the connection and the length of the content determine.

use crate::http::{
    Span, Status, decimal,
    response::{Body, CrossOrigin, ErrorField, Response, ResponseKind},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// Scripts of every origin may read numbers, files and errors with all their fields.
const CORS: &[u8] = b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n";

/// The fields that a script may send, and for how long a browser may remember that, in seconds.
const PREFLIGHT: &[u8] = b"Access-Control-Allow-Headers: \
    Accept, If-Match, If-None-Match, If-Range, Range, traceparent, tracestate\r\n\
    Access-Control-Max-Age: 86400\r\n";

/// Appends the status line and the fields before `Date`: what [`Preamble`](super::preamble::Preamble) has for a number.
pub(super) fn push_preamble(out: &mut Vec<u8>, response: &Response<'_>) {
    out.extend_from_slice(response.status.line().as_bytes());
    out.extend_from_slice(b"\r\n");
    if response.status.has_content() {
        push_field(out, "Content-Type", media_type(response).as_bytes());
        push_field(out, "X-Content-Type-Options", b"nosniff");
        if let ResponseKind::Number(_)
        | ResponseKind::NumberPart { .. }
        | ResponseKind::Error(ErrorField::CompleteLength(_), _) = response.kind
        {
            push_field(out, "Accept-Ranges", b"bytes");
        }
        if let ResponseKind::NumberGzip(_) = response.kind {
            push_field(out, "Content-Encoding", b"gzip");
        }
    }
    push_caching(out, response.kind);
}

/// Appends the fields that only some kinds of response have.
pub(super) fn push_own_fields(out: &mut Vec<u8>, response: &Response<'_>) {
    match response.kind {
        ResponseKind::Text | ResponseKind::Media(_) | ResponseKind::Error(ErrorField::None, _) => {}
        ResponseKind::Number(n) | ResponseKind::NumberGzip(n) | ResponseKind::NumberJson(n) => {
            push_tag(out, n, response.kind.tag_suffix());
        }
        ResponseKind::NumberPart { n, span, length } => {
            push_tag(out, n, "");
            push_content_range(out, Some(span), length);
        }
        ResponseKind::File(fields) => {
            push_field(out, "ETag", fields.etag.as_bytes());
            if response.status == Status::Ok {
                out.extend_from_slice(fields.others.as_bytes());
            }
        }
        ResponseKind::Error(ErrorField::CompleteLength(length), _) => {
            push_content_range(out, None, length);
        }
        ResponseKind::Error(ErrorField::RetryAfter(seconds), _) => {
            out.extend_from_slice(b"Retry-After: ");
            decimal::push(out, seconds.into());
            out.extend_from_slice(b"\r\n");
        }
        ResponseKind::SeeNumber(n) => {
            out.extend_from_slice(b"Location: /api/fibonacci/");
            decimal::push(out, n);
            out.extend_from_slice(b"\r\n");
        }
        ResponseKind::Preflight(methods) => {
            push_field(out, "Allow", methods.as_bytes());
            push_field(out, "Access-Control-Allow-Methods", methods.as_bytes());
            out.extend_from_slice(PREFLIGHT);
        }
        ResponseKind::Allow(methods) | ResponseKind::Error(ErrorField::Allow(methods), _) => {
            push_field(out, "Allow", methods.as_bytes());
        }
    }
}

/// Appends how long a cache may keep the response, the preferences on which it depends, and which scripts may read it.
fn push_caching(out: &mut Vec<u8>, kind: ResponseKind) {
    let (caching, vary) = match kind {
        ResponseKind::Number(_)
        | ResponseKind::NumberPart { .. }
        | ResponseKind::NumberGzip(_)
        | ResponseKind::NumberJson(_) => {
            ("public, max-age=31536000, immutable", "Accept, Accept-Encoding")
        }
        ResponseKind::Error(..) => ("no-store", "Accept"),
        ResponseKind::File(fields) => (fields.cache_control, ""),
        ResponseKind::Text
        | ResponseKind::Media(_)
        | ResponseKind::Allow(_)
        | ResponseKind::Preflight(_)
        | ResponseKind::SeeNumber(_) => ("no-store", ""),
    };
    push_field(out, "Cache-Control", caching.as_bytes());
    if !vary.is_empty() {
        push_field(out, "Vary", vary.as_bytes());
    }
    let is_hidden = matches!(
        kind,
        ResponseKind::Text
            | ResponseKind::Media(_)
            | ResponseKind::Allow(_)
            | ResponseKind::Error(_, CrossOrigin::Hidden)
    );
    if !is_hidden {
        out.extend_from_slice(CORS);
    }
}

/// The value of `Content-Type`.
const fn media_type(response: &Response<'_>) -> &'static str {
    match (response.kind, response.body) {
        (ResponseKind::Media(media_type), _) => media_type,
        (ResponseKind::File(fields), _) => fields.media_type,
        (ResponseKind::NumberJson(_), _) => "application/json",
        (_, Body::Problem(_)) => "application/problem+json",
        _ => TEXT,
    }
}

pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_tag(out: &mut Vec<u8>, n: u64, suffix: &str) {
    out.extend_from_slice(b"ETag: \"");
    decimal::push(out, n);
    out.extend_from_slice(suffix.as_bytes());
    out.extend_from_slice(b"\"\r\n");
}

/// Appends the positions of the bytes that are sent, of `length`, or `*` if there are none (RFC 9110 section 14.4).
fn push_content_range(out: &mut Vec<u8>, span: Option<Span>, length: usize) {
    out.extend_from_slice(b"Content-Range: bytes ");
    if let Some(span) = span {
        decimal::push(out, span.range().start as u64);
        out.push(b'-');
        decimal::push(out, span.range().end.saturating_sub(1) as u64);
    } else {
        out.push(b'*');
    }
    out.push(b'/');
    decimal::push(out, length as u64);
    out.extend_from_slice(b"\r\n");
}
