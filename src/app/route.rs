//! Routing: from a request target to a resource. Methods and responses are decided in [`crate::app`].

use crate::{
    app::assets::Asset,
    http::request::{escapes::decode_unreserved, lines::parse_u64, target::Target},
};

/// The resources of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/api/fibonacci/:n`
    Fibonacci(Index),
    /// `/api/fibonacci?n=`
    Query,
    /// `/metrics`
    Metrics,
    /// `/healthz`: liveness.
    Healthz,
    /// `/readyz`: readiness.
    Readyz,
    /// A static file, such as the page at `/`.
    Asset(Asset),
    /// The server as a whole, the target of `OPTIONS *`.
    Server,
    /// The other end of a tunnel, the target of CONNECT.
    Tunnel,
    /// Any other path.
    Unknown,
}

/// The last segment of `/api/fibonacci/:n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// A number. Those beyond 64 bits become [`u64::MAX`], which is beyond every limit.
    Number(u64),
    /// Not one or more ASCII digits.
    Malformed,
}

const FIBONACCI: &[u8] = b"/api/fibonacci/";

/// Returns the resource of a target, which refers to the text of `head`.
#[inline]
pub fn route(target: Target, head: &[u8]) -> Route {
    match target {
        Target::Path(path) => route_path(path.of(head)),
        Target::Asterisk => Route::Server,
        Target::Authority => Route::Tunnel,
    }
}

/// Returns the resource of a path without a query, whose escapes are complete.
#[inline]
fn route_path(path: &[u8]) -> Route {
    match path.strip_prefix(FIBONACCI).and_then(short_number) {
        Some(n) => Route::Fibonacci(Index::Number(n)),
        None => route_other(path),
    }
}

/// Parses up to 19 digits, which cannot exceed 64 bits.
#[inline]
fn short_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0, |n, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then_some(n * 10 + u64::from(digit))
    })
}

/// Returns the resource of a path that is not that of a short number.
#[inline(never)] // only numbers are hot
fn route_other(path: &[u8]) -> Route {
    match &*decode_unreserved(path) {
        b"/api/fibonacci" => Route::Query,
        b"/metrics" => Route::Metrics,
        b"/healthz" => Route::Healthz,
        b"/readyz" => Route::Readyz,
        path => match path.strip_prefix(FIBONACCI) {
            Some(index) if !index.contains(&b'/') => Route::Fibonacci(parse_index(index)),
            Some(_) => Route::Unknown,
            None => Asset::at(path).map_or(Route::Unknown, Route::Asset),
        },
    }
}

/// Parses one or more ASCII digits. Leading zeros are ignored.
pub(super) fn parse_index(text: &[u8]) -> Index {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Index::Malformed;
    }
    Index::Number(parse_u64(text).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Route) {
        assert_eq!(route_path(path.as_bytes()), expected, "{path}");
    }

    #[test]
    fn numbers() {
        let check = |path: &str, n| check(path, Route::Fibonacci(Index::Number(n)));
        check("/api/fibonacci/0", 0);
        check("/api/fibonacci/20", 20);
        check("/api/fibonacci/007", 7);
        check("/api/fibonacci/18446744073709551615", u64::MAX);
        check("/api/fibonacci/99999999999999999999999", u64::MAX);
        check(&format!("/api/fibonacci/{}7", "0".repeat(4000)), 7);
        check("/api/fibonacci/%32%30", 20);
        check("/%61pi/fibonacci/1", 1);
    }

    #[test]
    fn malformed_numbers() {
        for n in ["", "-1", "+1", "1.5", "1e3", "abc", "0x10", "1%20", "%D9%A3", "%2F", " ", "1,0"]
        {
            check(&format!("/api/fibonacci/{n}"), Route::Fibonacci(Index::Malformed));
        }
    }

    #[test]
    fn other_resources() {
        check("/api/fibonacci", Route::Query);
        check("/metrics", Route::Metrics);
        check("/healthz", Route::Healthz);
        check("/readyz", Route::Readyz);
        check("/%72ead%79z", Route::Readyz);
        check("/", Route::Asset(Asset::Page));
        check("", Route::Asset(Asset::Page));
        check("/openapi.json", Route::Asset(Asset::OpenApi));
        check("/%6fpenapi%2ejson", Route::Asset(Asset::OpenApi));
        check("/robots.txt", Route::Asset(Asset::Robots));
        check("/favicon.ico", Route::Asset(Asset::Favicon));
    }

    #[test]
    fn unknown_paths() {
        for path in [
            "//",
            "/index.html",
            "/openapi.json/",
            "/api",
            "/api/fibonacci/1/",
            "/api/fibonacci/1/2",
            "/API/fibonacci/1",
            "//metrics",
            "/metrics/",
            "/api%2Ffibonacci/1",
            "/Metrics",
            "/%256detrics",
        ] {
            check(path, Route::Unknown);
        }
    }
}
