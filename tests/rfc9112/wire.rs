//! Sends streams to the server and checks the outcome.

use fibsrv::{
    app::Session,
    fibonacci::Calculator,
    http::{conn::TimeoutKind, request::limits::Limits},
};

use crate::{
    offline::{ConnectionState, Offline, session},
    parser::ReplyTo,
    reply::Reply,
};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Another request may follow.
    Open,
    /// The server has shut down its sending side and discards what it receives.
    Lingering,
    /// It is closed.
    Closed,
}

/// A connection to a server that has no other connections.
#[derive(Debug)]
pub(crate) struct Wire {
    offline: Offline,
    session: Session,
    state: ConnectionState,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self {
            offline: Offline::new((100, 100), Limits::DEFAULT, None),
            session: session(),
            state: ConnectionState::Open,
        }
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self { offline: Offline::new((100, 100), limits, None), ..Self::new() }
    }

    /// A server that also computes numbers, up to `max_n`.
    pub(crate) fn with_max_n(max_n: u64) -> Self {
        Self { offline: Offline::new((100, max_n), Limits::DEFAULT, None), ..Self::new() }
    }

    /// Makes the server report that it drains.
    pub(crate) fn set_unready(&mut self) {
        self.offline.app.set_unready();
    }

    /// Opens another connection to the same server.
    pub(crate) fn reconnect(&mut self) {
        self.session = session();
        self.state = ConnectionState::Open;
    }

    /// Sends bytes at once. Returns the replies, none of them to HEAD.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Reply> {
        self.turn(bytes.as_ref());
        self.take_replies(ReplyTo::Other)
    }

    /// Sends bytes at once. Returns the replies, all of them to HEAD.
    pub(crate) fn send_head(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Reply> {
        self.turn(bytes.as_ref());
        self.take_replies(ReplyTo::Head)
    }

    /// Sends bytes one by one.
    pub(crate) fn send_slowly(&mut self, bytes: &[u8]) -> Vec<Reply> {
        for byte in bytes {
            self.turn(&[*byte]);
        }
        self.take_replies(ReplyTo::Other)
    }

    /// Sends one request. Returns the only reply.
    pub(crate) fn reply_to(&mut self, request: impl AsRef<[u8]>) -> Reply {
        only(self.send(request))
    }

    /// Ends the stream to the server.
    pub(crate) fn end(&mut self) -> Vec<Reply> {
        self.session.conn_mut().receive_eof();
        self.turn(b"");
        self.take_replies(ReplyTo::Other)
    }

    /// Lets the current time limit of the connection expire.
    pub(crate) fn expire(&mut self) -> Vec<Reply> {
        self.session.conn_mut().expire();
        self.turn(b"");
        self.take_replies(ReplyTo::Other)
    }

    /// The same, during a request with HEAD.
    pub(crate) fn expire_head(&mut self) -> Vec<Reply> {
        self.session.conn_mut().expire();
        self.turn(b"");
        self.take_replies(ReplyTo::Head)
    }

    /// Lets a period of lingering end. Returns whether another one begins.
    pub(crate) fn renew_linger(&mut self) -> bool {
        self.session.conn_mut().renew_linger()
    }

    /// Makes the next response the last one, as a server that drains does.
    pub(crate) fn drain(&mut self) {
        self.session.conn_mut().disable_keep_alive();
    }

    /// Sends bytes and the end of the stream, which the server receives together.
    pub(crate) fn send_with_end(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Reply> {
        self.session.conn_mut().receive_eof();
        self.send(bytes)
    }

    /// Returns a measure of what the connection holds: the length of its debug text, which has all bytes.
    pub(crate) fn held(&self) -> usize {
        format!("{:?}", self.session).len()
    }

    pub(crate) fn timeout(&self) -> Option<TimeoutKind> {
        self.session.conn().wait().timeout
    }

    pub(crate) fn ending(&self) -> Ending {
        match (self.state, self.timeout()) {
            (ConnectionState::Closed, _) => Ending::Closed,
            (ConnectionState::Open, Some(TimeoutKind::Linger)) => Ending::Lingering,
            (ConnectionState::Open, _) => Ending::Open,
        }
    }

    /// Bytes sent after the connection closed are lost, as with a socket.
    fn turn(&mut self, bytes: &[u8]) {
        if self.state == ConnectionState::Open {
            self.state = self.offline.turn(&mut self.session, bytes);
        }
    }

    fn take_replies(&mut self, to: ReplyTo) -> Vec<Reply> {
        Reply::parse_all_to(&std::mem::take(&mut self.offline.output), to)
    }
}

/// A request for a number that always exists.
pub(crate) const NEXT: &str = "GET /api/fibonacci/10 HTTP/1.1\r\nHost: a\r\n\r\n";
/// The content of the response to [`NEXT`].
pub(crate) const NEXT_BODY: &str = "55";

/// Returns a request in HTTP/1.1 with a valid `Host` and these field lines, each with its CRLF.
pub(crate) fn request(method_and_target: &str, fields: &str) -> String {
    format!("{method_and_target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Sends a GET request for F(n) with these field lines.
pub(crate) fn get(wire: &mut Wire, n: u64, fields: &str) -> Reply {
    wire.reply_to(request(&format!("GET /api/fibonacci/{n}"), fields))
}

/// Returns the digits of F(n), computed without a table.
pub(crate) fn digits(n: u64) -> String {
    let computed = Calculator::default().compute(n);
    String::from_utf8(computed.digits.to_vec()).unwrap()
}

/// Returns the limits without flags.
pub(crate) fn default_limits() -> Limits {
    use fibsrv::config::{Command, parse};
    match parse(["fibsrv".into()]).expect("no flag is required") {
        Command::Serve(config) => config.limits,
        other @ (Command::Check(..) | Command::Health(_) | Command::Print(_)) => {
            panic!("no command to serve: {other:?}")
        }
    }
}

pub(crate) fn only(mut replies: Vec<Reply>) -> Reply {
    assert_eq!(replies.len(), 1, "one reply: {replies:?}");
    replies.remove(0)
}

pub(crate) fn statuses(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status).collect()
}

/// Checks that `input` is rejected with this status, that the connection lingers before it closes, and that no byte
/// after `input` is interpreted, whether it arrives with it or later. The input is sent alone, after a valid request,
/// and byte by byte.
pub(crate) fn check_rejected(input: impl AsRef<[u8]>, status: u16) {
    let input = input.as_ref();
    let shown = input.escape_ascii();
    for before in [&b""[..], NEXT.as_bytes()] {
        let stream = [before, input, NEXT.as_bytes()].concat();
        for slowly in [false, true] {
            let mut wire = Wire::new();
            let mut replies = if slowly { wire.send_slowly(&stream) } else { wire.send(&stream) };
            let rejection = replies.pop().unwrap_or_else(|| panic!("no reply to {shown}"));
            assert_eq!(rejection.status, status, "{shown}");
            assert_eq!(rejection.field("Connection"), Some("close"), "{shown}");
            assert_eq!(replies.len(), usize::from(!before.is_empty()), "{shown}: {replies:?}");
            assert!(replies.iter().all(|reply| reply.status == 200), "{shown}: {replies:?}");
            assert_eq!(wire.ending(), Ending::Lingering, "{shown}");
            assert_eq!(wire.send(NEXT), [], "{shown}");
            assert_eq!(wire.end(), [], "{shown}");
            assert_eq!(wire.ending(), Ending::Closed, "{shown}");
        }
    }
}

/// Checks that `input` is one complete request that gets this status, and that the bytes after it are the next request.
pub(crate) fn check_served(input: impl AsRef<[u8]>, status: u16) {
    let input = input.as_ref();
    let shown = input.escape_ascii();
    let stream = [input, NEXT.as_bytes()].concat();
    for slowly in [false, true] {
        let mut wire = Wire::new();
        let replies = if slowly { wire.send_slowly(&stream) } else { wire.send(&stream) };
        assert_eq!(statuses(&replies), [status, 200], "{shown}: {replies:?}");
        assert_eq!(replies[1].body, NEXT_BODY, "{shown}");
        assert_eq!(wire.ending(), Ending::Open, "{shown}");
    }
}
