//! RFC 9110 sections 8.4.1.3 and 12.5.3: numbers coded with gzip. Every reply is decoded by an independent decoder.

use crate::{
    reply::Reply,
    wire::{Ending, Wire, check_served, digits, get, only, request},
};

const GZIP: &str = "Accept-Encoding: gzip\r\n";
/// The first number of 4 KiB, computed and coded at once; computed by a job; computed and coded by jobs.
const NUMBERS: [u64; 3] = [19_597, 30_000, 150_000];

fn wire() -> Wire {
    Wire::with_max_n(150_000)
}

fn coding(reply: &Reply) -> Option<&str> {
    reply.field("Content-Encoding")
}

#[test]
fn long_numbers_are_coded_and_have_their_own_tag() {
    let mut wire = wire();
    for n in NUMBERS {
        let all = digits(n);
        for _computed_then_cached in 0..2 {
            let reply = get(&mut wire, n, GZIP);
            assert_eq!((reply.status, coding(&reply)), (200, Some("gzip")), "F({n})");
            assert!(reply.body == all, "F({n})");
            assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}-gzip\"")));
            assert_eq!(reply.field("Vary"), Some("Accept, Accept-Encoding"));
            assert_eq!(reply.field("Content-Type"), Some("text/plain; charset=utf-8"));
            assert_eq!(reply.field("Accept-Ranges"), None, "ranges are those of the digits");
            let length: usize = reply.field("Content-Length").unwrap().parse().unwrap();
            assert!(length * 100 < all.len() * 45, "F({n}): {length} bytes");
            assert_eq!(wire.ending(), Ending::Open);
        }
        let plain = get(&mut wire, n, "");
        assert_eq!((coding(&plain), plain.body == all), (None, true), "F({n})");
    }
}

#[test]
fn short_numbers_are_not_coded() {
    for n in [0, 100, 19_596] {
        let reply = get(&mut wire(), n, GZIP);
        assert_eq!((reply.status, coding(&reply)), (200, None), "F({n})");
        assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}\"")));
    }
}

#[test]
fn weights_are_respected() {
    let mut wire = wire();
    for (value, expected) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("br;q=1.0, gzip;q=0.2, *;q=0", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("*", Some("gzip")),
        ("gzip;q=0", None),
        ("gzip;q=0.2, identity;q=0.3", None),
        ("identity", None),
        ("br", None),
        ("", None),
        ("gzip;q=nonsense", None),
    ] {
        let reply = get(&mut wire, 20_000, &format!("Accept-Encoding: {value}\r\n"));
        assert_eq!(coding(&reply), expected, "{value}");
    }
}

/// RFC 9110 sections 8.8.3 and 13.1: a tag names one representation.
#[test]
fn preconditions_compare_the_tag_of_the_selected_representation() {
    let mut wire = wire();
    for n in NUMBERS {
        for (field, tag, status) in [
            ("If-None-Match", "gzip", 304),
            ("If-None-Match", "", 200),
            ("If-Match", "gzip", 200),
            ("If-Match", "", 412),
        ] {
            let separator = if tag.is_empty() { "" } else { "-" };
            let fields = format!("{GZIP}{field}: \"{n}{separator}{tag}\"\r\n");
            let reply = get(&mut wire, n, &fields);
            assert_eq!(reply.status, status, "F({n}) {fields}");
            if status == 304 {
                assert_eq!(reply.field("ETag"), Some(&*format!("\"{n}-gzip\"")));
                assert_eq!(reply.field("Vary"), Some("Accept, Accept-Encoding"));
                assert_eq!(coding(&reply), None, "of content only");
            }
        }
        let identity = get(&mut wire, n, &format!("If-None-Match: \"{n}-gzip\"\r\n"));
        assert_eq!(identity.status, 200);
    }
}

/// A range is one of the digits: were it one of the coded bytes, a client could not combine it with the rest.
#[test]
fn ranges_are_never_coded() {
    let mut wire = wire();
    for n in NUMBERS {
        let all = digits(n);
        for (range, status, body) in [
            ("bytes=10-19", 206, &all[10..20]),
            ("bytes=0-1,4-5", 200, &all),
            ("nonsense", 200, &all),
            ("bytes=99999999-", 416, "the range begins after the last digit\n"),
        ] {
            let reply = get(&mut wire, n, &format!("{GZIP}Range: {range}\r\n"));
            assert_eq!((reply.status, coding(&reply)), (status, None), "F({n}) {range}");
            assert!(reply.body == body, "F({n}) {range}");
        }
        let if_range = format!("{GZIP}Range: bytes=1-2\r\nIf-Range: \"{n}-gzip\"\r\n");
        assert_eq!(get(&mut wire, n, &if_range).status, 200, "not the tag of the digits");
    }
}

#[test]
fn json_is_not_coded() {
    let reply = get(&mut wire(), 20_000, &format!("{GZIP}Accept: application/json\r\n"));
    assert_eq!((reply.status, coding(&reply)), (200, None));
    assert_eq!(reply.field("ETag"), Some("\"20000-json\""));
}

/// RFC 9110 section 9.3.2: the fields are those of GET, but for a length that is not known before the number is coded.
#[test]
fn head_has_the_length_once_it_is_known() {
    for n in NUMBERS {
        let mut wire = wire();
        let line = format!("HEAD /api/fibonacci/{n}");
        let before = only(wire.send_head(request(&line, GZIP)));
        assert_eq!((before.status, before.field("Content-Length")), (200, None), "F({n})");
        let got = get(&mut wire, n, GZIP);
        let after = only(wire.send_head(request(&line, GZIP)));
        assert_eq!(after.fields, got.fields, "F({n})");
        for name in ["Content-Type", "Content-Encoding", "ETag", "Vary", "Cache-Control"] {
            assert_eq!(before.field(name), after.field(name), "F({n}) {name}");
        }
        assert_eq!(wire.ending(), Ending::Open);
    }
}

#[test]
fn other_resources_are_not_coded() {
    for target in ["/", "/openapi.json", "/metrics", "/healthz"] {
        check_served(request(&format!("GET {target}"), GZIP), 200);
    }
}

#[test]
fn pipelined_requests_get_both_codings_in_order() {
    let mut wire = wire();
    let line = "GET /api/fibonacci/150000";
    let stream = [request(line, GZIP), request(line, ""), request(line, GZIP)].concat();
    let replies = wire.send(stream);
    let codings: Vec<_> = replies.iter().map(coding).collect();
    assert_eq!(codings, [Some("gzip"), None, Some("gzip")]);
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
}
