//! The representations of a number: which one a request selects, and the response with it.

use crate::{
    app::precondition::{FailedPrecondition, failed_precondition},
    http::{
        Method, Span, Status,
        request::{
            head::Request,
            preferences::Preferences,
            range::{self, SelectedRange},
        },
        response::{Body, ErrorField, Response, ResponseKind},
    },
};

const NO_MATCH: &[u8] = b"the number has no entity tag that If-Match names\n";
const BEYOND_END: &[u8] = b"the range begins after the last digit\n";

/// The representation of a number that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// All digits as text.
    Text,
    /// All digits in JSON.
    Json,
    /// Some of the digits as text.
    Part {
        /// Which ones.
        span: Span,
        /// The number of all.
        length: usize,
    },
}

impl Representation {
    /// The preferences without which text is sent.
    pub(super) const PREFERENCES: Preferences =
        Preferences::CONDITION.and(Preferences::RANGE).and(Preferences::JSON);

    /// Selects the representation of F(n), which has `length` digits. The response is one that needs no digits. The
    /// preconditions come before the range (RFC 9110 section 13.2.2).
    #[cold]
    pub(super) fn select(
        n: u64,
        length: usize,
        (request, head): (&Request, &[u8]),
    ) -> Result<Self, Response<'static>> {
        let preferences = request.preferences;
        let whole = if preferences.has(Preferences::JSON) { Self::Json } else { Self::Text };
        let tag = whole.tag(n);
        if preferences.has(Preferences::CONDITION) {
            whole.check_precondition(n, &tag, head)?;
        }
        // Ranges are defined for GET (RFC 9110 section 14.2), and served of the text only.
        if whole != Self::Text
            || request.method != Method::Get
            || !preferences.has(Preferences::RANGE)
        {
            return Ok(whole);
        }
        match range::select(head, tag.as_bytes(), length) {
            SelectedRange::Whole => Ok(Self::Text),
            SelectedRange::Part(span) => Ok(Self::Part { span, length }),
            SelectedRange::Unsatisfiable => Err(Response::error(
                Status::RangeNotSatisfiable,
                BEYOND_END,
                ErrorField::CompleteLength(length),
            )),
        }
    }

    /// The response with F(n).
    #[inline]
    pub(super) fn response(self, n: u64, digits: Body<'_>) -> Response<'_> {
        match self {
            Self::Text => Response { status: Status::Ok, kind: self.kind(n), body: digits },
            Self::Json => {
                let body = digits.without_fields();
                Response { status: Status::Ok, kind: self.kind(n), body }
            }
            Self::Part { span, .. } => {
                let body = digits.part(span);
                Response { status: Status::PartialContent, kind: self.kind(n), body }
            }
        }
    }

    const fn kind(self, n: u64) -> ResponseKind {
        match self {
            Self::Text => ResponseKind::Number(n),
            Self::Json => ResponseKind::NumberJson(n),
            Self::Part { span, length } => ResponseKind::NumberPart { n, span, length },
        }
    }

    /// The entity tag. Each representation has its own (RFC 9110 section 8.8.3).
    fn tag(self, n: u64) -> String {
        match self {
            Self::Text | Self::Part { .. } => format!("\"{n}\""),
            Self::Json => format!("\"{n}-json\""),
        }
    }

    /// Fails with the response if a precondition is false.
    fn check_precondition(self, n: u64, tag: &str, head: &[u8]) -> Result<(), Response<'static>> {
        match failed_precondition(head, tag.trim_matches('"').as_bytes()) {
            None => Ok(()),
            Some(FailedPrecondition::IfMatch) => {
                Err(Response::error(Status::PreconditionFailed, NO_MATCH, ErrorField::None))
            }
            Some(FailedPrecondition::IfNoneMatch) => Err(Response {
                status: Status::NotModified,
                kind: self.kind(n),
                body: Body::Bytes(b""),
            }),
        }
    }
}
