//! A whole connection: however its stream comes in pieces, whoever is slow, whatever expires, it keeps to
//! its bounds and ends, and what it has written are well-formed answers, the same as to the stream at once.

#![no_main]

#[path = "../../tests/kit/parser.rs"]
mod parser;
mod session;

use std::cell::RefCell;

use fibsrv::{app::App, http::request::limits::Limits};
use fibsrv_fuzz::Script;
use parser::{ReplyRef, ReplyTo};
use session::Session;

const LARGE: Limits = Limits { body_bytes: 4096, ..Limits::DEFAULT };
const SMALL: Limits =
    Limits { head_bytes: 120, target_bytes: 24, fields: 4, body_bytes: 20, ..LARGE };

thread_local! {
    /// Made once: nothing that it remembers goes into an answer.
    static APP: RefCell<App> = RefCell::new(session::app());
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut script, stream) = Script::split(input);
    let limits = if script.step().is_multiple_of(2) { LARGE } else { SMALL };
    let run = |script: &mut Script<'_>| {
        APP.with_borrow_mut(|app| Session::run(app, limits, stream, script))
    };
    let session = run(&mut script);
    check(&session);
    let whole = run(&mut Script::split(b"").0);
    check(&whole);
    if !session.has_expired {
        assert!(session.output == whole.output, "it depends on how the stream was cut");
    }
});

fn check(session: &Session) {
    let mut output = &session.output[..];
    let mut asked = session.asked.iter().copied();
    let mut is_last = false;
    while !output.is_empty() {
        if let Some(rest) = output.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            output = rest;
            continue;
        }
        assert!(!is_last, "something follows the last answer");
        // An answer to HEAD is the shorter one: had it content, what follows would not be an answer.
        let answered = asked.next().unwrap_or(ReplyTo::Other);
        let Some(reply) = ReplyRef::take(&mut output, answered) else {
            assert!(session.has_expired, "malformed: {}", output.escape_ascii());
            return;
        };
        assert!(matches!(reply.status, 200..=499 | 501 | 505), "{}", reply.status);
        is_last = reply.closes();
    }
    assert!(session.has_expired || asked.next().is_none(), "an answer is missing");
}
