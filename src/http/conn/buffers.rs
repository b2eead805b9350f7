//! Buffers that connections share, so that an idle connection holds none.
//!
//! A connection borrows them for a turn. Bytes that outlive the turn (part of a head, responses that the client
//! has not read yet) are copied into a buffer of exactly their size.

/// An inbox and an outbox for the connection that runs.
#[derive(Debug, Default)]
pub struct Buffers {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Buffers {
    /// Lends each buffer that the connection does not have already.
    pub(super) const fn lend(&mut self, inbox: &mut Vec<u8>, outbox: &mut Vec<u8>) {
        if inbox.capacity() == 0 {
            core::mem::swap(inbox, &mut self.inbox);
        }
        if outbox.capacity() == 0 {
            core::mem::swap(outbox, &mut self.outbox);
        }
    }

    /// Takes back the lent buffers. The number beside each buffer is how many bytes at its front are consumed.
    pub(super) fn take_back(
        &mut self,
        (inbox, inbox_used): (&mut Vec<u8>, usize),
        (outbox, outbox_used): (&mut Vec<u8>, usize),
    ) {
        take_back(inbox, inbox_used, &mut self.inbox);
        take_back(outbox, outbox_used, &mut self.outbox);
    }
}

fn take_back(buffer: &mut Vec<u8>, used: usize, spare: &mut Vec<u8>) {
    let rest = buffer.get(used..).unwrap_or_default();
    let is_lent = spare.capacity() == 0;
    if is_lent {
        let rest = rest.to_vec(); // allocates only if there is a rest
        buffer.clear();
        core::mem::swap(buffer, spare);
        *buffer = rest;
    } else if rest.is_empty() {
        *buffer = Vec::new();
    } else {
        buffer.drain(..used);
    }
}
