//! RFC 9110 sections 14 and 13.1.5: ranges of the digits.

use crate::{
    reply::Reply,
    wire::{Ending, Wire, check_served, digits, get, only, request},
};

/// In the table, computed at once, and computed by a job. Each is then cached, but for the first.
const NUMBERS: [u64; 3] = [100, 15_000, 30_000];

fn get_20(fields: &str) -> Reply {
    get(&mut Wire::new(), 20, fields)
}

/// RFC 9110 sections 14.1.2 and 15.3.7: a first and a last position, an open end, a suffix, and positions beyond the
/// end.
#[test]
fn one_range_gets_206_with_its_digits() {
    for n in NUMBERS {
        let all = digits(n);
        let length = all.len();
        let mut wire = Wire::with_max_n(30_000);
        for (range, first, last) in [
            ("0-0".to_owned(), 0, 0),
            ("3-7".to_owned(), 3, 7),
            ("9-".to_owned(), 9, length - 1),
            ("-5".to_owned(), length - 5, length - 1),
            (format!("{}-", length - 1), length - 1, length - 1),
            ("0-".to_owned(), 0, length - 1),
            ("2-999999999999999999999999".to_owned(), 2, length - 1),
            ("-999999999999999999999999".to_owned(), 0, length - 1),
        ] {
            let reply = get(&mut wire, n, &format!("Range: bytes={range}\r\n"));
            assert_eq!(reply.status, 206, "F({n}) {range}");
            assert_eq!(reply.body, all[first..=last], "F({n}) {range}");
            let content_range = format!("bytes {first}-{last}/{length}");
            assert_eq!(reply.field("Content-Range"), Some(&*content_range));
            assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}\"")));
            assert_eq!(wire.ending(), Ending::Open);
        }
    }
}

/// RFC 9110 section 15.5.17: no digit is selected. The number is not even computed.
#[test]
fn a_range_beyond_the_end_gets_416_with_the_length() {
    for n in NUMBERS {
        let length = digits(n).len();
        let mut wire = Wire::with_max_n(30_000);
        for range in [format!("{length}-"), "999999999999999999999-".to_owned(), "-0".to_owned()] {
            let reply = get(&mut wire, n, &format!("Range: bytes={range}\r\n"));
            assert_eq!(reply.status, 416, "F({n}) {range}");
            assert_eq!(reply.field("Content-Range"), Some(&*format!("bytes */{length}")));
            assert_eq!(reply.field("Accept-Ranges"), Some("bytes"));
            assert_eq!(reply.field("Cache-Control"), Some("no-store"));
            assert_eq!(wire.ending(), Ending::Open);
        }
    }
}

/// RFC 9110 section 14.2: a field that is not understood is ignored. So are several ranges, as section 14.2 allows.
#[test]
fn an_invalid_range_gets_the_whole_number() {
    for value in [
        "bytes=0-1,2-3",
        "bytes=0-1, 99-",
        "bytes=3-2",
        "bytes=",
        "bytes=-",
        "bytes=x-y",
        "bytes",
        "",
        "digits=0-1",
        "bytes=0-1\r\nRange: bytes=2-3",
    ] {
        let reply = get_20(&format!("Range: {value}\r\n"));
        assert_eq!((reply.status, &*reply.body), (200, "6765"), "{value}");
        assert_eq!(reply.field("Content-Range"), None, "{value}");
    }
}

/// RFC 9110 section 14.2: a range is ignored with a method for which ranges are not defined. GET is the only one.
#[test]
fn a_range_is_ignored_with_other_methods() {
    let mut wire = Wire::new();
    let fields = "Range: bytes=0-1\r\n";
    let head = only(wire.send_head(request("HEAD /api/fibonacci/20", fields)));
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("4")));
    assert_eq!(head.field("Accept-Ranges"), Some("bytes"));
    check_served(request("OPTIONS /api/fibonacci/20", fields), 204);
    check_served(request("POST /api/fibonacci/20", fields), 405);
    for target in ["/healthz", "/metrics", "/openapi.json"] {
        check_served(request(&format!("GET {target}"), fields), 200);
    }
}

/// RFC 9110 section 14.3: the server says that it serves ranges.
#[test]
fn numbers_accept_ranges() {
    for (fields, status) in [("", 200), ("Range: bytes=1-\r\n", 206), ("Range: bytes=4-\r\n", 416)]
    {
        let reply = get_20(fields);
        assert_eq!((reply.status, reply.field("Accept-Ranges")), (status, Some("bytes")));
    }
}

/// RFC 9110 section 13.1.5: the range applies if the tag is the same in a strong comparison. There is no modification
/// date, so that a date is never the same.
#[test]
fn a_range_applies_only_to_the_representation_of_if_range() {
    let status = |validator: &str, range: &str| {
        get_20(&format!("If-Range: {validator}\r\nRange: bytes={range}\r\n")).status
    };
    assert_eq!(status("\"20\"", "1-2"), 206);
    assert_eq!(status("\"20\"", "4-"), 416);
    for other in
        ["W/\"20\"", "\"21\"", "20", "*", "\"20\",\"20\"", "Sun, 06 Nov 1994 08:49:37 GMT", ""]
    {
        assert_eq!(status(other, "1-2"), 200, "{other}");
        assert_eq!(status(other, "4-"), 200, "{other}");
    }
    assert_eq!(get_20("If-Range: \"21\"\r\n").status, 200, "without a range it has no effect");
}

/// RFC 9110 section 13.2.2: the other preconditions come before the range.
#[test]
fn preconditions_come_before_the_range() {
    for (fields, status) in [
        ("If-None-Match: \"20\"\r\nRange: bytes=1-2\r\n", 304),
        ("If-None-Match: \"20\"\r\nRange: bytes=9-\r\n", 304),
        ("If-Match: \"21\"\r\nRange: bytes=1-2\r\n", 412),
        ("If-Match: \"20\"\r\nRange: bytes=1-2\r\n", 206),
        ("If-None-Match: \"21\"\r\nRange: bytes=1-2\r\n", 206),
        ("If-None-Match: \"20\"\r\nIf-Range: \"21\"\r\nRange: bytes=1-2\r\n", 304),
    ] {
        assert_eq!(get_20(fields).status, status, "{fields}");
    }
    for (target, status) in [("/api/fibonacci/101", 422), ("/api/fibonacci/x", 400)] {
        check_served(request(&format!("GET {target}"), "Range: bytes=9-\r\n"), status);
    }
}

/// RFC 9110 section 15.3.7: a 206 has the fields that a 200 would have had.
#[test]
fn a_206_has_the_fields_of_the_200() {
    let (whole, part) = (get_20(""), get_20("Range: bytes=1-2\r\n"));
    assert_eq!(&*part.body, "76");
    for name in
        ["Content-Type", "Date", "ETag", "Cache-Control", "Vary", "Accept-Ranges", "Expires"]
    {
        assert_eq!(part.field(name), whole.field(name), "{name}");
    }
}
