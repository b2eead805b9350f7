//! One connection: a socket, and the I/O that its session needs.

mod slow;

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::Shutdown,
    time::Duration,
};

use mio::net::TcpStream;
use socket2::SockRef;

use crate::{
    app::{App, Completed, ConnectionId, Session},
    http::conn::{Io, TimeoutKind, Wait},
    metrics::{self, CloseReason},
    server::{context::WorkerContext, delivery::Delivery},
};

/// Maximum number of bytes per write. A large response takes several turns.
const WRITE_BYTES: usize = 256 * 1024;

/// How a turn of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the socket, for a number or for a deadline.
    WouldBlock,
    /// It has used up its turn and may have more to do at once.
    Yield,
    /// It is over and must be removed.
    Closed,
}

/// A socket and its session.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    session: Session,
    /// What the current deadline was set for.
    wait: Option<Wait>,
    read_half: ReadHalf,
    /// Whether it runs in the next iteration without an event.
    is_scheduled: bool,
    /// While responses are written that the client does not accept at once.
    delivery: Option<Box<Delivery>>,
}

/// The receiving half of the socket, as far as the poll has reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadHalf {
    Open,
    /// A byte is marked as urgent. A read ends there, although more may follow, so reads go on until one would block.
    Urgent,
    /// The client has closed its side. Edge-triggered events report this once, so reads go on until they return 0.
    Closing,
}

/// What the last read says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadReadiness {
    Unknown,
    /// The last read has emptied the socket.
    Drained,
    /// The last read has filled its buffer.
    HasMore,
}

impl Connection {
    /// Returns a connection that has just been accepted.
    pub const fn new(socket: TcpStream, session: Session) -> Self {
        Self {
            socket,
            session,
            wait: None,
            read_half: ReadHalf::Open,
            is_scheduled: false,
            delivery: None,
        }
    }

    /// Identifies it among all connections of this worker.
    pub const fn id(&self) -> ConnectionId {
        self.session.id()
    }

    /// The session, to be ended when the connection is removed.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The socket, to be registered with the poll.
    pub const fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether it runs in the next iteration without an event.
    pub const fn is_scheduled(&self) -> bool {
        self.is_scheduled
    }

    /// Records that it runs in the next iteration. Returns whether that is new.
    pub const fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.is_scheduled, true)
    }

    /// Records that it runs now.
    pub const fn unschedule(&mut self) {
        self.is_scheduled = false;
    }

    /// Records that the poll has reported urgent data.
    pub fn mark_urgent(&mut self) {
        if self.read_half == ReadHalf::Open {
            self.read_half = ReadHalf::Urgent;
        }
    }

    /// Records that the poll has reported the end of the client's stream.
    pub const fn mark_read_closed(&mut self) {
        self.read_half = ReadHalf::Closing;
    }

    /// Whether it waits for the socket to become writable.
    pub fn is_writing(&self) -> bool {
        self.wait().timeout == Some(TimeoutKind::Write)
    }

    /// Disables keep-alive: the next response closes the connection.
    pub const fn disable_keep_alive(&mut self) {
        self.session.conn_mut().disable_keep_alive();
    }

    /// Begins to close the connection if it is idle. Returns whether it did; a turn must follow.
    pub fn close_if_idle(&mut self) -> bool {
        self.session.conn_mut().close_if_idle()
    }

    /// What it waits for.
    pub fn wait(&self) -> Wait {
        self.session.conn().wait()
    }

    /// What it waits for, if that is a new wait. A deadline is set for the whole of a wait, however often bytes
    /// arrive meanwhile.
    pub fn take_wait_change(&mut self) -> Option<Wait> {
        let wait = self.wait();
        (self.wait.replace(wait) != Some(wait)).then_some(wait)
    }

    /// Handles an expired deadline and counts it. A turn must follow.
    pub fn expire(&mut self, app: &App) {
        let conn = self.session.conn_mut();
        let reason = match conn.wait().timeout {
            // These get 408, which is counted like any other rejection.
            Some(TimeoutKind::Head) if conn.has_input() => None,
            Some(TimeoutKind::Body) | None => None,
            Some(TimeoutKind::Head) => Some(CloseReason::HeadTimeout),
            Some(TimeoutKind::Idle) => Some(CloseReason::IdleTimeout),
            Some(TimeoutKind::Write) => Some(CloseReason::WriteTimeout),
            Some(TimeoutKind::Linger) => Some(CloseReason::LingerTimeout),
        };
        if let Some(reason) = reason {
            app.counters().add(metrics::CONNECTIONS_CLOSED.with(reason), 1);
        }
        if matches!(reason, Some(CloseReason::WriteTimeout | CloseReason::LingerTimeout)) {
            reset_when_closed(&self.socket);
        }
        conn.expire();
    }

    /// Prepares to be closed in favour of a new connection, and counts it.
    pub fn evict(&mut self, app: &App) {
        app.counters().add(metrics::CONNECTIONS_CLOSED.with(CloseReason::Evicted), 1);
        if self.is_writing() {
            reset_when_closed(&self.socket);
        }
    }

    /// Runs until the connection has to wait or has used up its turn: at most one read, and the batches that follow
    /// from it.
    pub fn turn(&mut self, context: &mut WorkerContext) -> Outcome {
        self.session.conn_mut().borrow_buffers(&mut context.buffers);
        let outcome = self.drive(context);
        self.session.conn_mut().return_buffers(&mut context.buffers);
        outcome
    }

    /// Responds to the request that waits for a number, then runs as in [`Self::turn`]. Without digits the number
    /// could not be computed.
    pub fn resume(
        &mut self,
        completed: Option<&Completed>,
        context: &mut WorkerContext,
    ) -> Outcome {
        self.session.conn_mut().borrow_buffers(&mut context.buffers);
        let now = WorkerContext::timestamp(&context.clock);
        context.app.resume(&mut self.session, completed, &now, context.clock.since_tick_ns());
        let outcome = self.drive(context);
        self.session.conn_mut().return_buffers(&mut context.buffers);
        outcome
    }

    /// The loop: advances the session and does the I/O that it needs.
    fn drive(&mut self, context: &mut WorkerContext) -> Outcome {
        let mut readiness = ReadReadiness::Unknown;
        loop {
            let now = WorkerContext::timestamp(&context.clock);
            match context.app.advance(&mut self.session, &now) {
                Io::Read => match readiness {
                    ReadReadiness::Drained => return Outcome::WouldBlock,
                    ReadReadiness::HasMore => return Outcome::Yield,
                    ReadReadiness::Unknown => match self.read(&mut context.input[..]) {
                        Ok(found) => readiness = found,
                        Err(error) => return outcome_of(&error),
                    },
                },
                Io::Write => {
                    context.end_batch();
                    match self.write(context) {
                        Ok(Written::Everything) if !self.session.conn().has_input() => {}
                        Ok(_) => return Outcome::Yield,
                        Err(error) => return outcome_of(&error),
                    }
                }
                Io::Wait => return Outcome::WouldBlock,
                Io::Shutdown => {
                    if self.socket.shutdown(Shutdown::Write).is_err() {
                        return Outcome::Closed; // the client has reset the connection
                    }
                }
                Io::Close => return Outcome::Closed,
            }
        }
    }

    /// Reads once.
    fn read(&mut self, input: &mut [u8]) -> io::Result<ReadReadiness> {
        let count = self.socket.read(input).inspect_err(|_| {
            if self.read_half == ReadHalf::Urgent {
                self.read_half = ReadHalf::Open;
            }
        })?;
        let is_full = count == input.len();
        let conn = self.session.conn_mut();
        if count == 0 {
            conn.receive_eof();
            return Ok(ReadReadiness::Drained);
        }
        conn.receive(input.get(..count).unwrap_or_default());
        if is_full {
            conn.mark_more_pending();
        }
        // A short read has emptied the socket, and the next arrival causes an event: reading again would return
        // WouldBlock. But urgent data ends a read early, and a reported end of stream causes no further event.
        Ok(if is_full || self.read_half != ReadHalf::Open {
            ReadReadiness::HasMore
        } else {
            ReadReadiness::Drained
        })
    }

    /// Writes the batch, once.
    fn write(&mut self, context: &WorkerContext) -> io::Result<Written> {
        let [rendered, shared] = self.session.conn().outgoing();
        let left = rendered.len() + shared.len();
        let shared = shared.get(..WRITE_BYTES).unwrap_or(shared);
        let length = rendered.len() + shared.len();
        let written = if shared.is_empty() {
            self.socket.write(rendered)
        } else {
            self.socket.write_vectored(&[IoSlice::new(rendered), IoSlice::new(shared)])
        };
        let count = match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.session.conn_mut().advance_written(count);
        if let Some(delivery) = &mut self.delivery {
            delivery.advance(count, context.clock.now_ns());
        }
        if count < length {
            self.block(left, context);
            // The socket is full, and an event follows when it has room again.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if count < left {
            return Ok(Written::Part);
        }
        if self.delivery.is_some() {
            self.end_delivery(context.unacknowledged);
        }
        Ok(Written::Everything)
    }
}

/// What a write has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// The batch.
    Everything,
    /// As much as a write may. The socket may accept more.
    Part,
}

/// How a turn ends after a failed read or write. Any error but `WouldBlock` means that the connection is gone.
fn outcome_of(error: &io::Error) -> Outcome {
    if error.kind() == io::ErrorKind::WouldBlock { Outcome::WouldBlock } else { Outcome::Closed }
}

/// Has the kernel reset the connection when the socket is closed: an orderly close would leave unread responses in
/// the kernel's buffer for minutes.
fn reset_when_closed(socket: &TcpStream) {
    // It fails only if the client has reset the connection already.
    drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
}
