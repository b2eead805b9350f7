//! The header fields that change the response of a resource: what a client prefers to the plain representation
//! (RFC 9110 section 12.5), whether it wants a part of it (section 14.2), and under which condition (section 13.1).
//!
//! `Accept` and `Accept-Encoding` are evaluated here, because the result depends on nothing else. Malformed elements of
//! these lists are skipped. Of the other fields only the presence is recorded: a request without them, as nearly every
//! one is, costs a comparison.

use crate::http::request::weight::{WEIGHT_MAX, Weight, parameter, parse_weight, split_unquoted};

/// A set of preferences. The default is the empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preferences(u8);

impl Preferences {
    /// `If-Match` or `If-None-Match` is present. The other preconditions are about modification dates, and no
    /// resource has one.
    pub const CONDITION: Self = Self(1);
    /// `Range` is present.
    pub const RANGE: Self = Self(1 << 1);
    /// `application/json` is preferred to `text/plain`.
    pub const JSON: Self = Self(1 << 2);
    /// For errors, `application/problem+json` or `application/json` is preferred to `text/plain`.
    pub const PROBLEM: Self = Self(1 << 3);
    /// The coding `gzip` is acceptable, and no less so than `identity`.
    pub const GZIP: Self = Self(1 << 4);

    /// Whether this set has at least one of `others`.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// This set without `others`.
    #[must_use]
    const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// The weights of this server's media types in all `Accept` fields of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MediaWeights {
    text: MediaWeight,
    json: MediaWeight,
    problem: MediaWeight,
}

/// How specific the best match of a media type is, and its weight. The default is no match.
type MediaWeight = (u8, Weight);

impl MediaWeights {
    /// Adds a field.
    pub(super) fn add(&mut self, value: &[u8]) {
        for (range, parameters, weight) in split_unquoted(value, b',').filter_map(media_range) {
            for (of, media_type) in [
                (&mut self.text, (&b"text"[..], &b"plain"[..])),
                (&mut self.json, (b"application", b"json")),
                (&mut self.problem, (b"application", b"problem+json")),
            ] {
                if let Some(specificity) = specificity(range, media_type) {
                    // The most specific range decides. The same one twice counts with its highest weight.
                    *of = (*of).max((specificity + parameters, weight));
                }
            }
        }
    }

    /// Replaces the preferences that these weights decide.
    pub(super) fn apply(&self, preferences: Preferences) -> Preferences {
        let all = Preferences::JSON.and(Preferences::PROBLEM);
        let ((_, text), (_, json), (_, problem)) = (self.text, self.json, self.problem);
        preferences.without(all).and(match (json > text, problem > text) {
            (true, _) => all,
            (false, true) => Preferences::PROBLEM,
            (false, false) => Preferences::default(),
        })
    }
}

/// Parses an element of `Accept`: the range, the number of its parameters, and its weight. `charset=utf-8` is the only
/// parameter that this server's representations match.
fn media_range(element: &[u8]) -> Option<(&[u8], u8, Weight)> {
    let mut parts = split_unquoted(element, b';').map(<[u8]>::trim_ascii);
    let range = parts.next()?;
    let mut parameters = 0;
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = parameter(part)?;
        if name.eq_ignore_ascii_case(b"q") {
            return Some((range, parameters, parse_weight(value)?));
        }
        if !name.eq_ignore_ascii_case(b"charset") || !value.eq_ignore_ascii_case(b"utf-8") {
            return None;
        }
        parameters = 1;
    }
    Some((range, parameters, WEIGHT_MAX))
}

/// How specifically `range` matches a media type: 6 by name, 4 by type, 2 as one of all; a parameter adds one.
fn specificity(range: &[u8], (kind, subtype): (&[u8], &[u8])) -> Option<u8> {
    let slash = range.iter().position(|byte| *byte == b'/')?;
    match (range.get(..slash)?, range.get(slash + 1..)?) {
        (b"*", b"*") => Some(2),
        (found, b"*") if found.eq_ignore_ascii_case(kind) => Some(4),
        (found, sub) if found.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => {
            Some(6)
        }
        _ => None,
    }
}

/// The weights of content codings in all `Accept-Encoding` fields of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodingWeights {
    gzip: Option<Weight>,
    identity: Option<Weight>,
    /// That of `*`: any coding that is not listed.
    any: Option<Weight>,
}

impl CodingWeights {
    /// Adds a field.
    pub(super) fn add(&mut self, value: &[u8]) {
        for element in value.split(|byte| *byte == b',') {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let weight = match parts.next().map(parameter) {
                None => Some(WEIGHT_MAX),
                Some(Some((b"q" | b"Q", weight))) => parse_weight(weight),
                Some(_) => None,
            };
            let of = match coding {
                b"*" => &mut self.any,
                _ if coding.eq_ignore_ascii_case(b"identity") => &mut self.identity,
                // The same coding (RFC 9110 section 8.4.1.3).
                _ if coding.eq_ignore_ascii_case(b"gzip")
                    || coding.eq_ignore_ascii_case(b"x-gzip") =>
                {
                    &mut self.gzip
                }
                _ => continue,
            };
            *of = (*of).max(weight);
        }
    }

    /// Replaces the preference that these weights decide. A client that lists `gzip` but not `identity` prefers it.
    pub(super) fn apply(&self, preferences: Preferences) -> Preferences {
        let gzip = self.gzip.or(self.any).unwrap_or(0);
        let identity = self.identity.or(self.any).unwrap_or(0);
        let preferences = preferences.without(Preferences::GZIP);
        if gzip > 0 && gzip >= identity { preferences.and(Preferences::GZIP) } else { preferences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Preferences = Preferences(0);
    const PROBLEM: Preferences = Preferences::PROBLEM;
    const JSON: Preferences = Preferences::JSON.and(PROBLEM);

    fn check_accept(fields: &[&str], expected: Preferences) {
        let mut weights = MediaWeights::default();
        for field in fields {
            weights.add(field.as_bytes());
        }
        assert_eq!(weights.apply(NONE), expected, "{fields:?}");
    }

    #[test]
    fn text_is_sent_unless_json_is_preferred() {
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json, text/plain, */*",
            "application/json;q=0.5, text/plain;q=0.5",
            "application/json;q=0.5, */*",
            "application/json;q=0",
            "application/json;q=0.000, text/plain;q=0",
            "application/*;q=0.3, text/*;q=0.301",
            "text/*",
            "image/png",
        ] {
            check_accept(&[accept], NONE);
        }
    }

    #[test]
    fn json_is_preferred_by_its_weight() {
        for accept in [
            "application/json",
            "Application/JSON ; charset=\"UTF-8\"",
            "application/json, */*;q=0.8",
            "application/json, text/plain;q=0.999",
            "text/html, application/json;q=0.9, text/*;q=0.8",
            "application/*",
            "application/json;q=0.001",
            "*/*, text/plain;q=0",
            "text/*;q=0.1, */*;q=0.2",
        ] {
            check_accept(&[accept], JSON);
        }
    }

    #[test]
    fn errors_may_be_preferred_as_problem_details_alone() {
        check_accept(&["application/problem+json"], PROBLEM);
        check_accept(&["application/problem+json, text/plain;q=0.5"], PROBLEM);
        check_accept(&["application/problem+json, text/plain"], NONE);
        check_accept(
            &["application/json;q=0.1, application/problem+json, text/plain;q=0.2"],
            PROBLEM,
        );
    }

    #[test]
    fn the_most_specific_range_decides() {
        check_accept(&["application/json;q=0.2, application/*;q=0.9, text/plain;q=0.3"], PROBLEM);
        check_accept(&["text/plain;q=0.2, text/*;q=0.9, application/json;q=0.3"], JSON);
        check_accept(&["text/plain;charset=utf-8;q=0.1, text/plain, application/json;q=0.2"], JSON);
        check_accept(
            &["text/plain;charset=latin1, text/plain;q=0.1, application/json;q=0.2"],
            JSON,
        );
        check_accept(&["application/json;q=0.1, application/json;q=0.3, text/*;q=0.2"], JSON);
        check_accept(&["application/json;version=2"], NONE);
    }

    #[test]
    fn malformed_elements_of_accept_are_skipped() {
        for accept in [
            "application/json;q=2",
            "application/json;q=",
            "application/json;q",
            "application/json;x=\"",
            "application/jsonx",
            "application",
            "application/",
            "/json",
            "*/json",
            "*",
            ",;=,;;q=\",\\",
            "text/plain;x=\", application/json",
        ] {
            check_accept(&[accept], NONE);
        }
        check_accept(&[", ,application/json;;q=1.000;x, ,"], JSON);
        check_accept(&["text/plain;q=nonsense, application/json;q=0.1"], JSON);
        check_accept(&["\u{e9}/\u{e9}, application/json"], JSON);
    }

    #[test]
    fn several_fields_are_one_list() {
        check_accept(&["application/json;q=0.6", "text/plain;q=0.5"], JSON);
        check_accept(&["application/json;q=0.5", "text/plain;q=0.6"], NONE);
    }

    #[test]
    fn gzip_is_used_if_it_is_no_less_acceptable_than_identity() {
        let check = |field: &str, is_expected| {
            let mut weights = CodingWeights::default();
            weights.add(field.as_bytes());
            assert_eq!(weights.apply(NONE) == Preferences::GZIP, is_expected, "{field}");
        };
        for field in [
            "gzip",
            "GZip",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "gzip;q=0.001",
            "deflate, gzip;q=1.0, *;q=0.5",
            "gzip;q=0.5, identity;q=0.5",
            "identity;q=0, *;q=0.1",
            "*",
            "br;q=1, *;q=0.1",
            "gzip;q=0, gzip",
            " ,, gzip ; q=0.5",
            "gzip;q=1;x",
        ] {
            check(field, true);
        }
        for field in [
            "",
            "identity",
            "identity;q=0",
            "br",
            "gzip;q=0",
            "gzip;q=0.0, *",
            "gzip;q=0.5, *",
            "gzip;q=0.5, identity",
            "*;q=0",
            "gzip;q=2",
            "gzip;q",
            "gzip;level=9",
            "gzipped",
            "\"gzip\"",
        ] {
            check(field, false);
        }
    }
}
