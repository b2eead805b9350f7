//! Request heads: the outcome is the same in pieces and after other heads, it is within the limits, and a naive parser
//! reads the same in what is accepted.

#![no_main]

mod heads;

use fibsrv::http::{
    Reject,
    request::{
        head::{Parser, Request},
        limits::Limits,
        scan::HeadScanner,
        target::Target,
    },
};
use fibsrv_fuzz::Script;
use heads::Head;

const LARGE: Limits = Limits { body_bytes: 0, ..Limits::DEFAULT };
const SMALL: Limits = Limits { head_bytes: 120, target_bytes: 24, fields: 4, ..LARGE };

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut script, bytes) = Script::split(input);
    let limits = if script.step().is_multiple_of(2) { LARGE } else { SMALL };
    let whole = Parser::new(limits).parse(bytes, &mut HeadScanner::default());
    assert_eq!(in_pieces(limits, bytes, &mut script), whole);

    // Earlier heads must not matter, with the same fields after another request line or with other fields.
    let line_end = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
    let same_fields = [b"GET / HTTP/1.1", &bytes[line_end..]].concat();
    for before in [&same_fields[..], b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", bytes] {
        let (mut parser, mut scan) = (Parser::new(limits), HeadScanner::default());
        let _outcome = parser.parse(before, &mut scan);
        scan.restart();
        assert_eq!(parser.parse(bytes, &mut scan), whole, "after another head");
    }
    if let Ok(Some(request)) = whole {
        check(&request, bytes, limits);
    }
});

fn in_pieces(
    limits: Limits,
    bytes: &[u8],
    script: &mut Script<'_>,
) -> Result<Option<Request>, Reject> {
    let (mut parser, mut scan) = (Parser::new(limits), HeadScanner::default());
    let mut length = 0;
    loop {
        length += script.length(bytes.len() - length);
        let outcome = parser.parse(&bytes[..length], &mut scan);
        if outcome != Ok(None) || length == bytes.len() {
            return outcome;
        }
    }
}

fn check(request: &Request, bytes: &[u8], limits: Limits) {
    assert!(request.head_bytes <= bytes.len().min(limits.head_bytes));
    assert_eq!(request.body_bytes, 0);
    let head = &bytes[..request.head_bytes];
    if let Target::Path(path) = request.target {
        assert!(path.range().end <= head.len() && path.len() <= limits.target_bytes);
    }
    let naive = Head::read(head).expect("a naive parser accepts it");
    naive.compare(request, head);
}
