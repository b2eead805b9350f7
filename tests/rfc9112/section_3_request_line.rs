//! RFC 9112 section 3: request lines, their methods and their targets.

use crate::wire::{Wire, check_rejected, check_served, default_limits, request};

/// RFC 9112 section 3: three parts with a single space between them and no white space around them.
#[test]
fn the_parts_of_a_request_line_are_separated_by_one_space() {
    for line in [
        "GET  /healthz HTTP/1.1",
        "GET /healthz  HTTP/1.1",
        "GET\t/healthz HTTP/1.1",
        "GET /healthz\tHTTP/1.1",
        "GET /healthz HTTP/1.1 ",
        "GET /healthz HTTP/1.1\t",
        "GET\u{b}/healthz HTTP/1.1",
        "GET /healthz\u{c}HTTP/1.1",
        "GET\u{a0}/healthz HTTP/1.1",
        " GET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1 HTTP/1.1",
        "GET  HTTP/1.1",
        " /healthz HTTP/1.1",
        "GET /healthzHTTP/1.1",
    ] {
        check_rejected(format!("{line}\r\nHost: a\r\n\r\n"), 400);
    }
}

/// RFC 9112 section 3.1: a method is a case-sensitive token.
#[test]
fn methods_are_case_sensitive_tokens() {
    for method in ["get", "Get", "GEt", "head", "HEAd"] {
        check_rejected(request(&format!("{method} /healthz"), ""), 501);
    }
    for method in ["G(T", "G\"T", "G/T", "G:T", "G=T", "G@T", "G{T", "G\u{7f}T", "G\u{e9}T", "G,T"]
    {
        check_rejected(request(&format!("{method} /healthz"), ""), 400);
    }
}

/// RFC 9112 section 3: a method longer than any implemented one gets 501.
#[test]
fn a_method_longer_than_any_known_is_501() {
    for method in ["PROPFIND", "GETT", &"M".repeat(1000), "!#$%&'*+-.^_`|~0aZ"] {
        check_rejected(request(&format!("{method} /healthz"), ""), 501);
    }
}

/// RFC 9112 section 3: a target longer than the limit gets 414.
#[test]
fn a_target_that_is_too_long_is_414() {
    let longest = default_limits().target_bytes;
    let target = |length: usize| format!("GET /{}", "x".repeat(length - 1));
    check_served(request(&target(longest), ""), 404);
    check_rejected(request(&target(longest + 1), ""), 414);
    check_rejected(request(&target(100_000), ""), 414);
}

/// RFC 9112 section 3: request lines of 8,000 octets are accepted by default.
#[test]
fn a_request_line_of_8000_octets_is_served() {
    let around = "GET / HTTP/1.1".len();
    check_served(request(&format!("GET /{}", "x".repeat(8000 - around)), ""), 404);
}

/// RFC 9112 section 3.2: white space in a target is invalid, and an invalid request line is not corrected. Otherwise
/// this server would accept what a filter before it has rejected.
#[test]
fn an_invalid_target_is_not_corrected() {
    for target in [
        "/api/fibonacci/2 0",
        "/healthz /x",
        "/heal\tthz",
        "/healthz#x",
        "/healthz\u{7f}",
        "/\u{1}",
        "/healthz\\",
        "/\"",
        "/<",
        "/>",
        "/^",
        "/`",
        "/{",
        "/|",
        "/}",
        "/%",
        "/%4",
        "/%zz",
        "/a?%zz",
        "/a?#",
        "healthz",
        "./healthz",
        "?",
        "http:/healthz",
        "//\u{0}",
    ] {
        check_rejected(request(&format!("GET {target}"), ""), 400);
    }
}

/// RFC 9112 section 3.2: a request in HTTP/1.1 without `Host` gets 400.
#[test]
fn a_request_without_host_is_400() {
    for line in ["GET /healthz", "GET http://a/healthz", "OPTIONS *", "CONNECT a:1", "PUT /healthz"]
    {
        check_rejected(format!("{line} HTTP/1.1\r\n\r\n"), 400);
        check_rejected(format!("{line} HTTP/1.1\r\nHosts: a\r\nX-Host: a\r\n\r\n"), 400);
    }
}

/// RFC 9112 section 3.2: more than one `Host` gets 400 in any version, even if they are equal.
#[test]
fn more_than_one_host_is_400() {
    for version in ["1.0", "1.1"] {
        for fields in
            ["Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a\r\nA: b\r\nhOST:\r\n"]
        {
            check_rejected(format!("GET /healthz HTTP/{version}\r\n{fields}\r\n"), 400);
        }
    }
}

/// RFC 9112 section 3.2: a `Host` that is not `uri-host [ ":" port ]` gets 400, in any version.
#[test]
fn an_invalid_host_is_400() {
    for version in ["1.0", "1.1"] {
        for host in [
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "http://a",
            "a:b",
            "a:1:2",
            "a:-1",
            "::1",
            "[::1",
            "[::1]a",
            "[a]",
            "[]",
            "[1.2.3.4]",
            "a%",
            "a%4g",
            "\u{e9}",
            "<a>",
            "a\"",
            "a\tb",
            "a\\b",
        ] {
            check_rejected(format!("GET /healthz HTTP/{version}\r\nHost: {host}\r\n\r\n"), 400);
        }
    }
}

/// RFC 9112 section 3.2, RFC 9110 section 7.2: every valid `Host` is accepted, also the empty one that a client
/// sends if its target has no authority.
#[test]
fn a_valid_host_is_served() {
    for host in
        ["", "a", "a:", "a:80", "127.0.0.1:3000", "[::1]", "[::1]:80", "[v1.x]", "%41", "a_b~c,d"]
    {
        check_served(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"), 200);
        check_served(format!("GET /healthz HTTP/1.1\r\nhost:\t{host} \r\n\r\n"), 200);
    }
}

/// RFC 9112 section 3.2.1: origin-form is an absolute path and an optional query.
#[test]
fn origin_form_is_served() {
    for (target, status) in [
        ("/healthz", 200),
        ("/healthz?", 200),
        ("/healthz?a=b&c=/?", 200),
        ("/", 200),
        ("/?a", 200),
        ("//healthz", 404),
        ("/api/fibonacci/7?x", 200),
        ("/healthz;a=b", 404),
        ("/*", 404),
    ] {
        check_served(request(&format!("GET {target}"), ""), status);
    }
}

/// RFC 9112 section 3.2.2: a server accepts absolute-form with any method except CONNECT.
#[test]
fn absolute_form_is_accepted() {
    for authority in ["a", "a:80", "[::1]:80", "127.0.0.1"] {
        for scheme in ["http", "HTTP", "https"] {
            check_served(request(&format!("GET {scheme}://{authority}/healthz?q"), ""), 200);
        }
    }
    check_served(request("OPTIONS http://a/healthz", ""), 204);
    check_served(request("POST http://a/healthz", ""), 405);
    check_served(request("GET http://a", ""), 200);
    check_served(request("GET http://a?q", ""), 200);
    for bad in
        ["http://", "http:///healthz", "ftp://a/healthz", "http://u@a/healthz", "http://a b/"]
    {
        check_rejected(request(&format!("GET {bad}"), ""), 400);
    }
}

/// RFC 9112 section 3.2.2: with absolute-form the authority replaces `Host`, so that a request with two different
/// hosts gets the same response as one with a single host. `Host` must still be present and valid.
#[test]
fn absolute_form_overrides_host() {
    let reply_to = |target: &str, host: &str| {
        let line = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Wire::new().reply_to(line)
    };
    let expected = reply_to("http://a/api/fibonacci/20", "a");
    assert_eq!((expected.status, &*expected.body), (200, "6765"));
    for host in ["b", "b:81", ""] {
        assert_eq!(reply_to("http://a/api/fibonacci/20", host), expected, "{host}");
    }
    check_rejected("GET http://a/healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
}

/// RFC 9112 section 3.2.3: authority-form is valid with CONNECT only, and CONNECT with no other form.
#[test]
fn authority_form_is_valid_with_connect_only() {
    check_served(request("CONNECT a:443", ""), 405); // this server makes no tunnels
    check_served(request("CONNECT [::1]:443", ""), 405);
    for line in ["GET a:443", "OPTIONS a:443", "CONNECT /healthz", "CONNECT http://a/", "CONNECT *"]
    {
        check_rejected(request(line, ""), 400);
    }
}

/// RFC 9112 section 3.2.3, RFC 9110 section 9.3.6: CONNECT with an empty or invalid port is rejected.
#[test]
fn connect_without_a_valid_port_is_400() {
    for target in ["a", "a:", "a:x", "a:-1", "a:80a", ":80", "[::1]", "[::1]:"] {
        check_rejected(request(&format!("CONNECT {target}"), ""), 400);
    }
}

/// RFC 9112 section 3.2.4: asterisk-form is valid with OPTIONS only and refers to the server as a whole.
#[test]
fn asterisk_form_is_valid_with_options_only() {
    check_served(request("OPTIONS *", ""), 204);
    for line in ["GET *", "HEAD *", "POST *", "OPTIONS **", "OPTIONS *?", "OPTIONS */"] {
        let mut wire = Wire::new();
        let reply = if line.starts_with("HEAD") {
            wire.send_head(request(line, "")).remove(0)
        } else {
            wire.reply_to(request(line, ""))
        };
        assert_eq!((reply.status, reply.field("Connection")), (400, Some("close")), "{line}");
    }
}
