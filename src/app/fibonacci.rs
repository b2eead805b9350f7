//! The handler of `/api/fibonacci/:n`: checks n, and looks the number up or has it computed.

use crate::{
    app::{
        ResponseTable,
        handled::Handled,
        numbers::{Lookup, NumberLimits, Numbers, Waiter},
        representation::Representation,
        route::Index,
    },
    http::{
        Method, Status,
        request::head::Request,
        response::{Body, ErrorField, Response, ResponseKind},
    },
    metrics::{Handler, Slot},
};

const MALFORMED: &[u8] = b"n must be one or more decimal digits, as in /api/fibonacci/20\n";
const MALFORMED_QUERY: &[u8] = b"n must be one or more decimal digits, as in /api/fibonacci?n=20\n";
const SEE_NUMBER: &[u8] = b"the number has a location of its own\n";
const BUSY: &[u8] = b"too many large numbers are being computed or sent: try again\n";

/// `Retry-After` in seconds. Most computations take far less.
const RETRY_S: u32 = 1;

/// The handler and its numbers.
#[derive(Debug)]
pub(super) struct FibonacciHandler {
    pub(super) numbers: Numbers,
    max_n: u64,
    /// The response to an n beyond the largest, which it names.
    too_large: String,
}

impl FibonacciHandler {
    pub(super) fn new(table: ResponseTable, limits: NumberLimits) -> Self {
        Self {
            numbers: Numbers::new(table, limits),
            max_n: limits.max_n,
            too_large: format!("n must be at most {}\n", limits.max_n),
        }
    }

    /// Responds to a GET or HEAD request for the number with this index in its query.
    #[cold]
    pub(super) fn redirect(&self, index: Index) -> Response<'_> {
        match index {
            Index::Malformed => {
                Response::error(Status::BadRequest, MALFORMED_QUERY, ErrorField::None)
            }
            Index::Number(n) if n > self.max_n => self.too_large(),
            Index::Number(n) => Response {
                status: Status::SeeOther,
                kind: ResponseKind::SeeNumber(n),
                body: Body::Bytes(SEE_NUMBER),
            },
        }
    }

    fn too_large(&self) -> Response<'_> {
        let text = self.too_large.as_bytes();
        Response::error(Status::UnprocessableContent, text, ErrorField::None)
    }

    /// Responds to a GET or HEAD request, or has the number computed for `waiter`.
    #[inline]
    pub(super) fn handle(
        &mut self,
        index: Index,
        (request, head): (&Request, &[u8]),
        waiter: Waiter,
        counters: &Slot,
    ) -> Handled<'_> {
        let respond = |response| Handled::Response(Handler::Fibonacci, response);
        let Index::Number(n) = index else {
            return respond(Response::error(Status::BadRequest, MALFORMED, ErrorField::None));
        };
        if n > self.max_n {
            return respond(self.too_large());
        }
        let mut representation = Representation::Text;
        if request.preferences.has(Representation::PREFERENCES) {
            match Representation::select(n, self.numbers.digit_count(n), (request, head)) {
                Ok(selected) => representation = selected,
                Err(response) => return respond(response),
            }
        }
        if request.method == Method::Head {
            let length = self.numbers.digit_count(n);
            return respond(representation.response(n, Body::Length(length)));
        }
        match self.numbers.get(n, waiter, counters) {
            Lookup::Ready(digits) => respond(representation.response(n, digits)),
            Lookup::Pending => Handled::Pending(n, representation),
            Lookup::Busy => respond(busy()),
        }
    }
}

/// The response when a number cannot be computed now.
pub(super) const fn busy() -> Response<'static> {
    Response::error(Status::ServiceUnavailable, BUSY, ErrorField::RetryAfter(RETRY_S))
}
