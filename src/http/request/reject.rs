//! The reasons to reject a request before it reaches a route, each with a status and a line of text.

use crate::http::Status;

/// A reason to reject a request. The connection closes after each of them, because the framing is in doubt or the
/// client does not keep to the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The request line is not `method SP target SP version` (RFC 9112 section 3).
    BadRequestLine,
    /// A line ends in LF without CR. A recipient may accept it as a line end (RFC 9112 section 2.2), but requests can
    /// be smuggled if two recipients of a stream disagree about it.
    BareLineFeed,
    /// A field line is malformed: invalid name or value, white space before the colon, obs-fold, bare CR, NUL
    /// (RFC 9112 section 5, RFC 9110 section 5.5).
    BadHeader,
    /// `Host` is missing in HTTP/1.1, repeated or not a host (RFC 9112 section 3.2).
    BadHost,
    /// The target has none of the four forms, or not that of the method (RFC 9112 section 3.2).
    BadTarget,
    /// `Content-Length` is malformed, repeated, or combined with `Transfer-Encoding` (RFC 9112 section 6.3).
    BadContentLength,
    /// `Transfer-Encoding` is malformed, repeated or does not end in `chunked`, or the version is HTTP/1.0 (RFC 9112
    /// sections 6.1 and 6.3).
    BadTransferCoding,
    /// The chunked coding of a body is malformed (RFC 9112 section 7.1).
    BadChunk,
    /// The stream ended within a request (RFC 9112 section 8).
    Incomplete,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is longer than the limit.
    BodyTooLarge,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The expectation is not `100-continue` (RFC 9110 section 10.1.1).
    UnknownExpectation,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// The head has more field lines than the limit.
    TooManyFields,
    /// The method is unknown (RFC 9110 section 9.1).
    UnknownMethod,
    /// A transfer coding before `chunked` is unknown (RFC 9112 section 6.1).
    UnknownTransferCoding,
    /// The major version is not 1 (RFC 9110 section 2.5).
    UnsupportedVersion,
}

impl Reject {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 19] = [
        Self::BadRequestLine,
        Self::BareLineFeed,
        Self::BadHeader,
        Self::BadHost,
        Self::BadTarget,
        Self::BadContentLength,
        Self::BadTransferCoding,
        Self::BadChunk,
        Self::Incomplete,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::UnknownExpectation,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::UnknownMethod,
        Self::UnknownTransferCoding,
        Self::UnsupportedVersion,
    ];

    /// The `reason` label of the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequestLine => "bad_request_line",
            Self::BareLineFeed => "bare_line_feed",
            Self::BadHeader => "bad_header",
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::BadContentLength => "bad_content_length",
            Self::BadTransferCoding => "bad_transfer_coding",
            Self::BadChunk => "bad_chunk",
            Self::Incomplete => "incomplete",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::UnknownExpectation => "unknown_expectation",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::UnknownMethod => "unknown_method",
            Self::UnknownTransferCoding => "unknown_transfer_coding",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }

    /// The status of the response.
    pub const fn status(self) -> Status {
        match self {
            Self::BadRequestLine
            | Self::BareLineFeed
            | Self::BadHeader
            | Self::BadHost
            | Self::BadTarget
            | Self::BadContentLength
            | Self::BadTransferCoding
            | Self::BadChunk
            | Self::Incomplete => Status::BadRequest,
            Self::HeadTimeout | Self::BodyTimeout => Status::RequestTimeout,
            Self::BodyTooLarge => Status::ContentTooLarge,
            Self::TargetTooLong => Status::UriTooLong,
            Self::UnknownExpectation => Status::ExpectationFailed,
            Self::HeadTooLarge | Self::TooManyFields => Status::HeaderFieldsTooLarge,
            Self::UnknownMethod | Self::UnknownTransferCoding => Status::NotImplemented,
            Self::UnsupportedVersion => Status::VersionNotSupported,
        }
    }

    /// The content of the response, a line of text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadRequestLine => "the request line is malformed\n",
            Self::BareLineFeed => "a line of the request ends without CR\n",
            Self::BadHeader => "a header field is malformed\n",
            Self::BadHost => "exactly one valid Host header field is required\n",
            Self::BadTarget => "the request target is malformed\n",
            Self::BadContentLength => "the request's length is malformed or ambiguous\n",
            Self::BadTransferCoding => "the request's transfer coding is malformed or ambiguous\n",
            Self::BadChunk => "the chunked body is malformed\n",
            Self::Incomplete => "the request is incomplete\n",
            Self::HeadTimeout => "the request head took too long to arrive\n",
            Self::BodyTimeout => "the request body took too long to arrive\n",
            Self::BodyTooLarge => "the request body is too large\n",
            Self::TargetTooLong => "the request target is too long\n",
            Self::UnknownExpectation => "the only expectation understood is 100-continue\n",
            Self::HeadTooLarge => "the request head is too large\n",
            Self::TooManyFields => "the request has too many header fields\n",
            Self::UnknownMethod => "the request method is not known\n",
            Self::UnknownTransferCoding => "the only transfer coding supported is chunked\n",
            Self::UnsupportedVersion => "the HTTP version is not supported, use HTTP/1.1\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_follows_the_discriminants_and_labels_are_unique() {
        let mut labels: Vec<&str> = Reject::ALL.into_iter().map(Reject::as_str).collect();
        for (index, reject) in Reject::ALL.into_iter().enumerate() {
            assert_eq!(reject as usize, index);
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reject::ALL.len());
    }

    #[test]
    fn every_text_is_one_line() {
        for text in Reject::ALL.map(Reject::text) {
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
        }
    }
}
