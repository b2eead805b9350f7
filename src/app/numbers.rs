//! What answers `/api/fibonacci/:n`: the table, what was computed and kept, what is computed at once.

use std::sync::Arc;

use crate::{
    app::route::Index,
    fibonacci::{Cache, Calculator, Computed, Rejection, Table, digit_count},
    http::{
        Method, Status,
        request::{
            etag::{self, Comparison},
            head::Request,
            headers::Condition,
            lines,
        },
        response::{Body, ResponseKind},
    },
    metrics::{self, Executor, RejectReason, Slot},
};

const NOT_A_NUMBER: &[u8] = b"n must be one or more decimal digits, as in /api/fibonacci/20\n";
const NO_MATCH: &[u8] = b"the number does not have the entity tag that If-Match asks for\n";
const BUSY: &[u8] = b"too many large numbers are being computed or sent: try again\n";

/// When a client that was refused may try again, in seconds. Most numbers take far less.
const RETRY_S: u32 = 1;

/// Up to this n a number is computed at once, on the event loop: it takes 25 µs at most, about what handing it
/// to the compute thread and back costs.
pub const AT_ONCE_MAX_N: u64 = 20_000;

/// A kept number of so many digits or more is shared with the answers that carry it, not copied.
const SHARED_FROM: usize = 4 * 1024;

/// Bounds on the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest n that is answered; beyond it 422.
    pub max_n: u64,
    /// Numbers being computed at a time, or waiting for it; beyond it 503.
    pub under_way: usize,
    /// Bytes of computed numbers; when those being sent take them all, 503.
    pub bytes: usize,
}

/// Status, fields and content.
pub(super) type Parts<'a> = (Status, ResponseKind, Body<'a>);

/// The numbers: those of the table, and those beyond it.
#[derive(Debug)]
pub(super) struct Numbers {
    table: Table,
    pub(super) beyond: Beyond,
    max_n: u64,
    /// The answer to an n beyond the largest, which names it.
    too_large: String,
}

impl Numbers {
    pub(super) fn new(table: Table, bounds: Bounds) -> Self {
        let store = Cache::new(bounds.bytes, bounds.under_way);
        let calculator = Calculator::new(table.clone());
        Self {
            table,
            beyond: Beyond { store, calculator },
            max_n: bounds.max_n,
            too_large: format!("n must be at most {}\n", bounds.max_n),
        }
    }

    /// The answer to a GET or HEAD, or the n that has to be computed first.
    pub(super) fn answer(
        &mut self,
        index: Index,
        request: &Request,
        head: &[u8],
        counters: &Slot,
    ) -> Result<Parts<'_>, u64> {
        let Index::Number(n) = index else {
            return Ok((Status::BadRequest, ResponseKind::Text, Body::Bytes(NOT_A_NUMBER)));
        };
        if n > self.max_n {
            let text = Body::Bytes(self.too_large.as_bytes());
            return Ok((Status::UnprocessableContent, ResponseKind::Text, text));
        }
        if request.condition == Condition::Some
            && let Some(parts) = unless_conditions_hold(n, head)
        {
            return Ok(parts);
        }
        match self.table.get(n) {
            Some(digits) => Ok((Status::Ok, ResponseKind::Number(n), Body::Bytes(digits))),
            None => self.beyond.answer(n, request.method, counters),
        }
    }
}

/// The numbers beyond the table. Cold, compared with it.
#[derive(Debug)]
pub(super) struct Beyond {
    store: Cache,
    /// Computes what is computed at once.
    calculator: Calculator,
}

impl Beyond {
    fn answer(&mut self, n: u64, method: Method, counters: &Slot) -> Result<Parts<'_>, u64> {
        if method == Method::Head {
            // The fields tell the length, which needs no digits.
            return Ok((Status::Ok, ResponseKind::Number(n), Body::Length(digit_count(n))));
        }
        if self.store.is_under_way(n) {
            counters.add(metrics::CACHE_MISSES, 1);
            return Err(n);
        }
        if self.store.get(n).is_some() {
            counters.add(metrics::CACHE_HITS, 1);
        } else {
            counters.add(metrics::CACHE_MISSES, 1);
            if let Err(refusal) = self.begin(n, counters) {
                let reason = match refusal {
                    Rejection::Queue => RejectReason::Queue,
                    Rejection::Memory => RejectReason::Memory,
                };
                counters.add(metrics::COMPUTATIONS_REJECTED.with(reason), 1);
                return Ok(busy());
            }
            if n > AT_ONCE_MAX_N {
                return Err(n);
            }
            let computed = self.calculator.compute(n);
            counters.add(metrics::COMPUTATIONS.with(Executor::Loop), 1);
            self.finish(n, &computed, counters);
        }
        Ok(self.kept(n))
    }

    /// The answer with a number that has just been computed, which somebody has waited for.
    pub(super) fn kept(&mut self, n: u64) -> Parts<'_> {
        match self.store.get(n) {
            Some(digits) if digits.len() < SHARED_FROM => {
                (Status::Ok, ResponseKind::Number(n), Body::Bytes(digits))
            }
            Some(digits) => (Status::Ok, ResponseKind::Number(n), Body::Shared(digits)),
            None => busy(),
        }
    }

    fn begin(&mut self, n: u64, counters: &Slot) -> Result<(), Rejection> {
        let outcome =
            if n <= AT_ONCE_MAX_N { self.store.begin_at_once(n) } else { self.store.begin(n) };
        self.tell(counters);
        outcome
    }

    /// Keeps a number that has been computed.
    pub(super) fn finish(&mut self, n: u64, computed: &Computed, counters: &Slot) {
        if computed.fallback.is_some() {
            counters.add(metrics::COMPUTATION_FALLBACKS, 1);
        }
        self.store.finish(n, Arc::clone(&computed.digits));
        self.tell(counters);
    }

    /// Forgets a number that nobody waits for any more and that will not be computed.
    pub(super) fn abandon(&mut self, n: u64, counters: &Slot) {
        self.store.abandon(n);
        self.tell(counters);
    }

    fn tell(&self, counters: &Slot) {
        counters.set(metrics::COMPUTE_QUEUE_LENGTH, self.store.under_way() as u64);
        counters.set(metrics::CACHE_BYTES, self.store.bytes() as u64);
    }
}

/// The answer if a precondition does not hold, in their order of precedence (RFC 9110 section 13.2.2).
#[cold]
fn unless_conditions_hold(n: u64, head: &[u8]) -> Option<Parts<'static>> {
    let tag = n.to_string();
    let names =
        |name, comparison| etag::names(lines::values(head, name), tag.as_bytes(), comparison);
    let has_if_match = lines::values(head, "if-match").next().is_some();
    if has_if_match && !names("if-match", Comparison::Strong) {
        return Some((Status::PreconditionFailed, ResponseKind::Text, Body::Bytes(NO_MATCH)));
    }
    names("if-none-match", Comparison::Weak).then_some((
        Status::NotModified,
        ResponseKind::Number(n),
        Body::Bytes(b""),
    ))
}

/// The answer when a number cannot be computed now.
pub(super) const fn busy() -> Parts<'static> {
    (Status::ServiceUnavailable, ResponseKind::Retry(RETRY_S), Body::Bytes(BUSY))
}
