//! Connections whose clients are slow: they receive less than is to be sent, or go on sending after the last response.

use std::time::Duration;

use super::Connection;
use crate::{
    http::conn::TimeoutKind,
    server::{context::WorkerContext, delivery::Delivery},
    sys::{self, send_buffer},
};

impl Connection {
    /// Handles the end of a period of a write or of lingering. Returns whether the client is fast enough; then the next
    /// deadline is that of a new wait.
    pub fn renew_deadline(&mut self, write_period_ns: u64) -> bool {
        let renews = match self.wait().timeout {
            Some(TimeoutKind::Write) => self.renew_write(write_period_ns),
            Some(TimeoutKind::Linger) => self.session.conn_mut().renew_linger(),
            _ => false,
        };
        if renews {
            self.wait = None;
        }
        renews
    }

    fn renew_write(&mut self, period_ns: u64) -> bool {
        let Some(delivery) = &mut self.delivery else { return false };
        if delivery.elapsed().is_zero() {
            // The kernel counts the time since the receive window was last large enough for all that is to be sent at
            // once.
            send_buffer::limit_unacknowledged(&self.socket, None);
        }
        sys::unacknowledged(&self.socket).is_ok_and(|held| delivery.end_period(held, period_ns))
    }

    /// Since when the client has accepted nothing of a batch that is being written.
    pub fn stalled_since_ns(&self) -> Option<u64> {
        let delivery = self.delivery.as_ref().filter(|_| self.is_writing());
        delivery.map(|delivery| delivery.progress_ns())
    }

    /// Handles a full socket, when `left` bytes of the batch were left. If it has been full before, the client has
    /// accepted something since: then the kernel may hold more for it.
    #[cold]
    pub(super) fn block(&mut self, left: usize, context: &WorkerContext) {
        match &mut self.delivery {
            None => self.delivery = Some(Box::new(Delivery::new(context.clock.now_ns()))),
            Some(delivery) => {
                if delivery.claim(left, &context.send_budget) {
                    send_buffer::enlarge_send_buffer(&self.socket);
                }
            }
        }
    }

    /// Ends the delivery of a batch. What the kernel still holds gets the usual time from now on.
    #[cold]
    pub(super) fn end_delivery(&mut self, unacknowledged: Duration) {
        let Some(mut delivery) = self.delivery.take() else { return };
        if delivery.release() {
            send_buffer::restore_send_buffer(&self.socket);
        }
        if !delivery.elapsed().is_zero() {
            let limit = unacknowledged + delivery.elapsed();
            send_buffer::limit_unacknowledged(&self.socket, Some(limit));
        }
    }
}
