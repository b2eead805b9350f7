//! One peer: a socket, and the connection that says what to do with it.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use mio::net::TcpStream;
use socket2::SockRef;

use crate::{
    app::{Answer, App},
    http::{
        conn::{Buffers, Conn, Next, Waiting},
        request::head::{Parser, Request},
        response::Response,
    },
    logging::access::{AccessLog, Address, Entry},
    metrics::{self, CloseReason},
    server::process_stats::ProcessStats,
    sys::clock::Clock,
};

/// Most bytes read at once. A deeper pipeline takes more turns; a request head takes one.
pub const READ_BYTES: usize = 8 * 1024;

/// What every peer is served with.
#[derive(Debug)]
pub struct WorkerContext {
    /// What answers.
    pub app: App,
    /// The time.
    pub clock: Clock,
    /// Reads heads.
    pub parser: Parser,
    /// What knows about the process, where that is to be had.
    pub probe: Option<ProcessStats>,
    /// Lent to the connection whose turn it is.
    pub buffers: Buffers,
    /// Where the socket is read to.
    pub input: Box<[u8; READ_BYTES]>,
    /// What has a line for each answer, if that is wanted.
    pub access_log: Option<AccessLog>,
}

impl WorkerContext {
    /// Begins a turn of the loop: reads the time, and now and then lets others know how the process does.
    pub fn tick(&mut self) {
        self.clock.tick();
        if let Some(probe) = &mut self.probe
            && let Some(process) = probe.read_when_due(self.clock.now_ns())
        {
            self.app.tell_process(&process);
        }
    }

    /// Ends a turn of the loop: writes the access log, so that no line of it waits while the loop does.
    pub fn end_turn(&mut self) {
        if let Some(log) = &mut self.access_log {
            let dropped = log.flush(self.clock.now_ns());
            self.app.counters().add(metrics::ACCESS_LOG_DROPPED, dropped);
        }
    }

    /// Opens the access log's file anew, if there is one.
    pub fn reopen_access_log(&mut self) {
        if let Some(log) = &mut self.access_log {
            log.reopen();
        }
    }

    /// Writes what is left of the access log, at the end of the process.
    pub fn close_access_log(&mut self) {
        if let Some(log) = &mut self.access_log {
            log.close();
        }
    }

    /// The address of a peer, if its answers are to be logged.
    pub fn address(&self, address: SocketAddr) -> Option<Box<Address>> {
        self.access_log.as_ref().map(|_| Box::new(Address::of(address)))
    }

    /// Takes in that the answers made since the last call have taken so long. To be called before they are
    /// written.
    fn settle(&mut self, duration_ns: u64) {
        self.app.settle(duration_ns);
        if let Some(log) = &mut self.access_log {
            log.settle(duration_ns);
        }
    }
}

/// How a peer's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the socket, the compute thread or a deadline.
    WouldBlock,
    /// It has used its share, and may have more to do at once.
    Yield,
    /// It is over: drop the peer.
    Closed,
}

/// A socket and its connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    conn: Conn,
    /// What the deadline now set is for.
    wait: Option<(Waiting, u32)>,
    read_half: ReadHalf,
    generation: u32,
    /// A request that has to wait for its number.
    late: Option<Box<Late>>,
    /// Where it comes from, if its answers are logged.
    address: Option<Box<Address>>,
}

/// A request whose number is being computed.
#[derive(Debug)]
struct Late {
    request: Request,
    n: u64,
    asked_ns: u64,
    stage: Stage,
}

/// How far a number that a peer waits for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has been asked for it.
    Wanted,
    /// The compute thread has been asked.
    Asked,
    /// It is there, or never will be.
    Settled,
}

/// What the poll has told about the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadHalf {
    Open,
    /// The end of the stream is in the receive queue, perhaps behind data, and will not be told again.
    Closing,
}

/// What is known about the receive queue in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadReadiness {
    Unknown,
    /// The last read took all there was.
    Drained,
    /// The last read filled its buffer.
    HasMore,
}

impl Connection {
    /// A peer that has just been accepted; its address if its answers are to be logged.
    pub fn new(socket: TcpStream, address: Option<Box<Address>>) -> Self {
        Self {
            socket,
            conn: Conn::new(),
            wait: None,
            read_half: ReadHalf::Open,
            generation: 0,
            late: None,
            address,
        }
    }

    /// Tells this peer from those that had its place before.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// To be set by whoever keeps the connections.
    pub const fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// The socket, to be registered.
    pub const fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Takes in that the poll reports the end of the peer's stream.
    pub const fn mark_read_closed(&mut self) {
        self.read_half = ReadHalf::Closing;
    }

    /// Whether there is something for the peer to take.
    pub fn is_writing(&self) -> bool {
        self.conn.waiting().0 == Waiting::Write
    }

    /// Makes the next answer say that it is the last one.
    pub const fn disable_keep_alive(&mut self) {
        self.conn.disable_keep_alive();
    }

    /// Begins to close the connection if nothing is under way on it; says whether it did. To be followed
    /// by a turn.
    pub fn close_if_idle(&mut self) -> bool {
        self.conn.close_if_idle()
    }

    /// Takes in that the deadline has come, and counts it; to be followed by a turn.
    pub fn expire(&mut self, app: &App) {
        let reason = match self.conn.waiting().0 {
            // Refused, with 408: that is counted as any other refusal.
            Waiting::Head if self.conn.has_input() => None,
            Waiting::Body | Waiting::Answer => None,
            Waiting::Head => Some(CloseReason::HeadTimeout),
            Waiting::Idle => Some(CloseReason::IdleTimeout),
            Waiting::Write => Some(CloseReason::WriteTimeout),
            Waiting::Linger => Some(CloseReason::LingerTimeout),
        };
        if let Some(reason) = reason {
            app.counters().add(metrics::CONNECTIONS_CLOSED.with(reason), 1);
        }
        if matches!(reason, Some(CloseReason::WriteTimeout | CloseReason::LingerTimeout)) {
            self.reset_when_closed();
        }
        self.conn.expire();
    }

    /// What the peer did not read is still in the kernel's buffer, and an orderly close would leave it
    /// there for minutes.
    fn reset_when_closed(&self) {
        // Failing means that the peer has reset the connection already.
        drop(SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
    }

    /// What the peer waits for, if that is another wait than the last one asked about.
    pub fn take_wait_change(&mut self) -> Option<Waiting> {
        let wait = self.conn.waiting();
        (self.wait.replace(wait) != Some(wait)).then_some(wait.0)
    }

    /// The number that this peer has come to need, if somebody is to be asked for it. Tells it once.
    pub fn take_wanted(&mut self) -> Option<u64> {
        let late = self.late.as_mut().filter(|late| late.stage == Stage::Wanted)?;
        late.stage = Stage::Asked;
        Some(late.n)
    }

    /// The number that somebody has been asked for and that has not come.
    pub fn awaited(&self) -> Option<u64> {
        self.late.as_ref().filter(|late| late.stage == Stage::Asked).map(|late| late.n)
    }

    /// Takes in that the number is there, or never will be; to be followed by a turn.
    pub fn settle(&mut self) {
        if let Some(late) = &mut self.late {
            late.stage = Stage::Settled;
        }
    }

    /// Does what can be done without waiting, up to one read and one batch of answers.
    pub fn turn(&mut self, context: &mut WorkerContext) -> Outcome {
        self.conn.borrow_buffers(&mut context.buffers);
        let turn = self.drive(context);
        self.conn.return_buffers(&mut context.buffers);
        turn
    }

    fn drive(&mut self, context: &mut WorkerContext) -> Outcome {
        if let Some(late) = self.late.take_if(|late| late.stage == Stage::Settled)
            && self.conn.is_awaiting_response()
        {
            self.answer_late(&late, context);
        }
        let mut readiness = ReadReadiness::Unknown;
        loop {
            match self.conn.next(&mut context.parser) {
                Next::Answer(request) => {
                    let WorkerContext { app, clock, probe, access_log, .. } = context;
                    let response = match app.answer(&request, self.conn.head(&request)) {
                        Answer::Ready(response) => response,
                        Answer::Scrape(format) => {
                            let process = probe.as_ref().and_then(ProcessStats::read_or_log);
                            app.scrape(format, process.as_ref())
                        }
                        Answer::Compute(n) => {
                            let (asked_ns, stage) = (clock.now_ns(), Stage::Wanted);
                            self.late = Some(Box::new(Late { request, n, asked_ns, stage }));
                            continue;
                        }
                    };
                    let bytes = self.respond(&response, clock, access_log);
                    app.count_response(bytes);
                }
                Next::Reject(reject) => {
                    let WorkerContext { app, clock, access_log, .. } = context;
                    let bytes = self.respond(&app.reject(reject), clock, access_log);
                    app.count_response(bytes);
                }
                Next::Write => {
                    context.settle(context.clock.since_tick_ns());
                    match self.write() {
                        Ok(()) if self.conn.has_input() => return Outcome::Yield,
                        Ok(()) => {}
                        Err(error) if is_transient(&error) => return Outcome::WouldBlock,
                        Err(_) => return Outcome::Closed, // the peer is gone, and nobody is left to tell
                    }
                }
                Next::Read => match readiness {
                    ReadReadiness::Drained => return Outcome::WouldBlock,
                    ReadReadiness::HasMore => return Outcome::Yield,
                    ReadReadiness::Unknown => match self.read(&mut context.input[..]) {
                        Ok(seen) => readiness = seen,
                        Err(error) if is_transient(&error) => return Outcome::WouldBlock,
                        Err(_) => return Outcome::Closed,
                    },
                },
                Next::Wait => return Outcome::WouldBlock,
                Next::Shutdown => {
                    if self.socket.shutdown(Shutdown::Write).is_err() {
                        return Outcome::Closed; // reset by the peer meanwhile
                    }
                }
                Next::Close => return Outcome::Closed,
            }
        }
    }

    /// Makes the answer that had to wait. It is timed by itself, from when the request came.
    fn answer_late(&mut self, late: &Late, context: &mut WorkerContext) {
        let WorkerContext { app, clock, access_log, .. } = context;
        let response = app.answer_computed(&late.request, late.n);
        let bytes = self.respond(&response, clock, access_log);
        app.count_response(bytes);
        let before_tick_ns = clock.now_ns().saturating_sub(late.asked_ns);
        context.settle(before_tick_ns + context.clock.since_tick_ns());
    }

    /// Puts an answer into the outbox, and down in the access log; returns its length in bytes.
    fn respond(
        &mut self,
        response: &Response<'_>,
        clock: &Clock,
        access_log: &mut Option<AccessLog>,
    ) -> usize {
        let answered = self.conn.respond(response, clock.date());
        if let Some(log) = access_log {
            log.add(&Entry {
                client: self.address.as_deref(),
                unix_ms: clock.unix_ms(),
                request: self.conn.answered(&answered),
                status: response.status,
                bytes: answered.bytes,
            });
        }
        answered.bytes
    }

    /// Reads once.
    fn read(&mut self, input: &mut [u8]) -> io::Result<ReadReadiness> {
        let count = self.socket.read(input)?;
        let is_full = count == input.len();
        if count == 0 {
            self.conn.receive_eof();
            return Ok(ReadReadiness::Drained);
        }
        self.conn.receive(input.get(..count).unwrap_or_default());
        if is_full {
            self.conn.mark_more_pending();
        }
        // A short read has taken all there was, and the next arrival makes an edge: asking again would
        // only yield WouldBlock. But the end of the stream that the poll has told makes no further edge.
        Ok(if is_full || self.read_half == ReadHalf::Closing {
            ReadReadiness::HasMore
        } else {
            ReadReadiness::Drained
        })
    }

    /// Writes the batch, once.
    fn write(&mut self) -> io::Result<()> {
        let [rendered, shared] = self.conn.outgoing();
        let length = rendered.len() + shared.len();
        let count = if shared.is_empty() {
            self.socket.write(rendered)?
        } else {
            self.socket.write_vectored(&[IoSlice::new(rendered), IoSlice::new(shared)])?
        };
        self.conn.advance_written(count);
        // The kernel took less than all: it will tell when it has room again.
        if count < length { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

fn is_transient(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
