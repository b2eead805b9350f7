//! Each limit at its bound and one beyond, with the defaults and with other values.

use fibsrv::http::{conn::TimeoutKind, request::limits::Limits};

use crate::wire::{
    Ending, NEXT, Wire, check_rejected, check_served, default_limits, only, request, statuses,
};

/// Checks that with these limits `fitting` gets `status` and the connection persists, and that `exceeding` gets
/// `rejection` and the connection lingers. Both are sent at once and byte by byte.
fn check(limits: Limits, (fitting, status): (&str, u16), (exceeding, rejection): (&str, u16)) {
    for slowly in [false, true] {
        let exchange = |input: &str| {
            let mut wire = Wire::with_limits(limits);
            let replies =
                if slowly { wire.send_slowly(input.as_bytes()) } else { wire.send(input) };
            (statuses(&replies), wire.ending())
        };
        assert_eq!(exchange(fitting), (vec![status], Ending::Open), "{limits:?}");
        assert_eq!(exchange(exceeding), (vec![rejection], Ending::Lingering), "{limits:?}");
    }
}

/// Returns a request whose head has this length.
fn head_of(bytes: usize) -> String {
    let shortest = request("GET /healthz", "A: \r\n").len();
    request("GET /healthz", &format!("A: {}\r\n", "x".repeat(bytes - shortest)))
}

fn target_of(bytes: usize) -> String {
    request(&format!("GET /{}", "x".repeat(bytes - 1)), "")
}

/// Returns a request with this many field lines, `Host` included.
fn fields_of(count: usize) -> String {
    request("GET /healthz", &"A: b\r\n".repeat(count - 1))
}

#[test]
fn the_default_limits_are_as_documented() {
    let limits = default_limits();
    assert_eq!((limits.head_bytes, limits.target_bytes, limits.fields), (16_384, 8192, 64));
    assert_eq!(limits.body_bytes, 1024 * 1024);
    assert_eq!(limits, Limits::DEFAULT);
}

#[test]
fn a_head_beyond_its_limit_is_431() {
    check(default_limits(), (&head_of(16_384), 200), (&head_of(16_385), 431));
    let limits = Limits { head_bytes: 1000, ..default_limits() };
    check(limits, (&head_of(1000), 200), (&head_of(1001), 431));
    check_rejected(head_of(100_000), 431);
}

#[test]
fn empty_lines_before_the_request_line_count_as_head() {
    let padded = |bytes: usize| format!("{}{NEXT}", "\r\n".repeat((bytes - NEXT.len()) / 2));
    let limits = Limits { head_bytes: 1000 + NEXT.len() % 2, ..default_limits() };
    let fitting = padded(limits.head_bytes);
    assert_eq!(fitting.len(), limits.head_bytes);
    check(limits, (&fitting, 200), (&padded(limits.head_bytes + 2), 431));
}

#[test]
fn a_target_beyond_its_limit_is_414() {
    check(default_limits(), (&target_of(8192), 404), (&target_of(8193), 414));
    let limits = Limits { target_bytes: 100, ..default_limits() };
    check(limits, (&target_of(100), 404), (&target_of(101), 414));
    let limits = Limits { target_bytes: 8000, head_bytes: 10_000, ..default_limits() };
    check(limits, (&target_of(8000), 404), (&target_of(8001), 414));
}

#[test]
fn an_invalid_target_is_400_up_to_the_limit_and_414_beyond() {
    let limits = Limits { target_bytes: 20, ..default_limits() };
    for (length, status) in [(20, 400), (21, 414)] {
        let target = format!("/%zz{}", "x".repeat(length - "/%zz".len()));
        let reply = Wire::with_limits(limits).reply_to(request(&format!("GET {target}"), ""));
        assert_eq!(reply.status, status, "{target}");
    }
}

#[test]
fn the_query_and_the_authority_count_as_target() {
    let limits = Limits { target_bytes: 20, ..default_limits() };
    check(
        limits,
        (&request("GET /healthz?9.........0", ""), 200),
        (&request("GET /healthz?9.........01", ""), 414),
    );
    check(
        limits,
        (&request("GET http://aaaaa/healthz", ""), 200),
        (&request("GET http://aaaaaa/healthz", ""), 414),
    );
}

#[test]
fn a_request_line_without_its_end_is_414() {
    check_rejected(format!("GET /{}", "x".repeat(100_000)), 414);
}

#[test]
fn more_fields_than_the_limit_are_431() {
    check(default_limits(), (&fields_of(64), 200), (&fields_of(65), 431));
    for fields in [1, 2, 128] {
        let limits = Limits { fields, ..default_limits() };
        check(limits, (&fields_of(fields), 200), (&fields_of(fields + 1), 431));
    }
}

#[test]
fn a_body_longer_than_the_limit_is_413() {
    for body_bytes in [0, 1, 100, 1024 * 1024] {
        let limits = Limits { body_bytes, ..default_limits() };
        let body = |length: u64| {
            let content = "x".repeat(usize::try_from(length).unwrap());
            request("PUT /healthz", &format!("Content-Length: {length}\r\n")) + &content
        };
        let mut wire = Wire::with_limits(limits);
        assert_eq!(statuses(&wire.send(body(body_bytes))), [405]);
        assert_eq!(wire.ending(), Ending::Open);
        assert_eq!(statuses(&wire.send(body(body_bytes + 1))), [413]);
        assert_eq!(wire.ending(), Ending::Lingering);
    }
}

#[test]
fn the_body_limit_applies_to_the_sum_of_the_chunks() {
    let limits = Limits { body_bytes: 10, ..default_limits() };
    let chunked = |chunks: &str| request("PUT /healthz", "Transfer-Encoding: chunked\r\n") + chunks;
    let full = chunked("4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n");
    let over = chunked("4\r\nabcd\r\n6\r\nefghij\r\n1\r\nk\r\n0\r\n\r\n");
    check(limits, (&full, 405), (&over, 413));
}

#[test]
fn the_framing_of_a_chunked_body_is_limited() {
    let most = fibsrv::http::request::body::CHUNK_FRAMING_MAX as usize;
    let chunked = |chunks: &str| request("PUT /healthz", "Transfer-Encoding: chunked\r\n") + chunks;
    let zeros = |count: usize| chunked(&format!("{}\r\n\r\n", "0".repeat(count)));
    check(default_limits(), (&zeros(most - 4), 405), (&zeros(most - 3), 400));
}

#[test]
fn a_major_version_other_than_1_is_505() {
    for version in ["0.9", "0.0", "2.0", "2.1", "3.0", "9.9"] {
        check_rejected(format!("GET /healthz HTTP/{version}\r\nHost: a\r\n\r\n"), 505);
    }
    check_rejected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    check_served("GET /healthz HTTP/1.9\r\nHost: a\r\n\r\n", 200);
}

#[test]
fn a_head_that_is_not_complete_in_time_gets_408_and_a_close() {
    for begun in ["G", "GET /healthz HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n", "\r"] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(begun), []);
        assert_eq!(wire.timeout(), Some(TimeoutKind::Head), "{begun:?}");
        let reply = only(wire.expire());
        assert_eq!((reply.status, reply.field("Connection")), (408, Some("close")), "{begun:?}");
        assert_eq!(wire.ending(), Ending::Lingering, "{begun:?}");
    }
}

#[test]
fn a_second_head_that_is_not_complete_in_time_gets_408() {
    let mut wire = Wire::new();
    assert_eq!(statuses(&wire.send(format!("{NEXT}GET /"))), [200]);
    assert_eq!(wire.timeout(), Some(TimeoutKind::Head));
    assert_eq!(statuses(&wire.expire()), [408]);
}

#[test]
fn a_silent_connection_closes_without_a_response() {
    let mut wire = Wire::new();
    assert_eq!(wire.send(""), []);
    assert_eq!(wire.expire(), []);
    assert_eq!(wire.ending(), Ending::Closed);
}

#[test]
fn an_idle_keep_alive_connection_closes() {
    let mut wire = Wire::new();
    assert_eq!(wire.reply_to(NEXT).status, 200);
    assert_eq!(wire.timeout(), Some(TimeoutKind::Idle));
    assert_eq!(wire.expire(), []);
    assert_eq!(wire.ending(), Ending::Lingering);
}
