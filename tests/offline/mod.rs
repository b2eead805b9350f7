//! The application without sockets: bytes in, bytes out.
//!
//! It drives [`App::advance`], as the event loop does, and is shared by the tests and benchmarks that need no network.

use fibsrv::{
    app::{App, ConnectionId, NumberLimits, Recorder, ResponseTable, Session, Settings, Timestamp},
    fibonacci::Calculator,
    http::{
        conn::{Buffers, Io},
        preamble::Preamble,
        request::limits::Limits,
    },
    logging::access::{AccessLog, AccessLogOptions},
    metrics::{Build, Claim},
};

/// Time stands still.
pub(crate) const NOW: Timestamp<'_> =
    Timestamp { now_ns: 0, unix_ms: 784_111_777_000, preamble: &PREAMBLE };

static PREAMBLE: Preamble = Preamble::new(b"Sun, 06 Nov 1994 08:49:37 GMT");

/// The application, and the parts of a worker that it needs.
#[derive(Debug)]
pub(crate) struct Offline {
    pub(crate) app: App,
    pub(crate) buffers: Buffers,
    /// All bytes written.
    pub(crate) output: Vec<u8>,
    pub(crate) log: Option<AccessLog>,
}

/// The state of a connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// It would read on.
    Open,
    /// It would close.
    Closed,
}

/// A session that has received nothing.
pub(crate) fn session() -> Session {
    Session::new(ConnectionId { key: 0, generation: 0 }, None)
}

impl Offline {
    /// An application with a table of numbers up to `table_last`, and others up to `max_n`.
    pub(crate) fn new(
        (table_last, max_n): (u32, u64),
        limits: Limits,
        log: Option<&AccessLogOptions>,
    ) -> Self {
        let build = Build { version: "", revision: "", rustc: "" };
        let numbers = NumberLimits { max_n, max_in_flight: 1, bytes: 1024 * 1024 };
        let recorder = Recorder::new(Claim::private(), log.map(|options| options.format));
        let table = ResponseTable::new(table_last).expect("a table");
        Self {
            app: App::new(table, Settings { limits, numbers, build }, recorder),
            buffers: Buffers::default(),
            output: Vec::new(),
            log: log.map(|options| AccessLog::open(options).expect("a log")),
        }
    }

    /// Advances the session and does its I/O, until it has to read or is over.
    pub(crate) fn serve(&mut self, session: &mut Session) -> ConnectionState {
        loop {
            match self.app.advance(session, &NOW) {
                Io::Write => {
                    self.end_batch();
                    let [rendered, shared] = session.conn().outgoing();
                    let length = rendered.len() + shared.len();
                    self.output.extend_from_slice(rendered);
                    self.output.extend_from_slice(shared);
                    session.conn_mut().advance_written(length);
                }
                Io::Shutdown => {}
                Io::Read => return ConnectionState::Open,
                Io::Wait => self.compute(session),
                Io::Close => return ConnectionState::Closed,
            }
        }
    }

    /// Does the work of the compute thread.
    fn compute(&mut self, session: &mut Session) {
        let job = self.app.next_job().expect("the session waits for a number");
        let completed = job.run(&mut Calculator::default());
        assert_eq!(self.app.complete(&completed), [session.id()]);
        self.app.resume(session, Some(&completed), &NOW, 0);
    }

    fn end_batch(&mut self) {
        self.app.end_batch(1_000);
        if let (Some(log), Some(lines)) = (&mut self.log, self.app.log_lines()) {
            log.append(lines);
        }
    }

    /// A turn in which these bytes are received.
    #[inline(never)] // callgrind counts what this function calls
    pub(crate) fn turn(&mut self, session: &mut Session, bytes: &[u8]) -> ConnectionState {
        session.conn_mut().borrow_buffers(&mut self.buffers);
        session.conn_mut().receive(bytes);
        let state = self.serve(session);
        session.conn_mut().return_buffers(&mut self.buffers);
        state
    }
}
