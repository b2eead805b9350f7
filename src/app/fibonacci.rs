//! The handler of `/api/fibonacci/:n`: checks n, and looks the number up or has it computed.

use crate::{
    app::{
        ResponseTable,
        handled::Handled,
        numbers::{Completed, GzipLookup, Lookup, NumberLimits, Numbers, Waiter},
        representation::Representation,
        route::Index,
    },
    fibonacci::{CacheKey, CachedForm},
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
        if Representation::varies(n, request.preferences) {
            match Representation::select(n, self.numbers.digit_count(n), (request, head)) {
                Ok(selected) => representation = selected,
                Err(response) => return respond(response),
            }
        }
        if request.method == Method::Head {
            let body = self.head_body(n, representation);
            return respond(representation.response(n, body));
        }
        if representation == Representation::Gzip {
            return self.gzip(n, waiter, counters);
        }
        match self.numbers.get(n, waiter, counters) {
            Lookup::Ready(digits) => respond(representation.response(n, digits)),
            Lookup::Pending => Handled::Pending(n, representation),
            Lookup::Busy => respond(busy()),
        }
    }

    /// Continues with a request that waits for F(n): with what has been computed, or with nothing if that was not
    /// possible.
    pub(super) fn resume<'a>(
        &'a mut self,
        (n, representation): (u64, Representation),
        completed: Option<&'a Completed>,
        waiter: Waiter,
        counters: &Slot,
    ) -> Handled<'a> {
        let found = match (completed, representation) {
            (
                Some(Completed { key: CacheKey { form: CachedForm::Digits, .. }, .. }),
                Representation::Gzip,
            ) => self.numbers.gzip_digits(n, waiter, counters),
            (Some(completed), _) => {
                let response = representation.response(n, Body::Shared(&completed.content));
                return Handled::Response(Handler::Fibonacci, response);
            }
            // If only the coding was not possible, there are the digits.
            (None, Representation::Gzip) => GzipLookup::Unavailable,
            (None, _) => GzipLookup::Busy,
        };
        self.respond_gzip(n, found)
    }

    /// The content of a response to HEAD. The length of a number in the gzip format is known once it is cached; before,
    /// the field is omitted, as RFC 9110 section 9.3.2 allows.
    fn head_body(&mut self, n: u64, representation: Representation) -> Body<'static> {
        if representation != Representation::Gzip {
            return Body::Length(self.numbers.digit_count(n));
        }
        self.numbers.gzipped(n).map_or(Body::UnknownLength, |body| Body::Length(body.len()))
    }

    #[cold]
    fn gzip(&mut self, n: u64, waiter: Waiter, counters: &Slot) -> Handled<'_> {
        let found = self.numbers.get_gzip(n, waiter, counters);
        self.respond_gzip(n, found)
    }

    /// Responds with F(n) in the gzip format, or with its digits if there is no room for it.
    fn respond_gzip(&mut self, n: u64, found: GzipLookup) -> Handled<'_> {
        let (representation, body) = match found {
            GzipLookup::Ready => (Representation::Gzip, self.numbers.gzipped(n)),
            GzipLookup::Unavailable => (Representation::Text, self.numbers.digits(n)),
            GzipLookup::Busy => (Representation::Text, None),
            GzipLookup::Pending => return Handled::Pending(n, Representation::Gzip),
        };
        let response = body.map_or(busy(), |body| representation.response(n, body));
        Handled::Response(Handler::Fibonacci, response)
    }
}

/// The response when a number cannot be computed now.
pub(super) const fn busy() -> Response<'static> {
    Response::error(Status::ServiceUnavailable, BUSY, ErrorField::RetryAfter(RETRY_S))
}
