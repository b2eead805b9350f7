//! The small parsers and renderers, each compared with a straightforward implementation.

use fibsrv::{
    app::route::route,
    http::{
        Method, Span, Status, date,
        preamble::Preamble,
        render,
        request::{
            body::{BodyDiscarder, CHUNK_FRAMING_MAX, Framing},
            etag::{self, Comparison},
            lines, target,
        },
        response::{Body, BodyMode, ConnectionHeader, Response, ResponseKind},
    },
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    chunked::{self, Verdict},
    config,
    parser::{ReplyRef, ReplyTo},
    pieces, requests,
};

static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");
const CONTENT_MAX: u64 = 100;
const YEAR_10000: u64 = 253_402_300_800;
/// 2000-02-28, the day before a leap day that occurs every 400 years, and the seconds of 400 years.
const LEAP_CENTURY: u64 = 951_696_000;
const ERA: u64 = 146_097 * 86_400;

/// Returns the verdict of the server on a chunked body in pieces.
fn discard(pieces: &[&[u8]]) -> Verdict {
    let mut discarder = BodyDiscarder::new(Framing::Chunked, CONTENT_MAX).unwrap();
    let mut length = 0;
    for piece in pieces {
        match discarder.discard(piece) {
            Ok(count) => length += count,
            Err(reject) if reject.status() == Status::ContentTooLarge => return Verdict::TooLarge,
            Err(_) => return Verdict::Malformed,
        }
    }
    if discarder.is_done() { Verdict::Complete(length) } else { Verdict::Incomplete }
}

/// Returns the date by counting years and months.
fn date_by_counting(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [
        ("Jan", 31),
        ("Feb", february),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let mut month = 0;
    while days >= months[month].1 {
        days -= months[month].1;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (day, month) = (days + 1, months[month].0);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn dates_agree_with_counting(seconds in prop_oneof![
        0..YEAR_10000,
        (0..20_u64, 0..3 * 86_400_u64).prop_map(|(era, second)| LEAP_CENTURY + era * ERA + second),
    ]) {
        let found = date::imf_fixdate(seconds);
        let expected = date_by_counting(seconds);
        prop_assert_eq!(str::from_utf8(&found).unwrap(), &expected);
        // The formats of the logs have the same parts in another order.
        let logged = date::common_log(seconds);
        let (date, time) = str::from_utf8(&logged).unwrap().split_once(':').unwrap();
        prop_assert_eq!(format!("{} {time} GMT", date.replace('/', " ")), &expected[5..]);
        let rfc3339 = date::rfc3339(seconds);
        let (date, time) = str::from_utf8(&rfc3339).unwrap().split_once('T').unwrap();
        prop_assert_eq!(time, &expected[17..25]);
        prop_assert_eq!((&date[..4], &date[8..]), (&expected[12..16], &expected[5..7]));
    }

    #[test]
    fn decimals_agree_with_the_standard_library(digits in "0{0,3}[0-9]{0,22}") {
        let expected = format!("0{digits}").parse::<u128>().unwrap().try_into().ok();
        prop_assert_eq!(lines::parse_u64(digits.as_bytes()), expected);
    }

    #[test]
    fn rendered_numbers_are_valid_responses(n in any::<u64>(), shift in 0..64, body in vec(any::<u8>(), 0..2000)) {
        let n = n >> shift;
        let response = Response { status: Status::Ok, kind: ResponseKind::Number(n), body: Body::Bytes(&body) };
        let mut output = Vec::new();
        render::render(&mut output, &response, BodyMode::Send, ConnectionHeader::Close, &PREAMBLE);
        let mut rest = &output[..];
        let reply = ReplyRef::take(&mut rest, ReplyTo::Other).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(reply.body, &body[..]);
        prop_assert_eq!(reply.field("etag"), Some(&*format!("\"{n}\"")));
    }

    #[test]
    fn a_chunked_body_is_discarded_to_its_end_and_no_further(
        (content, body) in requests::chunked(),
        rest in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let stream = [&body[..], &rest].concat();
        let expected = if content.len() as u64 > CONTENT_MAX {
            Verdict::TooLarge
        } else {
            Verdict::Complete(body.len())
        };
        prop_assert_eq!(discard(&pieces(&stream, &cuts)), expected);
    }

    #[test]
    fn a_chunked_body_with_a_wrong_byte_is_read_as_by_recursive_descent(
        (_, mut body) in requests::chunked(),
        at in any::<Index>(),
        byte in prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n;0fF :\"\\=a"[..])],
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let at = at.index(body.len());
        body[at] = byte;
        let expected = chunked::read(&body, CONTENT_MAX, CHUNK_FRAMING_MAX);
        prop_assert_eq!(discard(&pieces(&body, &cuts)), expected);
    }

    #[test]
    fn listed_entity_tags_match((list, tags) in requests::tag_lists(), n in 0..requests::LAST) {
        let tag = n.to_string();
        let is_named = etag::matches([list.as_bytes()].into_iter(), tag.as_bytes(), Comparison::Weak);
        prop_assert_eq!(is_named, tags.contains(&tag), "{}", list);
        for tag in &tags {
            prop_assert!(etag::matches([list.as_bytes()].into_iter(), tag.as_bytes(), Comparison::Weak), "{}", list);
        }
    }

    #[test]
    fn an_unnecessary_escape_does_not_change_the_route(
        path in "/(api/fibonacci/)?[-a-z0-9A-Z._~!$&'()*+,;=:@/]{0,12}|/(metrics|readyz|healthz)/?",
        bits in any::<u64>(),
    ) {
        let to = |path: &str| {
            let span = Span::new(0, path.len());
            let target = target::parse(Method::Get, path.as_bytes(), span).unwrap();
            route(target, path.as_bytes())
        };
        prop_assert_eq!(to(&requests::escape(&path, bits)), to(&path));
    }
}
