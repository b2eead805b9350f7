//! The parsing half of a connection: from the inbox to a request, or to the reason why there is none.

use crate::http::{
    Method, Reject,
    conn::{
        Conn, Service,
        io::Io,
        phase::{CloseMode, PendingResponse, Phase, ReadState},
    },
    render,
    request::{
        body::{BodyDiscarder, Framing},
        head::{Parser, Request},
        headers::{Expectation, Persistence, Version},
        limits::Limits,
    },
    response::BodyMode,
};

impl Conn {
    #[inline]
    pub(super) fn read_head(
        &mut self,
        parser: &mut Parser,
        service: &mut impl Service,
    ) -> Option<Io> {
        if !self.has_input() && self.read_state != ReadState::Eof {
            return Some(self.flush_or(Io::Read));
        }
        let received = self.inbox.get(self.start..).unwrap_or_default();
        let request = match parser.parse(received, &mut self.scan) {
            Ok(Some(request)) => request,
            Ok(None) => {
                // A line end alone begins no request: the connection stays idle (RFC 9112 section 2.2).
                self.start += self.scan.remove_empty_lines();
                if self.has_input() || self.read_state != ReadState::Eof {
                    return self.await_more(service);
                }
                self.phase = Phase::Closing(CloseMode::Immediate);
                return Some(self.flush_or(Io::Close));
            }
            Err(reject) => return self.reject(reject, service),
        };
        if request.framing != Framing::Empty {
            return self.begin_body(request, parser.limits(), service);
        }
        self.handle(&request, 0, service);
        None
    }

    fn begin_body(
        &mut self,
        request: Request,
        limits: &Limits,
        service: &mut impl Service,
    ) -> Option<Io> {
        let discarder = match BodyDiscarder::new(request.framing, limits.body_bytes) {
            Ok(discarder) => discarder,
            Err(reject) => return self.reject(reject, service),
        };
        if request.expectation == Expectation::Continue {
            if !service.reads_body(self, &request) {
                self.handle_without_body(&request, service);
                return None;
            }
            let has_begun = self.inbox.len() > self.start + request.head_bytes
                || self.read_state == ReadState::MorePending;
            if !has_begun {
                self.outbox.bytes.extend_from_slice(render::CONTINUE);
            }
        }
        self.phase = Phase::Body { request, discarder };
        self.discard_body(service)
    }

    pub(super) fn discard_body(&mut self, service: &mut impl Service) -> Option<Io> {
        let Phase::Body { request, discarder } = &mut self.phase else { return None };
        let body_start = self.start + request.head_bytes;
        let received = self.inbox.get(body_start..).unwrap_or_default();
        match discarder.discard(received) {
            Ok(discarded) => {
                request.body_bytes += discarded as u64;
                if discarder.is_done() {
                    let request = *request;
                    self.handle(&request, discarded, service);
                    return None;
                }
                // All received bytes belong to the body. Only the head is kept for the response.
                self.inbox.truncate(body_start);
                self.await_more(service)
            }
            Err(reject) => self.reject(reject, service),
        }
    }

    /// Reads on, unless the stream has ended.
    fn await_more(&mut self, service: &mut impl Service) -> Option<Io> {
        match self.read_state {
            ReadState::Open | ReadState::MorePending => Some(self.flush_or(Io::Read)),
            ReadState::Eof => self.reject(Reject::Incomplete, service),
        }
    }

    /// Has the service handle a request that has been received completely.
    #[inline]
    fn handle(&mut self, request: &Request, body_bytes: usize, service: &mut impl Service) {
        self.phase = Phase::AwaitingResponse(pending_response(request, body_bytes));
        service.request(self, request);
    }

    /// Has the service handle a request whose body is not read. The connection closes after the response, because a
    /// client that waits for 100 may send the body nevertheless (RFC 9110 section 10.1.1).
    #[cold]
    fn handle_without_body(&mut self, request: &Request, service: &mut impl Service) {
        self.phase = Phase::AwaitingResponse(PendingResponse {
            persistence: Persistence::Close,
            close_mode: CloseMode::Lingering,
            ..pending_response(request, 0)
        });
        service.request(self, request);
    }

    /// Has the service respond to bytes that are not a request.
    #[cold]
    pub(super) fn reject(&mut self, reject: Reject, service: &mut impl Service) -> Option<Io> {
        // A response to HEAD has no content, even if the request is malformed (RFC 9110 section 9.3.2).
        let received = self.inbox.get(self.start..).unwrap_or_default();
        let is_head = self.scan.is_head_method(received);
        self.phase = Phase::AwaitingResponse(PendingResponse {
            body_mode: if is_head { BodyMode::Omit } else { BodyMode::Send },
            version: Version::Http11,
            persistence: Persistence::Close,
            length: 0,
            close_mode: CloseMode::Lingering,
        });
        service.reject(self, reject);
        None
    }
}

fn pending_response(request: &Request, body_bytes: usize) -> PendingResponse {
    PendingResponse {
        body_mode: if request.method == Method::Head { BodyMode::Omit } else { BodyMode::Send },
        version: request.version,
        persistence: request.persistence,
        length: request.head_bytes + body_bytes,
        close_mode: CloseMode::Immediate,
    }
}
