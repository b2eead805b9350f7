//! What is counted of each request and answer, gathered for a batch.

use crate::{
    http::{Method, Status, request::head::Request},
    metrics::{self, Claim, Handler, RequestLabels},
};

/// The counters, and what has not got there yet.
#[derive(Debug)]
pub(super) struct RequestRecorder {
    pub(super) counters: Claim,
    batch: Batch,
}

/// Answers that have been made and not yet been timed, and their sizes: gathered here in plain numbers, so
/// that a batch of pipelined requests touches the histogram once.
#[derive(Debug, Default)]
struct Batch {
    answers_by_handler: [u32; Handler::ALL.len()],
    requests: u64,
    request_bytes: u64,
    responses: u64,
    response_bytes: u64,
}

impl RequestRecorder {
    pub(super) fn new(counters: Claim) -> Self {
        Self { counters, batch: Batch::default() }
    }

    /// Counts a request and the status of its answer.
    pub(super) fn count(&mut self, request: &Request, handler: Handler, status: Status) {
        self.batch.requests += 1;
        self.batch.request_bytes += request.head_bytes as u64 + request.body_bytes;
        self.count_answer(handler, Some(request.method), status);
    }

    /// Counts an answer, also to what is no request and has no method.
    pub(super) fn count_answer(
        &mut self,
        handler: Handler,
        method: Option<Method>,
        status: Status,
    ) {
        let labels = RequestLabels { handler, method, status };
        self.counters.add(metrics::REQUESTS.with(labels), 1);
        if let Some(answers) = self.batch.answers_by_handler.get_mut(handler as usize) {
            *answers += 1;
        }
    }

    /// Counts the length in bytes of a response that was rendered.
    pub(super) const fn count_response(&mut self, bytes: usize) {
        self.batch.responses += 1;
        self.batch.response_bytes += bytes as u64;
    }

    pub(super) fn settle(&mut self, duration_ns: u64) {
        let batch = std::mem::take(&mut self.batch);
        for (handler, answers) in Handler::ALL.into_iter().zip(batch.answers_by_handler) {
            if answers > 0 {
                let duration = metrics::REQUEST_DURATION.with(handler);
                self.counters.observe(duration, duration_ns, answers.into());
            }
        }
        self.counters.summarize(metrics::REQUEST_SIZE, batch.request_bytes, batch.requests);
        self.counters.summarize(metrics::RESPONSE_SIZE, batch.response_bytes, batch.responses);
    }
}
