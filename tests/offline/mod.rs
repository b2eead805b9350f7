//! A connection and the application without a socket between them: bytes in, bytes out.
//!
//! Shared by the tests and benchmarks that need no network.

use fibsrv::{
    app::{Answer, App, Bounds},
    fibonacci::Table,
    http::{
        Status,
        conn::{Buffers, Conn, Next, ResponseMeta},
        request::{head::Parser, limits::Limits},
    },
    logging::access::{AccessLog, Entry},
    metrics::Build,
};

/// Nothing beyond the table, as nobody computes here.
const fn bounds(table_last: u32) -> Bounds {
    Bounds { max_n: table_last as u64, under_way: 1, bytes: 0 }
}
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// What serves a connection, in place of the event loop.
#[derive(Debug)]
pub(crate) struct Offline {
    pub(crate) app: App,
    pub(crate) parser: Parser,
    pub(crate) buffers: Buffers,
    /// All that the connection has written.
    pub(crate) output: Vec<u8>,
    /// The access log, if there is to be one.
    pub(crate) log: Option<AccessLog>,
}

/// How a connection stands after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It would read on.
    Open,
    /// It would close.
    Closed,
}

impl Offline {
    pub(crate) fn new(table_last: u32) -> Self {
        let build = Build { version: "", revision: "", rustc: "" };
        let table = Table::new(table_last).expect("a table");
        Self {
            app: App::new(table, bounds(table_last), build),
            parser: Parser::new(Limits::DEFAULT),
            buffers: Buffers::default(),
            output: Vec::new(),
            log: None,
        }
    }

    /// Puts an answer down, if that is wanted.
    fn log(&mut self, conn: &Conn, answered: &ResponseMeta, status: Status) {
        if let Some(log) = &mut self.log {
            let (peer, unix_ms) = (None, 784_111_777_000);
            let (request, bytes) = (conn.answered(answered), answered.bytes);
            log.add(&Entry { client: peer, unix_ms, request, status, bytes });
        }
    }

    /// Does what the loop would do until the connection wants to read or to close.
    pub(crate) fn serve(&mut self, conn: &mut Conn) -> Standing {
        loop {
            match conn.next(&mut self.parser) {
                Next::Answer(request) => match self.app.answer(&request, conn.head(&request)) {
                    Answer::Ready(response) => {
                        let status = response.status;
                        let answered = conn.respond(&response, DATE);
                        self.app.count_response(answered.bytes);
                        self.log(conn, &answered, status);
                    }
                    Answer::Scrape(format) => {
                        conn.respond(&self.app.scrape(format, None), DATE);
                    }
                    Answer::Compute(_) => panic!("nothing lies beyond the table"),
                },
                Next::Reject(reject) => {
                    let response = self.app.reject(reject);
                    let status = response.status;
                    let answered = conn.respond(&response, DATE);
                    self.log(conn, &answered, status);
                }
                Next::Write => {
                    self.app.settle(1_000);
                    if let Some(log) = &mut self.log {
                        log.settle(1_000);
                    }
                    let [rendered, shared] = conn.outgoing();
                    let length = rendered.len() + shared.len();
                    self.output.extend_from_slice(rendered);
                    self.output.extend_from_slice(shared);
                    conn.advance_written(length);
                }
                Next::Shutdown => {}
                Next::Read => return Standing::Open,
                Next::Wait => panic!("every answer is made at once"),
                Next::Close => return Standing::Closed,
            }
        }
    }

    /// A turn of the loop in which these bytes have come.
    #[inline(never)] // callgrind is told to count what this function calls
    pub(crate) fn turn(&mut self, conn: &mut Conn, bytes: &[u8]) -> Standing {
        conn.borrow_buffers(&mut self.buffers);
        conn.receive(bytes);
        let standing = self.serve(conn);
        conn.return_buffers(&mut self.buffers);
        standing
    }
}
