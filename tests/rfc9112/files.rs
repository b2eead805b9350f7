//! The page, the description of the API, `robots.txt` and the icon.

use crate::{
    reply::Reply,
    wire::{Ending, Wire, only, request},
};

const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", "no-cache"),
    ("/openapi.json", "application/json", "no-cache"),
    ("/robots.txt", "text/plain; charset=utf-8", "public, max-age=86400"),
    ("/favicon.ico", "image/svg+xml", "public, max-age=86400"),
];

fn get(target: &str, fields: &str) -> Reply {
    Wire::new().reply_to(request(&format!("GET {target}"), fields))
}

#[test]
fn each_file_has_its_type_and_caching() {
    for (target, media_type, caching) in FILES {
        let reply = get(target, "");
        assert_eq!((reply.status, reply.body.is_empty()), (200, false), "{target}");
        assert_eq!(reply.field("Content-Type"), Some(media_type), "{target}");
        assert_eq!(reply.field("Cache-Control"), Some(caching), "{target}");
        assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"), "{target}");
        assert_eq!(reply.field("Content-Length"), Some(&*reply.body.len().to_string()), "{target}");
    }
}

/// RFC 9110 section 8.8.3: the entity tags are strong, and each representation has its own.
#[test]
fn each_file_has_a_strong_entity_tag_of_its_own() {
    let mut tags: Vec<String> =
        FILES.map(|(target, ..)| get(target, "").field("ETag").expect("a tag").to_owned()).to_vec();
    assert!(tags.iter().all(|tag| tag.len() == 18 && tag.starts_with('"')), "{tags:?}");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), FILES.len());
}

/// RFC 9110 sections 13.1.1, 13.1.2 and 15.4.5.
#[test]
fn preconditions_are_evaluated() {
    for (target, _, caching) in FILES {
        let tag = get(target, "").field("ETag").expect("a tag").to_owned();
        let status = |fields: &str| get(target, fields).status;
        assert_eq!(status(&format!("If-None-Match: W/{tag}\r\n")), 304, "{target}");
        assert_eq!(status("If-None-Match: *\r\n"), 304, "{target}");
        assert_eq!(status("If-None-Match: \"0\"\r\n"), 200, "{target}");
        assert_eq!(status(&format!("If-Match: {tag}\r\n")), 200, "{target}");
        assert_eq!(status("If-Match: \"0\"\r\n"), 412, "{target}");
        let reply = get(target, &format!("If-None-Match: {tag}\r\n"));
        let names: Vec<&str> = reply.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            [
                "Cache-Control",
                "Access-Control-Allow-Origin",
                "Access-Control-Expose-Headers",
                "Date",
                "ETag"
            ],
            "{target}"
        );
        assert_eq!(reply.field("Cache-Control"), Some(caching), "{target}");
        assert_eq!(reply.field("ETag"), Some(&*tag), "{target}");
    }
}

/// The page may neither load nor send anything elsewhere, and no other page may frame it.
#[test]
fn the_page_is_confined() {
    let page = get("/", "");
    assert!(page.body.len() <= 10 * 1024, "{} bytes", page.body.len());
    let policy = page.field("Content-Security-Policy").expect("a policy");
    for directive in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.field("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(page.field("Cross-Origin-Opener-Policy"), Some("same-origin"));
    assert_eq!(page.field("Cross-Origin-Resource-Policy"), Some("same-origin"));
    for outside in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!page.body.contains(outside), "{outside}");
    }
}

#[test]
fn only_get_head_and_options_are_allowed() {
    for (target, ..) in FILES {
        for (method, status) in [("OPTIONS", 204), ("POST", 405), ("PUT", 405), ("DELETE", 405)] {
            let reply = Wire::new().reply_to(request(&format!("{method} {target}"), ""));
            assert_eq!(reply.status, status, "{method} {target}");
            assert_eq!(reply.field("Allow"), Some("GET, HEAD, OPTIONS"), "{method} {target}");
        }
    }
}

/// Files are sent like any other content: one after the other on a connection, and in the order of the requests.
#[test]
fn files_are_pipelined() {
    let mut wire = Wire::new();
    let stream: String = FILES.map(|(target, ..)| request(&format!("GET {target}"), "")).concat();
    let replies = wire.send(&stream);
    assert_eq!(replies.len(), FILES.len());
    for ((target, media_type, _), reply) in FILES.into_iter().zip(replies) {
        assert_eq!(reply.field("Content-Type"), Some(media_type), "{target}");
    }
    assert_eq!(wire.ending(), Ending::Open);
    let head = only(wire.send_head(request("HEAD /", "")));
    assert_eq!((head.status, &*head.body), (200, ""));
}
