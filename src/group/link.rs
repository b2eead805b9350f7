//! The connection to another process of the group. It carries messages with descriptors.
//!
//! No operation blocks. A received message is measured and decoded before it is used.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use crate::group::message::{LENGTH_MAX, Message, Violation};

/// A connected socket that preserves message boundaries.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
}

/// Result of a read.
#[derive(Debug)]
pub(super) enum Received {
    /// A message, and its descriptor if it has one.
    Message(Message, Option<OwnedFd>),
    /// No message now. The poll reports the next one.
    Nothing,
    /// The other process closed the link, and all of its messages have been read.
    Closed,
    /// An invalid message.
    Violation(Violation),
}

impl Link {
    /// Creates a link over a connected, non-blocking socket.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Returns the socket, to wait for readiness.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a message, with a descriptor if it has one. An error means that the other process has exited or
    /// does not read: the only queue is that of the kernel.
    pub(super) fn send(
        &self,
        message: Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = message.encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// Receives the next message.
    pub(super) fn receive(&self) -> Received {
        match self.receive_once() {
            // Reported once if the other process closed the link with unread messages. The messages that it
            // sent before are still queued.
            Err(Errno::CONNRESET | Errno::INTR) => self.receive_once(),
            outcome => outcome,
        }
        .unwrap_or_else(|error| match error {
            Errno::AGAIN | Errno::INTR => Received::Nothing,
            _ => Received::Closed,
        })
    }

    fn receive_once(&self) -> Result<Received, Errno> {
        // One more byte, to detect messages that are too long.
        let mut bytes = [0; LENGTH_MAX + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.socket, &mut parts, &mut control, flags)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Ok(Received::Closed);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel has closed the descriptors for which there was no room.
            return Ok(Received::Violation(Violation::Descriptors(descriptors.len())));
        }
        let bytes = bytes.get(..received.bytes).unwrap_or_default();
        Ok(match Message::decode(bytes, descriptors.len()) {
            Ok(message) => Received::Message(message, descriptors.pop()),
            Err(violation) => Received::Violation(violation),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use rustix::net::{AddressFamily, SocketFlags, SocketType, send, socketpair};

    use super::*;
    use crate::group::Sharing;

    fn pair() -> (Link, Link) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Link::new(pair.0), Link::new(pair.1))
    }

    fn send_raw(link: &Link, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let parts = [IoSlice::new(bytes)];
        sendmsg(&link.socket, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (a, b) = pair();
        let file = fs::File::open("/dev/null").unwrap();
        a.send(Message::Own, Some(file.as_fd())).unwrap();
        a.send(Message::End, None).unwrap();
        let Received::Message(Message::Own, Some(copy)) = b.receive() else { panic!() };
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        let inode = |file: &fs::File| file.metadata().unwrap().ino();
        assert_eq!(inode(&copy.into()), inode(&file));
        assert!(matches!(b.receive(), Received::Message(Message::End, None)));
        assert!(matches!(b.receive(), Received::Nothing));
    }

    #[test]
    fn messages_sent_before_the_link_was_closed_are_received() {
        let (a, b) = pair();
        b.send(Message::End, None).unwrap(); // never read, so closing resets the link
        a.send(Message::Sharing(Sharing::Complete), None).unwrap();
        a.send(Message::End, None).unwrap();
        drop(a);
        b.send(Message::End, None).unwrap_err();
        assert!(matches!(
            b.receive(),
            Received::Message(Message::Sharing(Sharing::Complete), None)
        ));
        assert!(matches!(b.receive(), Received::Message(Message::End, None)));
        assert!(matches!(b.receive(), Received::Closed));
    }

    #[test]
    fn invalid_messages_are_rejected_and_leak_no_descriptor() {
        let (a, b) = pair();
        let file = fs::File::open("/dev/null").unwrap();
        let descriptors = [file.as_fd(); 200];
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let check = |bytes: &[u8], count: usize| {
            send_raw(&a, bytes, &descriptors[..count]);
            let received = b.receive();
            assert!(matches!(received, Received::Violation(_)), "{bytes:?} {count}: {received:?}");
        };
        let before = open();
        check(b"garbage", 0);
        check(&vec![0; 70_000], 1);
        check(&Message::Own.encode(), 0);
        for count in [2, 3, 4, 200] {
            check(&Message::Own.encode(), count);
        }
        check(&Message::End.encode(), 1);
        // Other tests of this process open and close a few files as well.
        assert!(open() < before + 100, "descriptors leaked");
        send(&a.socket, &[], SendFlags::empty()).unwrap();
        assert!(matches!(b.receive(), Received::Closed), "an empty message looks like the end");
    }

    #[test]
    fn sending_to_a_process_that_does_not_read_does_not_block() {
        let (a, _b) = pair();
        let sent = (0..100_000).take_while(|_| a.send(Message::End, None).is_ok()).count();
        assert!((64..100_000).contains(&sent), "{sent}");
    }
}
