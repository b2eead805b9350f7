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

/// From this n on a number has at least 4 KiB of digits and is worth coding: several packets become half as many.
const GZIP_MIN_N: u64 = 19_597;

/// The representation of a number that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// All digits as text.
    Text,
    /// All digits as text, coded with gzip.
    Gzip,
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
    const PREFERENCES: Preferences =
        Preferences::CONDITION.and(Preferences::RANGE).and(Preferences::JSON);

    /// Whether a client with these preferences may get another response than F(n) as text.
    #[inline]
    pub(super) const fn varies(n: u64, preferences: Preferences) -> bool {
        const WITH_GZIP: Preferences = Representation::PREFERENCES.and(Preferences::GZIP);
        preferences.has(if n < GZIP_MIN_N { Self::PREFERENCES } else { WITH_GZIP })
    }

    /// Selects the representation of F(n), which has `length` digits. The response is one that needs no digits. The
    /// preconditions come before the range (RFC 9110 section 13.2.2).
    #[cold]
    pub(super) fn select(
        n: u64,
        length: usize,
        (request, head): (&Request, &[u8]),
    ) -> Result<Self, Response<'static>> {
        let preferences = request.preferences;
        let whole = Self::whole(n, preferences);
        if preferences.has(Preferences::CONDITION) {
            whole.check_precondition(n, head)?;
        }
        // Ranges are defined for GET (RFC 9110 section 14.2), and served of the text only.
        if whole != Self::Text
            || request.method != Method::Get
            || !preferences.has(Preferences::RANGE)
        {
            return Ok(whole);
        }
        let is_current = |validator: &[u8]| validator == format!("\"{}\"", whole.tag(n)).as_bytes();
        match range::select(head, is_current, length) {
            SelectedRange::Whole => Ok(Self::Text),
            SelectedRange::Part(span) => Ok(Self::Part { span, length }),
            SelectedRange::Unsatisfiable => Err(Response::error(
                Status::RangeNotSatisfiable,
                BEYOND_END,
                ErrorField::CompleteLength(length),
            )),
        }
    }

    /// Selects among those with all digits. A range is always one of the text, so with the field there is no coding.
    const fn whole(n: u64, preferences: Preferences) -> Self {
        if preferences.has(Preferences::JSON) {
            Self::Json
        } else if n >= GZIP_MIN_N
            && preferences.has(Preferences::GZIP)
            && !preferences.has(Preferences::RANGE)
        {
            Self::Gzip
        } else {
            Self::Text
        }
    }

    /// The response with F(n). `digits` are coded already for [`Self::Gzip`].
    #[inline]
    pub(super) fn response(self, n: u64, digits: Body<'_>) -> Response<'_> {
        match self {
            Self::Text | Self::Gzip => {
                Response { status: Status::Ok, kind: self.kind(n), body: digits }
            }
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
            Self::Gzip => ResponseKind::NumberGzip(n),
            Self::Json => ResponseKind::NumberJson(n),
            Self::Part { span, length } => ResponseKind::NumberPart { n, span, length },
        }
    }

    /// The entity tag, without quotes.
    fn tag(self, n: u64) -> String {
        format!("{n}{}", self.kind(n).tag_suffix())
    }

    /// Fails with the response if a precondition is false.
    fn check_precondition(self, n: u64, head: &[u8]) -> Result<(), Response<'static>> {
        match failed_precondition(head, self.tag(n).as_bytes()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fibonacci::digit_count;

    #[test]
    fn gzip_begins_at_4_kib() {
        assert_eq!([GZIP_MIN_N - 1, GZIP_MIN_N].map(digit_count), [4095, 4096]);
        assert!(!Representation::varies(GZIP_MIN_N - 1, Preferences::GZIP));
        assert!(Representation::varies(GZIP_MIN_N, Preferences::GZIP));
        assert!(!Representation::varies(GZIP_MIN_N, Preferences::default()));
    }

    #[test]
    fn json_and_ranges_are_not_coded() {
        let check = |n, preferences, expected| {
            assert_eq!(Representation::whole(n, preferences), expected, "{preferences:?}");
        };
        check(GZIP_MIN_N, Preferences::GZIP, Representation::Gzip);
        check(GZIP_MIN_N - 1, Preferences::GZIP, Representation::Text);
        check(GZIP_MIN_N, Preferences::GZIP.and(Preferences::JSON), Representation::Json);
        check(GZIP_MIN_N, Preferences::GZIP.and(Preferences::RANGE), Representation::Text);
        check(GZIP_MIN_N, Preferences::CONDITION, Representation::Text);
    }
}
