//! The requests answered, by handler, method and status.
//!
//! Of all combinations only those exist that can occur: `occurs` has the rules, and the compiler turns
//! them into [`SERIES`], the list that is counted and exposed, and into a lookup from a combination to its
//! place in that list. Whether an answer deserves its status is not decided here.

use crate::http::{Method, Status};
use crate::metrics::{Counter, add_each};

/// Who answered a request. The value of the label `handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `/api/fibonacci/:n`.
    Fibonacci,
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Healthz,
    /// `/readyz`.
    Readyz,
    /// No handler: no path matched, or the request was refused before it had one.
    None,
}

impl Handler {
    /// Every handler, in the order of the discriminants.
    pub const ALL: [Self; 5] =
        [Self::Fibonacci, Self::Metrics, Self::Healthz, Self::Readyz, Self::None];

    /// The value of the label `handler`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fibonacci => "fibonacci",
            Self::Metrics => "metrics",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::None => "none",
        }
    }
}

/// Whether `handler` can answer `method` with `status`. No method means that the request was refused
/// before its method was known.
const fn occurs(handler: Handler, method: Option<Method>, status: Status) -> bool {
    match method {
        None => matches!(handler, Handler::None) && refuses_without_a_method(status),
        Some(Method::Get | Method::Head) => match handler {
            Handler::Fibonacci => matches!(
                status,
                Status::Ok
                    | Status::NotModified
                    | Status::BadRequest
                    | Status::PreconditionFailed
                    | Status::UnprocessableContent
                    | Status::ServiceUnavailable
            ),
            Handler::Metrics | Handler::Healthz => matches!(status, Status::Ok),
            Handler::Readyz => matches!(status, Status::Ok | Status::ServiceUnavailable),
            Handler::None => matches!(status, Status::NotFound),
        },
        // Without a handler: `OPTIONS *` and `CONNECT host:port`, whose targets are no paths.
        Some(Method::Options) => {
            matches!(status, Status::NoContent) || is_not_found(handler, status)
        }
        Some(Method::Connect) => {
            matches!(status, Status::MethodNotAllowed) || is_not_found(handler, status)
        }
        Some(Method::Post | Method::Put | Method::Delete | Method::Trace | Method::Patch) => {
            match handler {
                Handler::Fibonacci | Handler::Metrics | Handler::Healthz | Handler::Readyz => {
                    matches!(status, Status::MethodNotAllowed)
                }
                Handler::None => matches!(status, Status::NotFound),
            }
        }
    }
}

/// The rejections of the reader of heads and bodies, which come before any handler is chosen.
const fn refuses_without_a_method(status: Status) -> bool {
    matches!(
        status,
        Status::BadRequest
            | Status::RequestTimeout
            | Status::ContentTooLarge
            | Status::UriTooLong
            | Status::ExpectationFailed
            | Status::HeaderFieldsTooLarge
            | Status::NotImplemented
            | Status::VersionNotSupported
    )
}

const fn is_not_found(handler: Handler, status: Status) -> bool {
    matches!(handler, Handler::None) && matches!(status, Status::NotFound)
}

/// One time series of `fibsrv_requests_total`: the labels of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Who answered.
    pub handler: Handler,
    /// The request's method, if it was known when the request was answered.
    pub method: Option<Method>,
    /// The answer's status; none in the catch-all series only.
    pub status: Option<Status>,
}

impl Series {
    /// The value of the label `method`.
    pub fn method_label(self) -> &'static str {
        self.method.map_or("none", Method::as_str)
    }

    /// The value of the label `code`.
    pub fn code_label(self) -> &'static str {
        self.status.map_or("other", Status::code)
    }
}

/// Every series, in the order in which they are counted and exposed.
pub static SERIES: [Series; SERIES_COUNT] = series();

/// The place in [`SERIES`] of each cell of the cube of handlers, methods and statuses.
static INDEX: [u8; CELL_COUNT] = index();

const METHOD_COUNT: usize = Method::ALL.len() + 1; // the last: no method
const CELL_COUNT: usize = Handler::ALL.len() * METHOD_COUNT * Status::ALL.len();
const SERIES_COUNT: usize = OTHER as usize + 1;

/// The place of the last series, which catches what the rules forgot: the number of those before it.
const OTHER: u8 = count_known();

/// The requests that one worker has answered.
#[derive(Debug)]
#[repr(transparent)]
pub struct Requests {
    counters: [Counter; SERIES_COUNT],
}

impl Requests {
    /// No request yet.
    pub const fn new() -> Self {
        Self { counters: [const { Counter::new() }; SERIES_COUNT] }
    }

    /// Counts `n` requests with these labels.
    ///
    /// A combination that the rules do not know is a mistake in this file: debug builds stop at it, others
    /// count it under the code "other", so that no request is missing from the sum.
    #[inline]
    pub fn add(&self, handler: Handler, method: Option<Method>, status: Status, n: u64) {
        let index = index_of(handler, method, status);
        debug_assert_ne!(index, OTHER, "no series for {handler:?} {method:?} {status:?}");
        if let Some(counter) = self.counters.get(usize::from(index)) {
            counter.add(n);
        }
    }

    /// Adds each count to the total of the same series.
    pub(super) fn add_to(&self, totals: &mut [u64; SERIES_COUNT]) {
        add_each(totals, &self.counters);
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn index_of(handler: Handler, method: Option<Method>, status: Status) -> u8 {
    let method = method.map_or(Method::ALL.len(), |method| method as usize);
    let row = handler as usize * METHOD_COUNT + method;
    INDEX.get(row * Status::ALL.len() + status as usize).copied().unwrap_or(OTHER)
}

/// The labels of a cell: the inverse of the arithmetic in [`index_of`].
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler only, which checks the bounds"
)]
const fn labels_of(cell: usize) -> (Handler, Option<Method>, Status) {
    let (row, status) = (cell / Status::ALL.len(), cell % Status::ALL.len());
    let (handler, method) = (row / METHOD_COUNT, row % METHOD_COUNT);
    let method = if method < Method::ALL.len() { Some(Method::ALL[method]) } else { None };
    (Handler::ALL[handler], method, Status::ALL[status])
}

const fn cell_occurs(cell: usize) -> bool {
    let (handler, method, status) = labels_of(cell);
    occurs(handler, method, status)
}

/// The number of combinations that can occur; were they more than a `u8` holds, this would not compile.
const fn count_known() -> u8 {
    let mut count = 0;
    let mut cell = 0;
    while cell < CELL_COUNT {
        count += cell_occurs(cell) as u8;
        cell += 1;
    }
    count
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler only, which checks the bounds"
)]
const fn series() -> [Series; SERIES_COUNT] {
    let catch_all = Series { handler: Handler::None, method: None, status: None };
    let mut series = [catch_all; SERIES_COUNT];
    let (mut cell, mut next) = (0, 0);
    while cell < CELL_COUNT {
        if cell_occurs(cell) {
            let (handler, method, status) = labels_of(cell);
            series[next] = Series { handler, method, status: Some(status) };
            next += 1;
        }
        cell += 1;
    }
    series
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler only, which checks the bounds"
)]
const fn index() -> [u8; CELL_COUNT] {
    let mut index = [OTHER; CELL_COUNT];
    let (mut cell, mut next) = (0, 0);
    while cell < CELL_COUNT {
        if cell_occurs(cell) {
            index[cell] = next;
            next += 1;
        }
        cell += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The rules once more, as a person would list them: handler, methods, codes.
    const EXPECTED: [(&str, &str, &str); 17] = [
        ("fibonacci", "GET HEAD", "200 304 400 412 422 503"),
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
        ("none", "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH", "404"),
        ("none", "OPTIONS", "204"),
        ("none", "CONNECT", "405"),
        ("none", "none", "400 408 413 414 417 431 501 505"),
        ("none", "none", "other"),
    ];

    type Labels = (&'static str, &'static str, &'static str);

    fn labels(series: Series) -> Labels {
        (series.handler.as_str(), series.method_label(), series.code_label())
    }

    #[test]
    fn the_series_are_those_of_the_rules() {
        let expected: BTreeSet<Labels> = EXPECTED
            .iter()
            .flat_map(|(handler, methods, codes)| {
                methods.split(' ').flat_map(move |method| {
                    codes.split(' ').map(move |code| (*handler, method, code))
                })
            })
            .collect();
        let found: BTreeSet<Labels> = SERIES.into_iter().map(labels).collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), SERIES.len(), "two series have the same labels");
    }

    #[test]
    fn every_combination_is_counted_in_its_own_series_or_in_the_last() {
        let mut known = 0;
        for cell in 0..CELL_COUNT {
            let (handler, method, status) = labels_of(cell);
            let series = Series { handler, method, status: Some(status) };
            let index = index_of(handler, method, status);
            match SERIES.iter().position(|candidate| *candidate == series) {
                Some(position) => {
                    assert_eq!(usize::from(index), position, "{series:?}");
                    known += 1;
                }
                None => assert_eq!(index, OTHER, "{series:?}"),
            }
        }
        assert_eq!(known + 1, SERIES.len());
        assert_eq!(SERIES[usize::from(OTHER)].status, None);
    }

    #[test]
    fn adding_touches_one_series_only() {
        for (position, series) in SERIES.iter().enumerate() {
            let Some(status) = series.status else { continue };
            let requests = Requests::new();
            requests.add(series.handler, series.method, status, 3);
            let mut totals = [0; SERIES_COUNT];
            requests.add_to(&mut totals);
            let mut expected = [0; SERIES_COUNT];
            expected[position] = 3;
            assert_eq!(totals, expected);
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "no series for"))]
    fn an_unknown_combination_stops_a_debug_build_and_is_counted_in_others() {
        let requests = Requests::new();
        requests.add(Handler::Healthz, Some(Method::Get), Status::NotFound, 2);
        let mut totals = [0; SERIES_COUNT];
        requests.add_to(&mut totals);
        assert_eq!(totals[usize::from(OTHER)], 2);
    }

    #[test]
    fn the_list_of_handlers_follows_the_discriminants() {
        for (index, handler) in Handler::ALL.into_iter().enumerate() {
            assert_eq!(handler as usize, index);
        }
    }
}
