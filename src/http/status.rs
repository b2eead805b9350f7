//! The status codes of this server.

/// The status codes of this server's responses (RFC 9110 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the codes' own names")]
pub enum Status {
    Ok,
    NoContent,
    PartialContent,
    SeeOther,
    NotModified,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    PreconditionFailed,
    ContentTooLarge,
    UriTooLong,
    RangeNotSatisfiable,
    ExpectationFailed,
    UnprocessableContent,
    HeaderFieldsTooLarge,
    NotImplemented,
    ServiceUnavailable,
    VersionNotSupported,
}

impl Status {
    /// Every status, in the order of the discriminants.
    pub const ALL: [Self; 19] = [
        Self::Ok,
        Self::NoContent,
        Self::PartialContent,
        Self::SeeOther,
        Self::NotModified,
        Self::BadRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PreconditionFailed,
        Self::ContentTooLarge,
        Self::UriTooLong,
        Self::RangeNotSatisfiable,
        Self::ExpectationFailed,
        Self::UnprocessableContent,
        Self::HeaderFieldsTooLarge,
        Self::NotImplemented,
        Self::ServiceUnavailable,
        Self::VersionNotSupported,
    ];

    /// Whether a response with this status has content and `Content-Length` (RFC 9110 sections 8.6, 15.3.5 and 15.4.5).
    pub const fn has_content(self) -> bool {
        !matches!(self, Self::NoContent | Self::NotModified)
    }

    /// The three digits of the status line, which are also the `code` label of the metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok => "200",
            Self::NoContent => "204",
            Self::PartialContent => "206",
            Self::SeeOther => "303",
            Self::NotModified => "304",
            Self::BadRequest => "400",
            Self::NotFound => "404",
            Self::MethodNotAllowed => "405",
            Self::RequestTimeout => "408",
            Self::PreconditionFailed => "412",
            Self::ContentTooLarge => "413",
            Self::UriTooLong => "414",
            Self::RangeNotSatisfiable => "416",
            Self::ExpectationFailed => "417",
            Self::UnprocessableContent => "422",
            Self::HeaderFieldsTooLarge => "431",
            Self::NotImplemented => "501",
            Self::ServiceUnavailable => "503",
            Self::VersionNotSupported => "505",
        }
    }

    /// The status line without its line end. Reason phrases are those of the IANA registry.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK",
            Self::NoContent => "HTTP/1.1 204 No Content",
            Self::PartialContent => "HTTP/1.1 206 Partial Content",
            Self::SeeOther => "HTTP/1.1 303 See Other",
            Self::NotModified => "HTTP/1.1 304 Not Modified",
            Self::BadRequest => "HTTP/1.1 400 Bad Request",
            Self::NotFound => "HTTP/1.1 404 Not Found",
            Self::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed",
            Self::RequestTimeout => "HTTP/1.1 408 Request Timeout",
            Self::PreconditionFailed => "HTTP/1.1 412 Precondition Failed",
            Self::ContentTooLarge => "HTTP/1.1 413 Content Too Large",
            Self::UriTooLong => "HTTP/1.1 414 URI Too Long",
            Self::RangeNotSatisfiable => "HTTP/1.1 416 Range Not Satisfiable",
            Self::ExpectationFailed => "HTTP/1.1 417 Expectation Failed",
            Self::UnprocessableContent => "HTTP/1.1 422 Unprocessable Content",
            Self::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large",
            Self::NotImplemented => "HTTP/1.1 501 Not Implemented",
            Self::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable",
            Self::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported",
        }
    }

    /// The reason phrase.
    pub const fn reason(self) -> &'static str {
        self.line().split_at("HTTP/1.1 200 ".len()).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_follows_the_discriminants() {
        for (index, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, index);
        }
    }

    #[test]
    fn every_status_line_has_the_status_code() {
        for status in Status::ALL {
            assert_eq!(status.line().split(' ').nth(1), Some(status.code()));
            assert!(status.line().ends_with(&format!(" {}", status.reason())));
        }
    }
}
