//! What the processes of a group say to each other, as bytes.
//!
//! Pure: no socket and no descriptor, only how many came along.

use std::fmt;

/// Bytes of a message. All have the same length, so that one that has another is not ours.
pub const LENGTH: usize = 4;

/// First bytes of each message.
const MAGIC: [u8; 2] = *b"fg";
/// Version of the protocol. Processes of different versions leave each other alone, so that an upgrade
/// across versions loses connections: a new kind of message, which older processes pass over, is better.
const VERSION: u8 = 1;

/// A message. Those about a listener carry its descriptor, which says which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for all listeners. The answer ends with [`Message::End`].
    Hello,
    /// Asks for the region, if there is one. The answer is [`Message::SharedMemory`] or nothing.
    AskRegion,
    /// The region.
    SharedMemory,
    /// From now on, or as ever, the sender alone accepts from this listener.
    Mine,
    /// The sender knows of nobody whose business this listener is: all accept from it.
    Orphan,
    /// This listener is another's, as far as the sender knows, who will tell when that changes.
    Held,
    /// The sender does not accept from its listeners any more. It is about to leave.
    Released,
    /// The answer to [`Message::Hello`] is complete.
    End,
    /// Something that a later version says.
    Unknown,
}

impl Message {
    /// How many descriptors go with it.
    pub const fn descriptors(self) -> usize {
        match self {
            Self::SharedMemory | Self::Mine | Self::Orphan | Self::Held => 1,
            Self::Hello | Self::AskRegion | Self::Released | Self::End | Self::Unknown => 0,
        }
    }

    /// The bytes that say it.
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

    /// What these bytes say, that came with so many descriptors.
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

/// Why what a process says is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It is not in our language.
    Garbage,
    /// It is in another version of it.
    Version(u8),
    /// Not as many descriptors came along as should have. Also if this process has no room for them.
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
    fn messages_come_back_and_their_pieces_do_not() {
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
    fn another_version_is_told_and_a_new_kind_is_passed_over() {
        assert_eq!(Message::decode(b"fg\x02\x01", 0), Err(Violation::Version(2)));
        for descriptors in 0..2 {
            assert_eq!(Message::decode(b"fg\x01\xff", descriptors), Ok(Message::Unknown));
        }
    }

    proptest! {
        #[test]
        fn bytes_mean_one_message_or_nothing(
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
