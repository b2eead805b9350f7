//! Property tests: the server and a small model agree on generated requests in any sequence and split, on requests with
//! one defect, on ranges and negotiation, and on the input of the small parsers.
//!
//! The seed is fixed, so that results only change with the code. `PROPTEST_RNG_SEED` sets another, `PROPTEST_CASES` the
//! number of cases.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod access_log;
#[path = "../oracle/chunked.rs"]
mod chunked;
mod defects;
mod negotiation;
#[path = "../offline/mod.rs"]
mod offline;
#[path = "../oracle/negotiation.rs"]
mod oracle;
#[path = "../kit/parser.rs"]
mod parser;
mod parsers;
mod ranges;
mod requests;
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/rng.rs"]
mod rng;

use fibsrv::{app::Session, http::request::limits::Limits};
use offline::{ConnectionState, Offline, session};
use parser::{ReplyRef, ReplyTo};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed},
};
use requests::{Case, Expected};

/// The interim response to an expectation.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Returns the defaults of proptest with a fixed seed and, unless it is set, our number of cases.
fn config() -> Config {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 500;
    }
    config
}

/// Splits `stream` at these positions.
fn pieces<'s>(stream: &'s [u8], cuts: &[Index]) -> Vec<&'s [u8]> {
    let mut positions: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    positions.extend([0, stream.len()]);
    positions.sort_unstable();
    positions.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

/// Returns the output for a stream that arrives in these pieces and then ends.
fn output(pieces: &[&[u8]]) -> Vec<u8> {
    let mut offline = Offline::new((100, 100), Limits::DEFAULT, None);
    serve(&mut offline, &mut session(), pieces);
    offline.output
}

/// Sends a stream in these pieces, and then its end.
fn serve(offline: &mut Offline, session: &mut Session, pieces: &[&[u8]]) {
    for piece in pieces {
        if offline.turn(session, piece) == ConnectionState::Closed {
            return;
        }
    }
    session.conn_mut().receive_eof();
    assert_eq!(
        offline.turn(session, b""),
        ConnectionState::Closed,
        "the connection closes at the end of the stream"
    );
}

/// Takes the expected responses from the front of `output`, up to one that closes. Returns whether there is one.
fn take_responses(output: &mut &[u8], cases: &[Case]) -> bool {
    for Expected { status, body, asked, interims, closes } in
        cases.iter().map(|case| &case.expected)
    {
        // None is sent if the body has begun to arrive.
        if *interims > 0 && output.starts_with(CONTINUE) {
            *output = &output[CONTINUE.len()..];
        }
        let reply = ReplyRef::take(output, *asked).unwrap();
        assert_eq!(reply.status, *status);
        // The model does not know the texts of errors.
        let has_known_body = !matches!(status, 400 | 405) && *asked == ReplyTo::Other;
        assert!(!has_known_body || reply.body == body, "{}", reply.body.escape_ascii());
        assert_eq!(reply.closes(), *closes);
        if *closes {
            return true;
        }
    }
    false
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_request_gets_the_expected_response(
        cases in vec(requests::cases(), 1..7),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream: Vec<u8> = cases.iter().flat_map(|case| case.bytes.clone()).collect();
        let output = output(&pieces(&stream, &cuts));
        let mut rest = &output[..];
        take_responses(&mut rest, &cases);
        prop_assert!(rest.is_empty(), "more responses than requests: {}", rest.escape_ascii());
    }

    #[test]
    fn a_defect_is_rejected_and_closes_the_connection(
        cases in vec(requests::cases(), 0..3),
        (defective, status) in defects::requests(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let before = cases.iter().flat_map(|case| case.bytes.clone());
        let stream: Vec<u8> = before.chain(defective).collect();
        let output = output(&pieces(&stream, &cuts));
        let mut rest = &output[..];
        if !take_responses(&mut rest, &cases) {
            let reply = ReplyRef::take(&mut rest, ReplyTo::Other).unwrap();
            prop_assert_eq!(reply.status, status);
            prop_assert!(reply.closes());
        }
        prop_assert!(rest.is_empty(), "a response after the last: {}", rest.escape_ascii());
    }
}
