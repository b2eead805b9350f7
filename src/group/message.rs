//! The messages between the processes of a group, as bytes.
//!
//! Pure: it uses no sockets and no descriptors, only the number of descriptors received.

use std::fmt;

/// Length of a message in bytes. All messages have the same length, so one of another length is invalid.
pub const LENGTH: usize = 4;

/// First bytes of each message.
const MAGIC: [u8; 2] = *b"fg";
/// Version of the protocol. Processes of different versions do not cooperate, so an upgrade across versions
/// loses connections. A new kind of message is better, as older processes ignore it.
const VERSION: u8 = 1;

/// A message. A message about a listener carries its descriptor, which identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Requests all listeners. The response ends with [`Message::End`].
    Hello,
    /// Requests the shared memory region. The response is [`Message::SharedMemory`], or none if there is no
    /// region.
    AskRegion,
    /// The shared memory region.
    SharedMemory,
    /// The sender owns this listener: from now on, or as before, only the sender accepts from it.
    Mine,
    /// The sender knows no owner of this listener: all processes accept from it.
    Orphan,
    /// As far as the sender knows, another process owns this listener. The sender reports when that changes.
    Held,
    /// The sender no longer accepts from its listeners. It is about to leave.
    Released,
    /// The response to [`Message::Hello`] is complete.
    End,
    /// A kind of message that this version does not know. It is ignored.
    Unknown,
}

impl Message {
    /// Returns the number of descriptors sent with the message.
    pub const fn descriptors(self) -> usize {
        match self {
            Self::SharedMemory | Self::Mine | Self::Orphan | Self::Held => 1,
            Self::Hello | Self::AskRegion | Self::Released | Self::End | Self::Unknown => 0,
        }
    }

    /// Encodes the message.
    pub const fn encode(self) -> [u8; LENGTH] {
        let kind = match self {
            Self::Hello => 1,
            Self::AskRegion => 2,
            Self::SharedMemory => 3,
            Self::Mine => 4,
            Self::Orphan => 5,
            Self::Released => 6,
            Self::End => 7,
            Self::Held => 8,
            Self::Unknown => 0,
        };
        let [first, second] = MAGIC;
        [first, second, VERSION, kind]
    }

    /// Decodes a message that was received with this number of descriptors.
    pub fn decode(bytes: &[u8], descriptors: usize) -> Result<Self, Violation> {
        let &[first, second, version, kind] = bytes else { return Err(Violation::Garbage) };
        if [first, second] != MAGIC {
            return Err(Violation::Garbage);
        }
        if version != VERSION {
            return Err(Violation::Version(version));
        }
        let message = match kind {
            1 => Self::Hello,
            2 => Self::AskRegion,
            3 => Self::SharedMemory,
            4 => Self::Mine,
            5 => Self::Orphan,
            6 => Self::Released,
            7 => Self::End,
            8 => Self::Held,
            _ => Self::Unknown,
        };
        if message != Self::Unknown && descriptors != message.descriptors() {
            return Err(Violation::Descriptors(descriptors));
        }
        Ok(message)
    }
}

/// Why a received message is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It is not a message of this protocol.
    Garbage,
    /// It has another version of the protocol.
    Version(u8),
    /// It came with the wrong number of descriptors. Also occurs if this process has no room for them.
    Descriptors(usize),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage => f.write_str("something that is no message"),
            Self::Version(version) => write!(f, "version {version}, which is not {VERSION}"),
            Self::Descriptors(count) => write!(f, "a message with {count} descriptors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Message; 8] = [
        Message::Hello,
        Message::AskRegion,
        Message::SharedMemory,
        Message::Mine,
        Message::Orphan,
        Message::Held,
        Message::Released,
        Message::End,
    ];

    #[test]
    fn messages_round_trip_and_other_lengths_are_rejected() {
        for message in ALL {
            let (bytes, count) = (message.encode(), message.descriptors());
            assert_eq!(Message::decode(&bytes, count), Ok(message));
            for length in 0..LENGTH {
                assert_eq!(Message::decode(&bytes[..length], count), Err(Violation::Garbage));
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Message::decode(&longer, count), Err(Violation::Garbage));
            for others in (0..4).filter(|others| *others != count) {
                let outcome = Message::decode(&bytes, others);
                assert_eq!(outcome, Err(Violation::Descriptors(others)));
            }
        }
    }

    #[test]
    fn another_version_is_reported_and_an_unknown_kind_is_ignored() {
        assert_eq!(Message::decode(b"fg\x02\x01", 0), Err(Violation::Version(2)));
        for descriptors in 0..2 {
            assert_eq!(Message::decode(b"fg\x01\xff", descriptors), Ok(Message::Unknown));
        }
    }

    proptest! {
        #[test]
        fn decoded_messages_encode_to_the_same_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..8),
            descriptors in 0_usize..4,
        ) {
            match Message::decode(&bytes, descriptors) {
                Ok(Message::Unknown) => prop_assert_eq!(&bytes[..3], b"fg\x01"),
                Ok(message) => prop_assert_eq!(&bytes[..], message.encode()),
                Err(_) => {}
            }
        }
    }
}
