//! One connection as the application sees it, and what the application does between two I/O operations.

use crate::{
    app::{
        App,
        handled::Handled,
        handlers::{self, Handlers},
        numbers::{Completed, ConnectionId, Waiter},
        recorder::{Exchange, Recorder},
        representation::Representation,
        route_set::RouteSet,
    },
    http::{
        Reject,
        conn::{Conn, Io, Service},
        json,
        preamble::Preamble,
        request::{head::Request, preferences::Preferences},
        response::{Body, Response, ResponseKind},
    },
    logging::access::address::ClientAddress,
    metrics::Handler,
};

/// The time as of the last wake-up of the event loop.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp<'a> {
    /// Monotonic, in nanoseconds.
    pub now_ns: u64,
    /// Wall clock, in milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
    /// Wall clock, as the value of `Date`, and what precedes it.
    pub preamble: &'a Preamble,
}

/// A connection without its socket.
#[derive(Debug)]
pub struct Session {
    conn: Conn,
    client: Client,
}

/// What is known about the client at the other end.
#[derive(Debug)]
struct Client {
    id: ConnectionId,
    /// What it reaches.
    routes: RouteSet,
    /// Its address, if responses are logged.
    address: Option<Box<ClientAddress>>,
    /// Its request that waits for a number.
    pending: Option<Box<PendingNumber>>,
}

/// A request whose number is being computed.
#[derive(Debug)]
struct PendingNumber {
    request: Request,
    n: u64,
    representation: Representation,
    since_ns: u64,
}

impl Session {
    /// Returns a session that has received nothing and reaches all routes.
    pub fn new(id: ConnectionId, address: Option<Box<ClientAddress>>) -> Self {
        let client = Client { id, routes: RouteSet::All, address, pending: None };
        Self { conn: Conn::new(), client }
    }

    /// The same session, which reaches only these routes.
    #[must_use]
    pub const fn on(mut self, routes: RouteSet) -> Self {
        self.client.routes = routes;
        self
    }

    /// The routes that it reaches.
    pub const fn routes(&self) -> RouteSet {
        self.client.routes
    }

    /// Identifies the connection.
    pub const fn id(&self) -> ConnectionId {
        self.client.id
    }

    /// The state machine.
    pub const fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The state machine, to pass on what happens to the socket.
    pub const fn conn_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl App {
    /// Does everything that can be done without I/O: parses requests, handles and records them, renders responses.
    /// Returns the I/O that the connection needs next. Call [`App::end_batch`] before an [`Io::Write`].
    #[inline]
    pub fn advance(&mut self, session: &mut Session, now: &Timestamp<'_>) -> Io {
        let Self { parser, handlers, recorder } = self;
        let Session { conn, client } = session;
        conn.advance(parser, &mut SessionService { handlers, recorder, client, now })
    }

    /// Responds to the request that waits for a number: with what has been computed, or with 503 if it could not be. A
    /// request for the gzip format of digits that have been computed waits for that, too. Its duration counts from the
    /// request to `since_wakeup_ns` after `now`. Call [`App::advance`] next.
    pub fn resume(
        &mut self,
        session: &mut Session,
        completed: Option<&Completed>,
        now: &Timestamp<'_>,
        since_wakeup_ns: u64,
    ) {
        let Session { conn, client } = session;
        let Some(pending) = client.pending.take() else { return };
        if !conn.is_awaiting_response() {
            return; // timed out
        }
        let waiter = Waiter { id: client.id, now_ns: now.now_ns };
        let wanted = (pending.n, pending.representation);
        let counters = self.recorder.counters();
        match self.handlers.fibonacci.resume(wanted, completed, waiter, counters) {
            Handled::Response(handler, response) => {
                let exchange = (Ok(&pending.request), handler, &response);
                respond(conn, &mut self.recorder, exchange, client, now);
            }
            Handled::Pending(..) => {
                client.pending = Some(pending); // the digits are there, but not coded yet
                return;
            }
        }
        let waited_ns = now.now_ns.saturating_sub(pending.since_ns);
        self.recorder.end_batch(waited_ns.saturating_add(since_wakeup_ns));
    }

    /// Ends a session: its connection no longer waits for a number.
    pub fn end(&mut self, session: &Session) {
        let Client { id, pending: Some(pending), .. } = &session.client else { return };
        let counters = self.recorder.counters();
        self.handlers.fibonacci.numbers.cancel(pending.n, *id, counters);
    }
}

/// Handles and records the requests of one session.
struct SessionService<'a> {
    handlers: &'a mut Handlers,
    recorder: &'a mut Recorder,
    client: &'a mut Client,
    now: &'a Timestamp<'a>,
}

impl Service for SessionService<'_> {
    #[expect(clippy::inline_always, reason = "the call would take 2 % of a pipelined request")]
    #[inline(always)]
    fn request(&mut self, conn: &mut Conn, request: &Request) {
        let since_ns = self.now.now_ns;
        let waiter = Waiter { id: self.client.id, now_ns: since_ns };
        let counters = self.recorder.counters();
        let routes = self.client.routes;
        match self.handlers.handle(routes, (request, conn.head(request)), waiter, counters) {
            Handled::Response(handler, response) => {
                let exchange = (Ok(request), handler, &response);
                respond(conn, self.recorder, exchange, self.client, self.now);
            }
            Handled::Pending(n, representation) => {
                let pending = PendingNumber { request: *request, n, representation, since_ns };
                self.client.pending = Some(Box::new(pending));
            }
        }
    }

    fn reads_body(&self, conn: &Conn, request: &Request) -> bool {
        handlers::reads_body(self.client.routes, request, conn.head(request))
    }

    #[cold]
    fn reject(&mut self, conn: &mut Conn, reject: Reject) {
        let response = Response::text(reject.status(), reject.text().as_bytes());
        let exchange = (Err(reject), Handler::None, &response);
        respond(conn, self.recorder, exchange, self.client, self.now);
    }
}

/// A request or why the bytes received are none, and the response.
type Exchanged<'a> = (Result<&'a Request, Reject>, Handler, &'a Response<'a>);

/// Renders a response and records it. An error becomes problem details if the client prefers them.
#[inline]
fn respond(
    conn: &mut Conn,
    recorder: &mut Recorder,
    exchanged: Exchanged<'_>,
    client: &Client,
    now: &Timestamp<'_>,
) {
    let (request, _, response) = exchanged;
    match (request, response.kind) {
        (Ok(request), ResponseKind::Error(..)) if request.preferences.has(Preferences::PROBLEM) => {
            respond_with_problem(conn, recorder, exchanged, client, now);
        }
        _ => render_and_record(conn, recorder, exchanged, client, now),
    }
}

#[cold]
fn respond_with_problem(
    conn: &mut Conn,
    recorder: &mut Recorder,
    (request, handler, response): Exchanged<'_>,
    client: &Client,
    now: &Timestamp<'_>,
) {
    let text = if let Body::Bytes(text) = response.body { text } else { b"" };
    let mut details = Vec::new();
    json::push_problem(&mut details, response.status, text);
    let response = Response { body: Body::Problem(&details), ..*response };
    render_and_record(conn, recorder, (request, handler, &response), client, now);
}

#[inline]
fn render_and_record(
    conn: &mut Conn,
    recorder: &mut Recorder,
    (request, handler, response): Exchanged<'_>,
    client: &Client,
    now: &Timestamp<'_>,
) {
    let rendered = conn.respond(response, now.preamble);
    recorder.record(&Exchange {
        request,
        handler,
        response,
        rendered,
        conn,
        client: client.address.as_deref(),
        unix_ms: now.unix_ms,
    });
}
