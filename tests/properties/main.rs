//! Whatever is generated, the server and a model of a few lines agree: about requests of every kind in every
//! sequence and split, about requests with one thing wrong, and about what the small parsers read.
//!
//! The seed is always the same, so that a change is judged by what it changes; `PROPTEST_RNG_SEED` sets
//! another, `PROPTEST_CASES` how many cases are tried.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod access_log;
#[path = "../oracle/chunked.rs"]
mod chunked;
mod defects;
#[path = "../offline/mod.rs"]
mod offline;
#[path = "../kit/parser.rs"]
mod parser;
mod parsers;
mod requests;
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/rng.rs"]
mod rng;

use fibsrv::http::conn::Conn;
use offline::{Offline, Standing};
use parser::{ReplyRef, ReplyTo};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed},
};
use requests::{Case, Expected};

/// The tool's own defaults, but for the seed and, unless somebody asks, the number of cases.
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

/// Cuts `stream` at these places.
fn pieces<'s>(stream: &'s [u8], cuts: &[Index]) -> Vec<&'s [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

/// What comes back for a stream that arrives in these pieces and then ends.
fn output(pieces: &[&[u8]]) -> Vec<u8> {
    let mut offline = Offline::new(100);
    serve(&mut offline, &mut Conn::new(), pieces);
    offline.output
}

/// Has a stream arrive in these pieces, and then end.
fn serve(offline: &mut Offline, conn: &mut Conn, pieces: &[&[u8]]) {
    for piece in pieces {
        if offline.turn(conn, piece) == Standing::Closed {
            return;
        }
    }
    conn.receive_eof();
    assert_eq!(offline.turn(conn, b""), Standing::Closed, "the end of the stream ends it");
}

/// Takes the expected answers off `output`, up to one that closes; returns whether there is such a one.
fn take_answers(output: &mut &[u8], cases: &[Case]) -> bool {
    for Expected { status, body, asked, interims, closes } in cases.iter().map(|case| &case.answer)
    {
        for _ in 0..*interims {
            assert_eq!(ReplyRef::take(output, ReplyTo::Other).unwrap().status, 100);
        }
        let reply = ReplyRef::take(output, *asked).unwrap();
        assert_eq!(reply.status, *status);
        // Of complaints the model does not know the words.
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
    fn each_request_gets_its_answer(
        cases in vec(requests::cases(), 1..7),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream: Vec<u8> = cases.iter().flat_map(|case| case.bytes.clone()).collect();
        let output = output(&pieces(&stream, &cuts));
        let mut rest = &output[..];
        take_answers(&mut rest, &cases);
        prop_assert!(rest.is_empty(), "more than was asked for: {}", rest.escape_ascii());
    }

    #[test]
    fn one_defect_is_one_refusal_and_the_end(
        cases in vec(requests::cases(), 0..3),
        (refused, status) in defects::refused(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let before = cases.iter().flat_map(|case| case.bytes.clone());
        let stream: Vec<u8> = before.chain(refused).collect();
        let output = output(&pieces(&stream, &cuts));
        let mut rest = &output[..];
        if !take_answers(&mut rest, &cases) {
            let reply = ReplyRef::take(&mut rest, ReplyTo::Other).unwrap();
            prop_assert_eq!(reply.status, status);
            prop_assert!(reply.closes());
        }
        prop_assert!(rest.is_empty(), "it went on: {}", rest.escape_ascii());
    }
}
