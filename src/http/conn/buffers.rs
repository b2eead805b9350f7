//! Buffers that go from one connection to the next, so that an idle one holds none.
//!
//! Where a connection keeps something beyond its turn (a piece of a head, what the peer has not taken yet),
//! it keeps it in a buffer of just that size.

/// An inbox and an outbox for the connection whose turn it is.
#[derive(Debug, Default)]
pub struct Buffers {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Buffers {
    /// Lends those buffers that the connection has not kept.
    pub(super) const fn lend(&mut self, inbox: &mut Vec<u8>, outbox: &mut Vec<u8>) {
        if inbox.capacity() == 0 {
            core::mem::swap(inbox, &mut self.inbox);
        }
        if outbox.capacity() == 0 {
            core::mem::swap(outbox, &mut self.outbox);
        }
    }

    /// Takes back what was lent. Of each buffer the first bytes, as many as given, have been used.
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
    let kept = buffer.get(used..).unwrap_or_default();
    let is_lent = spare.capacity() == 0;
    if is_lent {
        let kept = kept.to_vec(); // allocates only if there is something to keep
        buffer.clear();
        core::mem::swap(buffer, spare);
        *buffer = kept;
    } else if kept.is_empty() {
        *buffer = Vec::new();
    } else {
        buffer.drain(..used);
    }
}
