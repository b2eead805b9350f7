//! Interprets the header fields that decide framing, persistence, expectation and [`Preferences`] of a request.
//!
//! Each field is added to a [`HeaderSummary`], which then yields these values. The values of other fields (`Range`,
//! `If-None-Match`) are only looked up by [`lines::values`](super::lines::values), when a response depends on them.

use crate::http::{
    Reject,
    request::{
        body::Framing,
        lines::{is_token, list, parse_u64},
        preferences::{CodingWeights, MediaWeights, Preferences},
        target::is_host,
    },
};

/// The minor version of an HTTP/1 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version (RFC 9110 section 2.5).
    Http11,
}

/// Whether the connection stays open after the response (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// The connection closes after the response.
    Close,
}

/// What the client waits for before it sends the body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    #[default]
    None,
    /// An interim 100 response.
    Continue,
}

/// A summary of the header fields of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderSummary {
    hosts: u32,
    length: Option<u64>,
    coding: TransferCoding,
    connection: ConnectionOption,
    expectation: Expectation,
    media: MediaWeights,
    codings: CodingWeights,
    preferences: Preferences,
}

/// The value of `Transfer-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TransferCoding {
    #[default]
    None,
    Chunked,
    /// At least one unknown coding, followed by chunked.
    Unknown,
}

/// The `Connection` options that matter. `close` takes precedence (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ConnectionOption {
    #[default]
    None,
    KeepAlive,
    Close,
}

impl HeaderSummary {
    /// Adds a field line.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Reject> {
        // The length rules out most names with one jump. Names are case-insensitive.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => return self.add_host(value),
            5 if name.eq_ignore_ascii_case("range") => self.prefer(Preferences::RANGE),
            6 if name.eq_ignore_ascii_case("accept") => self.add_accept(value),
            6 if name.eq_ignore_ascii_case("expect") => return self.add_expect(value),
            8 if name.eq_ignore_ascii_case("if-match") => self.prefer(Preferences::CONDITION),
            10 if name.eq_ignore_ascii_case("connection") => self.add_connection(value),
            13 if name.eq_ignore_ascii_case("if-none-match") => self.prefer(Preferences::CONDITION),
            14 if name.eq_ignore_ascii_case("content-length") => {
                return self.add_content_length(value);
            }
            15 if name.eq_ignore_ascii_case("accept-encoding") => self.add_accept_encoding(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                return self.add_transfer_coding(value);
            }
            _ => {}
        }
        Ok(())
    }

    const fn prefer(&mut self, preference: Preferences) {
        self.preferences = self.preferences.and(preference);
    }

    fn add_accept(&mut self, value: &[u8]) {
        self.media.add(value);
        self.preferences = self.media.apply(self.preferences);
    }

    fn add_accept_encoding(&mut self, value: &[u8]) {
        self.codings.add(value);
        self.preferences = self.codings.apply(self.preferences);
    }

    fn add_host(&mut self, value: &[u8]) -> Result<(), Reject> {
        self.hosts += 1;
        if self.hosts == 1 && is_host(value) { Ok(()) } else { Err(Reject::BadHost) }
    }

    /// Adds a list of expectations, which may be empty. All must be `100-continue` (RFC 9110 section 10.1.1).
    fn add_expect(&mut self, value: &[u8]) -> Result<(), Reject> {
        for expectation in list(value) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Reject::UnknownExpectation);
            }
            self.expectation = Expectation::Continue;
        }
        Ok(())
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.connection = ConnectionOption::Close;
            } else if self.connection == ConnectionOption::None
                && option.eq_ignore_ascii_case(b"keep-alive")
            {
                self.connection = ConnectionOption::KeepAlive;
            }
        }
    }

    /// Adds a length, which must be one or more digits and the only one. A repeated length is rejected even if it is
    /// the same, which RFC 9112 section 6.3 item 5 allows.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.length.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Reject::BadContentLength);
        }
        // A length beyond 64 bits is valid and exceeds every limit.
        self.length = Some(parse_u64(value).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Adds the only list of transfer codings, which must end in `chunked` and contain it once (RFC 9112 section 6.3
    /// item 4). Parameters are rejected, because recipients disagree about them.
    fn add_transfer_coding(&mut self, value: &[u8]) -> Result<(), Reject> {
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let is_token =
            |coding: &[u8]| !coding.is_empty() && coding.iter().all(|byte| is_token(*byte));
        let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if self.coding != TransferCoding::None
            || !codings.next().is_some_and(is_chunked)
            || !codings.all(|coding| is_token(coding) && !is_chunked(coding))
        {
            return Err(Reject::BadTransferCoding);
        }
        let is_only_coding = is_chunked(value);
        self.coding =
            if is_only_coding { TransferCoding::Chunked } else { TransferCoding::Unknown };
        Ok(())
    }

    /// Returns how the body is delimited (RFC 9112 section 6.3).
    pub fn framing(&self, version: Version) -> Result<Framing, Reject> {
        match (self.coding, self.length, version) {
            (TransferCoding::None, None | Some(0), _) => Ok(Framing::Empty),
            (TransferCoding::None, Some(length), _) => Ok(Framing::Length(length)),
            (_, Some(_), _) => Err(Reject::BadContentLength),
            (_, None, Version::Http10) => Err(Reject::BadTransferCoding),
            (TransferCoding::Chunked, None, Version::Http11) => Ok(Framing::Chunked),
            (TransferCoding::Unknown, None, Version::Http11) => Err(Reject::UnknownTransferCoding),
        }
    }

    /// Checks that a request of this version has the `Host` it needs (RFC 9112 section 3.2).
    pub const fn check_host(&self, version: Version) -> Result<(), Reject> {
        match (version, self.hosts) {
            (Version::Http11, 0) => Err(Reject::BadHost),
            _ => Ok(()),
        }
    }

    /// Whether the connection stays open after the response.
    pub const fn persistence(&self, version: Version) -> Persistence {
        match (self.connection, version) {
            (ConnectionOption::KeepAlive, _) | (ConnectionOption::None, Version::Http11) => {
                Persistence::KeepAlive
            }
            (ConnectionOption::Close, _) | (ConnectionOption::None, Version::Http10) => {
                Persistence::Close
            }
        }
    }

    /// What the response may depend on beside the target.
    pub const fn preferences(&self) -> Preferences {
        self.preferences
    }

    /// What the client waits for. An expectation in HTTP/1.0 is ignored (RFC 9110 section 10.1.1).
    pub const fn expectation(&self, version: Version) -> Expectation {
        match version {
            Version::Http10 => Expectation::None,
            Version::Http11 => self.expectation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(fields: &[(&str, &str)]) -> Result<HeaderSummary, Reject> {
        let mut summary = HeaderSummary::default();
        for (name, value) in fields {
            summary.add(name, value.as_bytes())?;
        }
        Ok(summary)
    }

    fn check_framing(fields: &[(&str, &str)], expected: Result<Framing, Reject>) {
        let framing = summary(fields).and_then(|summary| summary.framing(Version::Http11));
        assert_eq!(framing, expected, "{fields:?}");
    }

    #[test]
    fn the_framing_is_unambiguous_or_an_error() {
        check_framing(&[], Ok(Framing::Empty));
        check_framing(&[("content-length", "0")], Ok(Framing::Empty));
        check_framing(&[("Content-Length", "007")], Ok(Framing::Length(7)));
        check_framing(&[("content-length", "99999999999999999999")], Ok(Framing::Length(u64::MAX)));
        check_framing(&[("Transfer-Encoding", "Chunked")], Ok(Framing::Chunked));
        for bad in ["", "+1", "-1", "1 ", "0x1", "1,1", "1, 2", "1.0", "\u{661}"] {
            check_framing(&[("content-length", bad)], Err(Reject::BadContentLength));
        }
        check_framing(
            &[("content-length", "1"), ("content-length", "1")],
            Err(Reject::BadContentLength),
        );
        let both = [("content-length", "1"), ("transfer-encoding", "chunked")];
        check_framing(&both, Err(Reject::BadContentLength));
        for bad in [
            "",
            "gzip",
            ",chunked",
            "chunked, chunked",
            "chunked;q=1",
            "identity",
            "xchunked",
            "a b, chunked",
        ] {
            check_framing(&[("transfer-encoding", bad)], Err(Reject::BadTransferCoding));
        }
        for unknown in ["gzip, chunked", "gzip,br\t,Chunked", "identity, chunked"] {
            check_framing(&[("transfer-encoding", unknown)], Err(Reject::UnknownTransferCoding));
            let with_length = [("transfer-encoding", unknown), ("content-length", "1")];
            check_framing(&with_length, Err(Reject::BadContentLength));
        }
        let doubled = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        check_framing(&doubled, Err(Reject::BadTransferCoding));
        let coded = summary(&[("transfer-encoding", "chunked")]).unwrap();
        assert_eq!(coded.framing(Version::Http10), Err(Reject::BadTransferCoding));
    }

    #[test]
    fn persistence_depends_on_version_and_options() {
        use Persistence::{Close, KeepAlive};
        let check = |value, of_10, of_11| {
            let summary = summary(&[("connection", value)]).unwrap();
            assert_eq!(summary.persistence(Version::Http10), of_10, "1.0 {value}");
            assert_eq!(summary.persistence(Version::Http11), of_11, "1.1 {value}");
        };
        check("", Close, KeepAlive);
        check("upgrade", Close, KeepAlive);
        check("close", Close, Close);
        check("Keep-Alive", KeepAlive, KeepAlive);
        check("foo , CLOSE,keep-alive", Close, Close);
        check("keep-alive,,close", Close, Close);
        check("closed", Close, KeepAlive);
    }

    #[test]
    fn close_in_any_connection_line_takes_precedence() {
        let summary = summary(&[("Connection", "close"), ("Connection", "keep-alive")]).unwrap();
        assert_eq!(summary.persistence(Version::Http11), Persistence::Close);
    }

    #[test]
    fn exactly_one_host_is_required_in_http_1_1() {
        assert_eq!(summary(&[]).unwrap().check_host(Version::Http11), Err(Reject::BadHost));
        assert_eq!(summary(&[]).unwrap().check_host(Version::Http10), Ok(()));
        assert!(summary(&[("Host", "")]).is_ok());
        assert_eq!(summary(&[("Host", "a"), ("host", "a")]).unwrap_err(), Reject::BadHost);
        assert_eq!(summary(&[("Host", "a b")]).unwrap_err(), Reject::BadHost);
    }

    #[test]
    fn preferences_are_collected_from_all_fields() {
        let preferences = |fields| summary(fields).unwrap().preferences();
        assert_eq!(preferences(&[("Host", "a"), ("Accept", "*/*")]), Preferences::default());
        assert_eq!(preferences(&[("RANGE", "x")]), Preferences::RANGE);
        assert_eq!(preferences(&[("if-match", "")]), Preferences::CONDITION);
        let all = preferences(&[
            ("If-None-Match", "*"),
            ("accept-encoding", "gzip"),
            ("Accept", "application/json"),
            ("Accept", "text/plain;q=0.1"),
            ("Range", "bytes=0-"),
        ]);
        let expected = [Preferences::RANGE, Preferences::JSON, Preferences::PROBLEM];
        let expected = expected.into_iter().fold(Preferences::GZIP, Preferences::and);
        assert_eq!(all, expected.and(Preferences::CONDITION));
    }

    #[test]
    fn the_only_expectation_is_100_continue() {
        let expecting = summary(&[("Expect", "100-Continue")]).unwrap();
        assert_eq!(expecting.expectation(Version::Http11), Expectation::Continue);
        assert_eq!(expecting.expectation(Version::Http10), Expectation::None);
        let repeated =
            summary(&[("Expect", "100-continue, 100-continue"), ("Expect", "100-continue")]);
        assert_eq!(repeated.unwrap().expectation(Version::Http11), Expectation::Continue);
        assert_eq!(
            summary(&[("Expect", "")]).unwrap().expectation(Version::Http11),
            Expectation::None
        );
        for bad in ["200-ok", "100-continue, 200-ok", "100-continue;q=1", "100-continue=1"] {
            assert_eq!(
                summary(&[("Expect", bad)]).unwrap_err(),
                Reject::UnknownExpectation,
                "{bad}"
            );
        }
    }
}
