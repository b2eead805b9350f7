//! The request that most clients send, and a check of its reply.

use super::parser::{ReplyRef, ReplyTo};

pub(crate) const GET_F20: &[u8] = b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\n\r\n";
pub(crate) const F20: &[u8] = b"6765";

/// Removes the reply to [`GET_F20`] from the received bytes. Returns none if it is incomplete, else whether
/// it is correct.
pub(crate) fn take_f20(received: &mut Vec<u8>) -> Option<bool> {
    match ReplyRef::parse(received, ReplyTo::Other) {
        Ok(None) => None,
        Ok(Some(reply)) => {
            let is_correct = reply.status == 200 && reply.body == F20;
            let length = reply.length;
            received.drain(..length);
            Some(is_correct)
        }
        Err(_) => {
            received.clear();
            Some(false)
        }
    }
}
