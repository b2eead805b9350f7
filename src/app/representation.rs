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
        response::{Body, Response, ResponseKind},
    },
};

const NO_MATCH: &[u8] = b"the number has no entity tag that If-Match names\n";
const BEYOND_END: &[u8] = b"the range begins after the last digit\n";

/// The representation of a number that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// All digits as text.
    Text,
    /// Some of the digits.
    Part {
        /// Which ones.
        span: Span,
        /// The number of all.
        length: usize,
    },
}

impl Representation {
    /// The preferences without which text is sent.
    pub(super) const PREFERENCES: Preferences = Preferences::CONDITION.and(Preferences::RANGE);

    /// Selects the representation of F(n), which has `length` digits. The response is one that needs no digits. The
    /// preconditions come before the range (RFC 9110 section 13.2.2).
    #[cold]
    pub(super) fn select(
        n: u64,
        length: usize,
        (request, head): (&Request, &[u8]),
    ) -> Result<Self, Response<'static>> {
        let tag = format!("\"{n}\"");
        if request.preferences.has(Preferences::CONDITION) {
            check_precondition(n, &tag, head)?;
        }
        // Ranges are defined for GET only (RFC 9110 section 14.2).
        if request.method != Method::Get || !request.preferences.has(Preferences::RANGE) {
            return Ok(Self::Text);
        }
        match range::select(head, tag.as_bytes(), length) {
            SelectedRange::Whole => Ok(Self::Text),
            SelectedRange::Part(span) => Ok(Self::Part { span, length }),
            SelectedRange::Unsatisfiable => Err(Response {
                status: Status::RangeNotSatisfiable,
                kind: ResponseKind::BeyondEnd { length },
                body: Body::Bytes(BEYOND_END),
            }),
        }
    }

    /// The response with F(n).
    #[inline]
    pub(super) fn response(self, n: u64, digits: Body<'_>) -> Response<'_> {
        match self {
            Self::Text => {
                Response { status: Status::Ok, kind: ResponseKind::Number(n), body: digits }
            }
            Self::Part { span, length } => Response {
                status: Status::PartialContent,
                kind: ResponseKind::NumberPart { n, span, length },
                body: digits.part(span),
            },
        }
    }
}

/// Fails with the response if a precondition is false.
fn check_precondition(n: u64, tag: &str, head: &[u8]) -> Result<(), Response<'static>> {
    match failed_precondition(head, tag.trim_matches('"').as_bytes()) {
        None => Ok(()),
        Some(FailedPrecondition::IfMatch) => {
            Err(Response::text(Status::PreconditionFailed, NO_MATCH))
        }
        Some(FailedPrecondition::IfNoneMatch) => Err(Response {
            status: Status::NotModified,
            kind: ResponseKind::Number(n),
            body: Body::Bytes(b""),
        }),
    }
}
