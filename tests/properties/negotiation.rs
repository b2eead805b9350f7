//! `Accept`, `Accept-Encoding` and `Range` in any combination of their parts, compared with a straightforward
//! evaluation.

use fibsrv::http::request::{
    head::{Parser, Request},
    limits::Limits,
    preferences::Preferences,
    range::{self, SelectedRange},
    scan::HeadScanner,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    config,
    oracle::{self, Preferred, Selected},
};

/// Parts of `Accept`: media ranges, weights, parameters, separators, and what is malformed.
const ACCEPT: &[&str] = &[
    "application/json",
    "text/plain",
    "application/problem+json",
    "*/*",
    "application/*",
    "TEXT/*",
    "text/html",
    "*",
    "/",
    ";q=0",
    ";q=0.5",
    ";Q=0.501",
    ";q=1",
    ";q=1.000",
    ";q=1.001",
    ";q=\"0.3\"",
    ";q",
    ";q=",
    "; q = 0.7 ",
    ";charset=utf-8",
    ";charset=\"UTF-8\"",
    ";charset=latin1",
    ";x=\"a,b;c\"",
    ";x=\"\\\"\"",
    ",",
    ",",
    ", ",
    ";",
    " ",
    "\t",
    "\"",
    "\\",
    "=",
    "\u{e9}",
];
/// Parts of `Accept-Encoding`.
const CODINGS: &[&str] = &[
    "gzip",
    "x-gzip",
    "GZIP",
    "identity",
    "*",
    "br",
    "deflate",
    ";q=0",
    ";q=0.0",
    ";q=0.5",
    ";q=0.501",
    ";q=1",
    ";q=2",
    ";q=",
    ";q",
    ";level=9",
    ";x",
    "; Q = 0.4",
    ",",
    ",",
    ", ",
    ";",
    " ",
    "\t",
    "\"",
    "=",
];
/// Parts of `Range`.
const RANGES: &[&str] = &[
    "bytes=",
    "bytes=",
    "bytes=",
    "BYTES=",
    "lines=",
    "bytes",
    "=",
    "-",
    "-",
    "-",
    "0",
    "1",
    "5",
    "9",
    "10",
    "11",
    "007",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    ",",
    " ",
    "\t",
    "+",
    "x",
    "\u{662}",
];
const LENGTH: usize = 10;

/// Well-formed lists of media ranges, in which the most specific one decides.
fn media_ranges() -> impl Strategy<Value = String> {
    let range = select(&["text/plain", "text/*", "*/*", "application/json", "application/*"][..]);
    let parameter = select(&["", ";charset=utf-8"][..]);
    let weight = select(&["", ";q=0", ";q=0.1", ";q=0.5"][..]);
    let element = (range, parameter, weight);
    let element =
        element.prop_map(|(range, parameter, weight)| [range, parameter, weight].concat());
    vec(element, 0..6).prop_map(|elements| elements.join(", "))
}

fn values(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(select(parts), 0..9).prop_map(|parts| parts.concat())
}

/// Parses a request with these fields.
fn parse(name: &str, values: &[String]) -> Request {
    let fields: Vec<String> = values.iter().map(|value| format!("{name}: {value}\r\n")).collect();
    let fields = fields.concat();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    Parser::new(Limits::DEFAULT)
        .parse(head.as_bytes(), &mut HeadScanner::default())
        .unwrap()
        .unwrap()
}

fn bytes(values: &[String]) -> Vec<&[u8]> {
    values.iter().map(String::as_bytes).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn media_types_are_weighted(fields in vec(prop_oneof![values(ACCEPT), media_ranges()], 0..3)) {
        let preferences = parse("Accept", &fields).preferences;
        let has = |preference| preferences.has(preference);
        let found = match (has(Preferences::JSON), has(Preferences::PROBLEM)) {
            (true, true) => Preferred::Json,
            (false, true) => Preferred::Problem,
            (_, false) => Preferred::Text,
        };
        prop_assert_eq!(found, oracle::accept(&bytes(&fields)));
    }

    #[test]
    fn codings_are_weighted(fields in vec(values(CODINGS), 0..3)) {
        let preferences = parse("Accept-Encoding", &fields).preferences;
        prop_assert_eq!(preferences.has(Preferences::GZIP), oracle::accepts_gzip(&bytes(&fields)));
    }

    #[test]
    fn a_range_selects_the_positions_within_it(value in values(RANGES)) {
        let head = format!("GET / HTTP/1.1\r\nRange: {value}\r\n\r\n");
        let found = match range::select(head.as_bytes(), |_| true, LENGTH) {
            SelectedRange::Whole => Selected::Whole,
            SelectedRange::Part(span) => Selected::Part(span.range().start, span.range().end - 1),
            SelectedRange::Unsatisfiable => Selected::Nothing,
        };
        prop_assert_eq!(found, oracle::range(value.as_bytes(), LENGTH));
    }
}
