//! Ranges of numbers of every size: a response has the digits that a slice of all of them has.

use fibsrv::{fibonacci::Calculator, http::request::limits::Limits};
use proptest::{option, prelude::*, sample::select};

use crate::{
    config,
    offline::{Offline, session},
    parser::{ReplyRef, ReplyTo},
};

/// A range in the syntax of `Range`: positions, the second of which is missing or the first.
type Spec = (Option<usize>, Option<usize>);

/// Numbers of the table, computed at once, computed by a job, and longer than a batch.
fn indices() -> impl Strategy<Value = u64> {
    prop_oneof![0..=100_u64, select(&[101, 15_000, 20_000, 20_001, 30_000, 100_000][..])]
}

/// Ranges, most of which end or begin near the end of a number with this many digits.
fn specs(length: usize) -> impl Strategy<Value = Spec> {
    let position = prop_oneof![0..length, length.saturating_sub(2)..length + 2, Just(usize::MAX)];
    (option::weighted(0.8, position.clone()), option::weighted(0.8, position))
}

/// The model: the status, and the digits sent.
fn expected(digits: &[u8], spec: Spec) -> (u16, &[u8]) {
    let whole = (200, digits);
    let range = match spec {
        (None, None) => return whole,
        (None, Some(suffix)) => digits.len().saturating_sub(suffix)..digits.len(),
        (Some(first), None) => first..digits.len(),
        (Some(first), Some(last)) if last < first => return whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(digits.len()),
    };
    match digits.get(range) {
        Some(part) if !part.is_empty() => (206, part),
        _ => (416, b""),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_range_is_a_slice_of_the_digits(
        (n, spec, is_cached) in indices().prop_flat_map(|n| {
            let length = fibsrv::fibonacci::digit_count(n);
            (Just(n), specs(length), any::<bool>())
        }),
    ) {
        let digits = Calculator::default().compute(n).digits;
        let show = |position: Option<usize>| position.map_or_else(String::new, |at| at.to_string());
        let range = format!("{}-{}", show(spec.0), show(spec.1));
        let target = format!("GET /api/fibonacci/{n} HTTP/1.1\r\nHost: a\r\n");
        let mut offline = Offline::new((100, 100_000), Limits::DEFAULT, None);
        let mut session = session();
        if is_cached {
            offline.turn(&mut session, format!("{target}\r\n").as_bytes());
            offline.output.clear();
        }
        offline.turn(&mut session, format!("{target}Range: bytes={range}\r\n\r\n").as_bytes());
        let mut rest = &offline.output[..];
        let reply = ReplyRef::take(&mut rest, ReplyTo::Other).unwrap();
        let (status, part) = expected(&digits, spec);
        prop_assert_eq!(reply.status, status, "F({}) {}", n, range);
        prop_assert!(status == 416 || reply.body == part, "F({}) {}", n, range);
        prop_assert!(rest.is_empty());
    }
}
