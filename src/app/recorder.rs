//! Records each response, in the metrics and in the access log.
//!
//! Counts of requests are updated at once. Durations, sizes and log lines are collected, because they are known
//! only when the batch of responses is complete: pipelined responses share one duration.

use crate::{
    http::{
        Reject, Status,
        conn::{Conn, ResponseMeta},
        request::head::Request,
        response::{Body, Response, ResponseKind},
    },
    logging::access::{
        address::ClientAddress,
        lines::{LineFormat, Lines, LogEntry},
    },
    metrics::{
        self, Claim, Handler, RequestLabels, ResponseForm,
        shared::{Coverage, SharedMemory, SharedMemoryError},
    },
};

/// A response, and the request it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The request, or why the bytes received are none.
    pub request: Result<&'a Request, Reject>,
    /// The handler that made the response.
    pub handler: Handler,
    /// The response.
    pub response: &'a Response<'a>,
    /// The response as it was rendered.
    pub rendered: ResponseMeta,
    /// The connection, which still has the bytes received.
    pub conn: &'a Conn,
    /// The client's address, if it is known.
    pub client: Option<&'a ClientAddress>,
    /// When the response was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
}

/// The counters and the lines of the access log.
#[derive(Debug)]
pub struct Recorder {
    counters: Claim,
    batch: Batch,
    log: Option<LogBuffer>,
}

/// The totals of the responses since the last batch ended. Plain numbers, so that a batch touches each counter once.
#[derive(Debug, Default)]
struct Batch {
    responses_by_handler: [u32; Handler::ALL.len()],
    response_bytes: u64,
    requests: u64,
    request_bytes: u64,
}

/// Lines of the access log.
#[derive(Debug)]
struct LogBuffer {
    /// Those of the current batch, which lack its duration.
    lines: Lines,
    /// Those of earlier batches.
    complete: Vec<u8>,
}

impl Recorder {
    /// Returns a recorder that updates these counters and, if there is a format, makes lines of the access log.
    pub fn new(counters: Claim, log: Option<LineFormat>) -> Self {
        let log = log.map(|format| LogBuffer { lines: Lines::new(format), complete: Vec::new() });
        Self { counters, batch: Batch::default(), log }
    }

    /// The counters of this worker.
    pub const fn counters(&self) -> &Claim {
        &self.counters
    }

    /// Sets whether the metrics include those of all processes on the port.
    pub fn set_coverage(&self, coverage: Coverage) {
        self.counters.set_coverage(coverage);
    }

    /// Continues to count in other shared memory.
    pub fn move_counters(&mut self, memory: &SharedMemory) -> Result<(), SharedMemoryError> {
        self.counters.move_to(memory)
    }

    /// The counters, to record the process.
    pub const fn counters_mut(&mut self) -> &mut Claim {
        &mut self.counters
    }

    /// Records a response.
    #[inline]
    pub fn record(&mut self, exchange: &Exchange<'_>) {
        let method = match exchange.request {
            Ok(request) => {
                self.batch.requests += 1;
                self.batch.request_bytes += request.head_bytes as u64 + request.body_bytes;
                Some(request.method)
            }
            Err(reject) => {
                self.counters.add(metrics::REQUESTS_REJECTED.with(reject), 1);
                None
            }
        };
        let labels =
            RequestLabels { handler: exchange.handler, method, status: exchange.response.status };
        self.counters.add(metrics::REQUESTS.with(labels), 1);
        if let Some(form) = form_of(exchange.response) {
            self.counters.add(metrics::RESPONSE_FORMS.with(form), 1);
        }
        if let Some(responses) = self.batch.responses_by_handler.get_mut(exchange.handler as usize)
        {
            *responses += 1;
        }
        self.batch.response_bytes += exchange.rendered.bytes as u64;
        if let Some(log) = &mut self.log {
            log.add(&LogEntry {
                client: exchange.client,
                unix_ms: exchange.unix_ms,
                request: exchange.conn.received(&exchange.rendered),
                status: exchange.response.status,
                body_bytes: exchange.response.sent_len(exchange.rendered.body_mode),
                response_bytes: exchange.rendered.bytes,
            });
        }
    }

    /// Completes the records of all responses since the last call, which took `duration_ns`. Call it before they are
    /// written: a client that has received a response finds it in the next scrape.
    pub fn end_batch(&mut self, duration_ns: u64) {
        let batch = std::mem::take(&mut self.batch);
        let mut responses = 0;
        for (handler, count) in Handler::ALL.into_iter().zip(batch.responses_by_handler) {
            if count > 0 {
                let duration = metrics::REQUEST_DURATION.with(handler);
                self.counters.observe(duration, duration_ns, count.into());
                responses += u64::from(count);
            }
        }
        self.counters.summarize(metrics::REQUEST_SIZE, batch.request_bytes, batch.requests);
        self.counters.summarize(metrics::RESPONSE_SIZE, batch.response_bytes, responses);
        if let Some(log) = &mut self.log {
            log.lines.complete(duration_ns, &mut log.complete);
        }
    }

    /// The complete lines of the access log, for the caller to take out. None if there is no access log.
    pub const fn log_lines(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.log {
            Some(log) => Some(&mut log.complete),
            None => None,
        }
    }

    /// Whether there is an access log.
    pub const fn is_logging(&self) -> bool {
        self.log.is_some()
    }
}

/// The form of a response, if it is not plain text.
const fn form_of(response: &Response<'_>) -> Option<ResponseForm> {
    match (response.kind, response.status, response.body) {
        (ResponseKind::NumberJson(_), Status::Ok, _) => Some(ResponseForm::Json),
        (ResponseKind::NumberGzip(_), Status::Ok, _) => Some(ResponseForm::Gzip),
        (ResponseKind::NumberPart { .. }, _, _) => Some(ResponseForm::Range),
        (ResponseKind::Error(..), _, Body::Problem(_)) => Some(ResponseForm::Problem),
        _ => None,
    }
}

impl LogBuffer {
    #[inline(never)] // keeps `record` short where nothing is logged
    fn add(&mut self, entry: &LogEntry<'_>) {
        self.lines.add(entry);
    }
}
