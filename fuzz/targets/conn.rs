//! A whole connection. However its stream is split, however slow its client is and whatever expires, it keeps its
//! bounds and ends, and its output is a sequence of well-formed responses: the same as to the stream at once, except
//! for interim responses, which depend on whether the body has begun to arrive.

#![no_main]

#[path = "../../tests/kit/parser.rs"]
mod parser;
mod session;

use std::cell::RefCell;

use fibsrv::{app::App, fibonacci::Table, http::request::limits::Limits};
use fibsrv_fuzz::Script;
use parser::{ReplyRef, ReplyTo};
use session::Outcome;

const LARGE: Limits = Limits { body_bytes: 4096, ..Limits::DEFAULT };
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const SMALL: Limits =
    Limits { head_bytes: 120, target_bytes: 24, fields: 4, body_bytes: 20, ..LARGE };

thread_local! {
    /// Made once: what they cache does not change a response.
    static TABLE_AND_APPS: RefCell<(Table, [App; 2])> =
        RefCell::new((Table::new(100).unwrap(), [LARGE, SMALL].map(session::app)));
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut script, stream) = Script::split(input);
    let which = usize::from(script.step() % 2);
    let limits = [LARGE, SMALL][which];
    TABLE_AND_APPS.with_borrow_mut(|(table, apps)| {
        let pieces = session::run(table, limits, stream, &mut script);
        check(&pieces);
        let whole = session::run(table, limits, stream, &mut Script::split(b"").0);
        check(&whole);
        if !pieces.has_expired {
            assert!(
                final_responses(&pieces.output) == final_responses(&whole.output),
                "the output depends on how the stream was split"
            );
        }
        session::serve(&mut apps[which], stream);
    });
});

/// Returns the output without interim responses.
fn final_responses(mut output: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    while let Some(at) = output.windows(CONTINUE.len()).position(|window| window == CONTINUE) {
        rest.extend_from_slice(&output[..at]);
        output = &output[at + CONTINUE.len()..];
    }
    rest.extend_from_slice(output);
    rest
}

fn check(outcome: &Outcome) {
    let mut output = &outcome.output[..];
    let mut asked = outcome.asked.iter().copied();
    let mut is_last = false;
    while !output.is_empty() {
        if let Some(rest) = output.strip_prefix(CONTINUE) {
            output = rest;
            continue;
        }
        assert!(!is_last, "bytes after the last response");
        // Content after a response to HEAD would be taken for another response and found malformed.
        let request = asked.next().unwrap_or(ReplyTo::Other);
        let Some(reply) = ReplyRef::take(&mut output, request) else {
            assert!(outcome.has_expired, "malformed: {}", output.escape_ascii());
            return;
        };
        assert!(matches!(reply.status, 200..=499 | 501 | 505), "{}", reply.status);
        is_last = reply.closes();
    }
    assert!(outcome.has_expired || asked.next().is_none(), "a response is missing");
}
