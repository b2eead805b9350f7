//! The labels of `fibsrv_requests_total`: handler, method and status.
//!
//! Only combinations that can occur are series. `occurs` has the rules, and the compiler turns them into the list
//! of series and into a lookup from a combination to its place in that list.

use crate::{
    http::{Method, Status},
    metrics::{family::Labels, labels::Handler},
};

/// The labels of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// What made the response.
    pub handler: Handler,
    /// The method of the request, if it was known.
    pub method: Option<Method>,
    /// The status of the response.
    pub status: Status,
}

impl RequestLabels {
    /// The labels of all series but the last, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..COMBINATIONS).map(Self::of_combination).filter(|labels| labels.occur())
    }

    /// The place among all combinations.
    #[inline]
    fn combination(self) -> usize {
        let method = self.method.map_or(Method::ALL.len(), |method| method as usize);
        let row = self.handler as usize * METHODS + method;
        row * Status::ALL.len() + self.status as usize
    }

    /// The inverse of [`combination`](Self::combination).
    #[expect(clippy::indexing_slicing, reason = "the remainders are below the lengths")]
    const fn of_combination(place: usize) -> Self {
        let (row, status) = (place / Status::ALL.len(), place % Status::ALL.len());
        let (handler, method) = (row / METHODS, row % METHODS);
        let method = if method < Method::ALL.len() { Some(Method::ALL[method]) } else { None };
        Self { handler: Handler::ALL[handler], method, status: Status::ALL[status] }
    }

    const fn occur(self) -> bool {
        occurs(self.handler, self.method, self.status)
    }
}

impl Labels for RequestLabels {
    const NAMES: &'static [&'static str] = &["handler", "method", "code"];
    const VALUES: &'static [&'static str] = TABLES.0.as_flattened();

    /// A combination that the rules do not know is an error in this file. Debug builds stop at it. Others count
    /// it in the last series, which has the code "other", so that no request is missing from the sum.
    #[inline]
    fn index(self) -> usize {
        let index = SERIES_OF.get(self.combination()).copied().unwrap_or(OTHER);
        debug_assert_ne!(index, OTHER, "no series for {self:?}");
        usize::from(index)
    }
}

/// Whether `handler` can respond to `method` with `status`.
const fn occurs(handler: Handler, method: Option<Method>, status: Status) -> bool {
    use {Handler as H, Method as M, Status as S};
    match (handler, method) {
        // Rejected before routing.
        (H::None, None) => matches!(
            status,
            S::BadRequest
                | S::RequestTimeout
                | S::ContentTooLarge
                | S::UriTooLong
                | S::ExpectationFailed
                | S::HeaderFieldsTooLarge
                | S::NotImplemented
                | S::VersionNotSupported
        ),
        // No route, or `OPTIONS *` and `CONNECT host:port`, whose targets are not paths.
        (H::None, Some(M::Options)) => matches!(status, S::NoContent | S::NotFound),
        (H::None, Some(M::Connect)) => matches!(status, S::MethodNotAllowed | S::NotFound),
        (H::None, Some(_)) => matches!(status, S::NotFound),
        // Ranges are defined for GET only.
        (H::Fibonacci, Some(M::Get)) if is_of_range(status) => true,
        (H::Fibonacci, Some(M::Get | M::Head)) => matches!(
            status,
            S::Ok
                | S::SeeOther
                | S::NotModified
                | S::BadRequest
                | S::PreconditionFailed
                | S::UnprocessableContent
                | S::ServiceUnavailable
        ),
        (H::Readyz, Some(M::Get | M::Head)) => matches!(status, S::Ok | S::ServiceUnavailable),
        (H::Metrics | H::Healthz, Some(M::Get | M::Head)) => matches!(status, S::Ok),
        (H::Page | H::OpenApi | H::File, Some(M::Get | M::Head)) => {
            matches!(status, S::Ok | S::NotModified | S::PreconditionFailed)
        }
        (_, Some(M::Options)) => matches!(status, S::NoContent),
        (_, Some(_)) => matches!(status, S::MethodNotAllowed),
        (_, None) => false,
    }
}

const fn is_of_range(status: Status) -> bool {
    matches!(status, Status::PartialContent | Status::RangeNotSatisfiable)
}

/// Every method, and none.
const METHODS: usize = Method::ALL.len() + 1;
const COMBINATIONS: usize = Handler::ALL.len() * METHODS * Status::ALL.len();

/// The place of the last series: the number of those before it.
const OTHER: u8 = count();

/// The place of the series of each combination.
static SERIES_OF: [u8; COMBINATIONS] = TABLES.1;

/// The label values of each series, and for each combination the place of its series.
const TABLES: ([[&str; 3]; OTHER as usize + 1], [u8; COMBINATIONS]) = tables();

/// The number of combinations that can occur. More than fit into a `u8` would not compile.
const fn count() -> u8 {
    let (mut count, mut place) = (0, 0);
    while place < COMBINATIONS {
        count += RequestLabels::of_combination(place).occur() as u8;
        place += 1;
    }
    count
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn tables() -> ([[&'static str; 3]; OTHER as usize + 1], [u8; COMBINATIONS]) {
    let mut values = [["none", "none", "other"]; OTHER as usize + 1];
    let mut series_of = [OTHER; COMBINATIONS];
    let (mut place, mut next) = (0, 0);
    while place < COMBINATIONS {
        let labels = RequestLabels::of_combination(place);
        if labels.occur() {
            let method = if let Some(method) = labels.method { method.as_str() } else { "none" };
            values[next as usize] = [labels.handler.as_str(), method, labels.status.code()];
            series_of[place] = next;
            next += 1;
        }
        place += 1;
    }
    (values, series_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{REQUESTS, Slot, Snapshot};
    use std::collections::BTreeSet;

    /// The rules as a list: handler, methods, codes.
    const EXPECTED: [(&str, &str, &str); 27] = [
        ("fibonacci", "GET HEAD", "200 303 304 400 412 422 503"),
        ("fibonacci", "GET", "206 416"),
        ("fibonacci", "OPTIONS", "204"),
        ("fibonacci", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("metrics", "GET HEAD", "200"),
        ("metrics", "OPTIONS", "204"),
        ("metrics", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("healthz", "GET HEAD", "200"),
        ("healthz", "OPTIONS", "204"),
        ("healthz", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("readyz", "GET HEAD", "200 503"),
        ("readyz", "OPTIONS", "204"),
        ("readyz", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("page", "GET HEAD", "200 304 412"),
        ("page", "OPTIONS", "204"),
        ("page", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("openapi", "GET HEAD", "200 304 412"),
        ("openapi", "OPTIONS", "204"),
        ("openapi", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("file", "GET HEAD", "200 304 412"),
        ("file", "OPTIONS", "204"),
        ("file", "POST PUT DELETE CONNECT TRACE PATCH", "405"),
        ("none", "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH", "404"),
        ("none", "OPTIONS", "204"),
        ("none", "CONNECT", "405"),
        ("none", "none", "400 408 413 414 417 431 501 505"),
        ("none", "none", "other"),
    ];

    type Values = [&'static str; 3];

    #[test]
    fn the_series_are_those_of_the_rules() {
        let expected: BTreeSet<Values> = EXPECTED
            .iter()
            .flat_map(|(handler, methods, codes)| {
                methods.split(' ').flat_map(move |method| {
                    codes.split(' ').map(move |code| [*handler, method, code])
                })
            })
            .collect();
        let found: BTreeSet<Values> = TABLES.0.into_iter().collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), TABLES.0.len(), "two series have the same labels");
    }

    #[test]
    fn every_combination_is_counted_in_its_own_series_or_in_the_last() {
        let mut known = 0;
        for (combination, series) in SERIES_OF.into_iter().enumerate() {
            let labels = RequestLabels::of_combination(combination);
            assert_eq!(labels.combination(), combination);
            let method = labels.method.map_or("none", Method::as_str);
            let values = [labels.handler.as_str(), method, labels.status.code()];
            let found = TABLES.0.iter().position(|series| *series == values);
            known += usize::from(found.is_some());
            let found = found.unwrap_or(TABLES.0.len() - 1);
            assert_eq!(usize::from(series), found, "{labels:?}");
        }
        assert_eq!(known + 1, TABLES.0.len());
        assert_eq!(RequestLabels::all().count(), known);
    }

    #[test]
    fn adding_touches_one_series_only() {
        for (place, labels) in RequestLabels::all().enumerate() {
            let slot = Slot::new();
            slot.add(REQUESTS.with(labels), 3);
            let mut expected = [0; TABLES.0.len()];
            expected[place] = 3;
            assert_eq!(Snapshot::of([&slot].into_iter()).values(REQUESTS), expected);
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "no series for"))]
    fn an_unknown_combination_stops_a_debug_build_and_is_counted_under_other() {
        let slot = Slot::new();
        let (handler, method) = (Handler::Healthz, Some(Method::Get));
        let labels = RequestLabels { handler, method, status: Status::NotFound };
        slot.add(REQUESTS.with(labels), 2);
        let snapshot = Snapshot::of([&slot].into_iter());
        assert_eq!(snapshot.values(REQUESTS).last(), Some(&2));
    }
}
