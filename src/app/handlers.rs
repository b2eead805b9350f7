//! From a request to its response: the handler of each route.

use crate::{
    app::{
        assets::Assets,
        fibonacci::FibonacciHandler,
        handled::Handled,
        numbers::Waiter,
        query,
        route::{Index, Route, route},
        route_set::{RouteSet, is_admin},
    },
    http::{
        Method, Status,
        request::{head::Request, lines},
        response::{Body, ErrorField, Response, ResponseKind},
    },
    metrics::{self, Build, Claim, ExpositionFormat, Handler, RequestLabels, exposition},
};

const ALLOWED: &str = "GET, HEAD, OPTIONS";
/// The response to OPTIONS.
const OPTIONS: Response<'static> = Response {
    status: Status::NoContent,
    kind: ResponseKind::Allow(ALLOWED),
    body: Body::Bytes(b""),
};
/// The response to a preflight request.
const PREFLIGHT: Response<'static> = Response { kind: ResponseKind::Preflight(ALLOWED), ..OPTIONS };
const NOT_FOUND: &[u8] = b"not found\n";
const NOT_ALLOWED: &[u8] = b"the method is not allowed here\n";

/// The handlers and their state.
#[derive(Debug)]
pub(super) struct Handlers {
    pub(super) fibonacci: FibonacciHandler,
    assets: Assets,
    build: Build,
    /// The last exposition of the metrics.
    exposition: Vec<u8>,
    availability: Availability,
}

/// The state that `/readyz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Availability {
    Ready,
    Draining,
}

impl Handlers {
    pub(super) fn new(fibonacci: FibonacciHandler, build: Build) -> Self {
        Self {
            fibonacci,
            assets: Assets::new(),
            build,
            exposition: Vec::new(),
            availability: Availability::Ready,
        }
    }

    /// Makes `/readyz` fail from now on.
    pub(super) const fn set_unready(&mut self) {
        self.availability = Availability::Draining;
    }

    /// Handles a request whose head is `head`, on a connection that reaches `routes`.
    #[inline]
    pub(super) fn handle(
        &mut self,
        routes: RouteSet,
        (request, head): (&Request, &[u8]),
        waiter: Waiter,
        counters: &Claim,
    ) -> Handled<'_> {
        let route = route(request.target, head);
        if let (Route::Fibonacci(index), Method::Get | Method::Head) = (route, request.method)
            && routes != RouteSet::Admin
        {
            return self.fibonacci.handle(index, (request, head), waiter, counters);
        }
        self.handle_other(routes.restrict(route), (request, head), counters)
    }

    /// Handles a request for anything but a number.
    #[inline(never)] // only numbers are hot
    fn handle_other(
        &mut self,
        route: Route,
        (request, head): (&Request, &[u8]),
        counters: &Claim,
    ) -> Handled<'_> {
        let response = match (route, request.method) {
            (Route::Unknown, _) => Response::error(Status::NotFound, NOT_FOUND, ErrorField::None),
            (_, Method::Options) if is_preflight(route, head) => PREFLIGHT,
            (_, Method::Options) => OPTIONS,
            (Route::Query, Method::Get | Method::Head) => {
                self.fibonacci.redirect(query::index(request.target, head))
            }
            (Route::Metrics, Method::Get | Method::Head) => self.metrics(request, head, counters),
            (Route::Healthz, Method::Get | Method::Head) => Response::text(Status::Ok, b"ok"),
            (Route::Readyz, Method::Get | Method::Head) => self.readyz(),
            (Route::Asset(asset), Method::Get | Method::Head) => {
                self.assets.handle(asset, request, head)
            }
            (route, _) => {
                let error = if is_admin(route) { Response::admin_error } else { Response::error };
                error(Status::MethodNotAllowed, NOT_ALLOWED, ErrorField::Allow(ALLOWED))
            }
        };
        Handled::Response(label(route), response)
    }

    /// Renders the metrics of all workers that share them.
    #[cold]
    fn metrics(&mut self, request: &Request, head: &[u8], counters: &Claim) -> Response<'_> {
        let format = ExpositionFormat::negotiate(lines::values(head, "accept"));
        let mut snapshot = counters.snapshot();
        // A scrape counts itself, though it is recorded only after it has been rendered.
        let labels = RequestLabels {
            handler: Handler::Metrics,
            method: Some(request.method),
            status: Status::Ok,
        };
        snapshot.count(metrics::REQUESTS.with(labels), 1);
        self.exposition.clear();
        exposition::render(&mut self.exposition, format, &snapshot, &self.build);
        let kind = ResponseKind::Media(format.content_type());
        Response { status: Status::Ok, kind, body: Body::Bytes(&self.exposition) }
    }

    const fn readyz(&self) -> Response<'static> {
        match self.availability {
            Availability::Ready => Response::text(Status::Ok, b"ready"),
            Availability::Draining => {
                Response::admin_error(Status::ServiceUnavailable, b"draining\n", ErrorField::None)
            }
        }
    }
}

/// Whether a request is served, whatever its body is. If its path or method is rejected, its body need not be read.
#[cold]
pub(super) fn reads_body(routes: RouteSet, request: &Request, head: &[u8]) -> bool {
    match (routes.restrict(route(request.target, head)), request.method) {
        (Route::Unknown, _) | (Route::Fibonacci(Index::Malformed), Method::Get | Method::Head) => {
            false
        }
        (_, method) => matches!(method, Method::Get | Method::Head | Method::Options),
    }
}

/// Whether an OPTIONS request for `route` is one by which a browser finds out what a script of another origin may
/// request. It has no effect for what only operators need.
#[cold]
fn is_preflight(route: Route, head: &[u8]) -> bool {
    let has = |name| lines::values(head, name).next().is_some();
    matches!(route, Route::Fibonacci(_) | Route::Query | Route::Asset(_))
        && has("origin")
        && has("access-control-request-method")
}

/// The `handler` label of a route.
const fn label(route: Route) -> Handler {
    match route {
        Route::Fibonacci(_) | Route::Query => Handler::Fibonacci,
        Route::Metrics => Handler::Metrics,
        Route::Healthz => Handler::Healthz,
        Route::Readyz => Handler::Readyz,
        Route::Asset(asset) => asset.label(),
        Route::Server | Route::Tunnel | Route::Unknown => Handler::None,
    }
}
