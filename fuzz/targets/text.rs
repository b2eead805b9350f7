//! The small parsers: numbers, lists, entity tags, paths, dates, `Accept`, `Accept-Encoding` and ranges, each compared
//! with a straightforward implementation.

#![no_main]

#[path = "../../tests/oracle/negotiation.rs"]
mod oracle;

use fibsrv::{
    app::route::{Index, Route, route},
    http::{
        Method, Span, date,
        request::{
            etag::{self, Comparison},
            head::Parser,
            limits::Limits,
            lines,
            preferences::Preferences,
            range::{self, SelectedRange},
            scan::HeadScanner,
            target,
        },
    },
};

use oracle::{Preferred, Selected};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, text)) = input.split_first() else { return };
    match kind % 6 {
        0 => decimal(text),
        1 => tags(text),
        2 => list(text),
        3 => path(text),
        4 => imf_fixdate(text),
        _ => negotiation(text),
    }
});

fn decimal(text: &[u8]) {
    let digits: Vec<u8> = text.iter().map(|byte| b'0' + byte % 10).collect();
    let significant = str::from_utf8(&digits).unwrap().trim_start_matches('0');
    let expected = if significant.is_empty() { Some(0) } else { significant.parse().ok() };
    assert_eq!(lines::parse_u64(&digits), expected);
}

/// A client that gets 304 has sent the tag in quotes.
fn tags(text: &[u8]) {
    let is_named = etag::matches([text].into_iter(), b"20", Comparison::Weak);
    let is_there = text.windows(4).any(|window| window == b"\"20\"");
    assert!(!is_named || is_there || text == b"*", "{}", text.escape_ascii());
    let mut list = b"W/\"2,0\" ,, ".to_vec();
    list.extend_from_slice(text);
    assert_eq!(
        etag::matches([&list[..]].into_iter(), b"20", Comparison::Weak),
        is_named && text != b"*"
    );
}

fn list(text: &[u8]) {
    let joined = lines::list(text).collect::<Vec<_>>().join(&b","[..]);
    assert!(lines::list(&joined).eq(lines::list(text)));
    assert!(lines::list(text).all(|element| !element.is_empty() && !element.contains(&b',')));
}

/// An unnecessary escape does not change the route of a path.
fn path(text: &[u8]) {
    let to = |text: &[u8]| {
        target::parse(Method::Get, text, Span::new(0, text.len())).map(|target| route(target, text))
    };
    let found = to(text);
    if text.contains(&b'%') || !text.starts_with(b"/") {
        return;
    }
    let mut escaped = Vec::new();
    let mut is_query = false;
    for byte in text {
        is_query |= *byte == b'?';
        if byte.is_ascii_alphanumeric() && !is_query {
            escaped.extend_from_slice(format!("%{byte:02x}").as_bytes());
        } else {
            escaped.push(*byte);
        }
    }
    assert_eq!(to(&escaped), found);
    let path = text.split(|byte| *byte == b'?').next().unwrap_or_default();
    let digits = path.strip_prefix(b"/api/fibonacci/").filter(|digits| !digits.is_empty());
    let is_number = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    let leads_to_number = matches!(found, Ok(Route::Fibonacci(Index::Number(_))));
    assert!(is_number == leads_to_number || found.is_err());
}

/// The same value in each of the fields that select a representation.
fn negotiation(text: &[u8]) {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let value = &text.iter().copied().filter(is_text).collect::<Vec<u8>>()[..];
    let head =
        |name: &[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", name, b": ", value, b"\r\n\r\n"].concat();
    let preferences = |name: &[u8]| {
        let mut parser = Parser::new(Limits::DEFAULT);
        let request = parser.parse(&head(name), &mut HeadScanner::default());
        request.expect("a valid head").expect("a whole head").preferences
    };
    let found = preferences(b"Accept");
    let has = |preference| found.has(preference);
    let preferred = match (has(Preferences::JSON), has(Preferences::PROBLEM)) {
        (true, true) => Preferred::Json,
        (false, true) => Preferred::Problem,
        (_, false) => Preferred::Text,
    };
    assert_eq!(preferred, oracle::accept(&[value]));
    let accepts_gzip = preferences(b"Accept-Encoding").has(Preferences::GZIP);
    assert_eq!(accepts_gzip, oracle::accepts_gzip(&[value]));
    for length in [1, 10, 200] {
        let selected = match range::select(&head(b"Range"), |_| true, length) {
            SelectedRange::Whole => Selected::Whole,
            SelectedRange::Part(span) => Selected::Part(span.range().start, span.range().end - 1),
            SelectedRange::Unsatisfiable => Selected::Nothing,
        };
        assert_eq!(selected, oracle::range(value, length));
    }
}

/// The day of the week and the time of day are computed separately.
fn imf_fixdate(text: &[u8]) {
    const YEAR_10000: u64 = 253_402_300_800;
    let bytes = text.first_chunk().copied().unwrap_or_default();
    let seconds = u64::from_le_bytes(bytes) % YEAR_10000;
    let date = date::imf_fixdate(seconds);
    let text = str::from_utf8(&date).unwrap();
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    assert!(text.starts_with(days[(seconds / 86_400 % 7) as usize]), "{text}");
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    assert!(text.ends_with(&format!(" {hour:02}:{minute:02}:{second:02} GMT")), "{text}");
    let next = date::imf_fixdate((seconds + 86_400) % YEAR_10000);
    assert!(next != date && next[17..] == date[17..], "{text}");
}
