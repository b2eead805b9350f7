//! Bodies: the outcome is the same in pieces, no byte after the end is discarded, recursive descent agrees, and the
//! bytes of a body never exceed twice its content and the limit of its framing.

#![no_main]

#[path = "../../tests/oracle/chunked.rs"]
mod chunked;

use chunked::Verdict;
use fibsrv::http::{
    Reject,
    request::body::{BodyDiscarder, CHUNK_FRAMING_MAX, Framing},
};
use fibsrv_fuzz::Script;

const CONTENT_MAX: u64 = 100;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut script, bytes) = Script::split(input);
    let kind = script.step();
    if kind & 1 == 1 {
        let length = u64::from(script.step().max(1));
        let expected = match usize::try_from(length) {
            Ok(_) if length > CONTENT_MAX => Verdict::TooLarge,
            Ok(length) if length <= bytes.len() => Verdict::Complete(length),
            _ => Verdict::Incomplete,
        };
        check(Framing::Length(length), bytes, expected, &mut script);
        return;
    }
    // Zeros in front bring the bound on sizes and trailers into reach.
    let zeros = if kind & 2 == 2 { CHUNK_FRAMING_MAX as usize - usize::from(kind >> 2) } else { 0 };
    let bytes = [&vec![b'0'; zeros], bytes].concat();
    let expected = chunked::read(&bytes, CONTENT_MAX, CHUNK_FRAMING_MAX);
    check(Framing::Chunked, &bytes, expected, &mut script);
});

fn check(framing: Framing, bytes: &[u8], expected: Verdict, script: &mut Script<'_>) {
    assert_eq!(discard(framing, bytes, &mut Script::split(b"").0), expected, "whole");
    assert_eq!(discard(framing, bytes, script), expected, "in pieces");
}

/// Discards a body in the pieces of the script.
fn discard(framing: Framing, bytes: &[u8], script: &mut Script<'_>) -> Verdict {
    let mut discarder = match BodyDiscarder::new(framing, CONTENT_MAX) {
        Ok(discarder) => discarder,
        Err(reject) => return verdict(reject),
    };
    let mut at = 0;
    loop {
        let piece = script.length(bytes.len() - at);
        let count = match discarder.discard(&bytes[at..at + piece]) {
            Ok(count) => count,
            Err(reject) => return verdict(reject),
        };
        at += count;
        let content_max = if framing == Framing::Chunked { 2 * CONTENT_MAX } else { CONTENT_MAX };
        assert!(at as u64 <= content_max + u64::from(CHUNK_FRAMING_MAX), "more than the budget");
        if discarder.is_done() {
            assert_eq!(discarder.discard(b"x"), Ok(0), "nothing after the end is discarded");
            return Verdict::Complete(at);
        }
        assert_eq!(count, piece, "bytes are left only at the end of the body");
        if at == bytes.len() {
            return Verdict::Incomplete;
        }
    }
}

fn verdict(reject: Reject) -> Verdict {
    match reject {
        Reject::BadChunk => Verdict::Malformed,
        Reject::BodyTooLarge => Verdict::TooLarge,
        other => panic!("unexpected: {other:?}"),
    }
}
