//! The messages between the processes of a group, as bytes.
//!
//! Pure: no socket and no descriptor, only how many of them came along.

use std::fmt;

use crate::group::Sharing;

/// Maximum length of a message in bytes.
pub const LENGTH_MAX: usize = 64;

/// First bytes of each message.
const MAGIC: [u8; 2] = *b"fg";
/// Version of the protocol. Processes of different versions ignore each other, so that an upgrade across versions loses
/// connections: a new kind of message, which older processes skip, is better.
const VERSION: u8 = 2;
const HEADER: usize = 4;
/// Bytes of a version in [`Hello`]; a longer one is cut.
const VERSION_TEXT_MAX: usize = 24;

/// What a process sends about itself: first of all, and again when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The number in its names, which is the time at which it started to join.
    pub id: u64,
    /// Its process id, as it sees it.
    pub pid: u32,
    /// Identifies the memory that it counts in; 0 if it has not decided, or counts in private memory.
    pub memory: u64,
    /// Its version.
    pub version: VersionText,
}

/// A version as text of bounded length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionText([u8; VERSION_TEXT_MAX]);

impl VersionText {
    /// The first bytes of `text`.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; VERSION_TEXT_MAX];
        for (byte, from) in bytes.iter_mut().zip(text.bytes()) {
            *byte = from;
        }
        Self(bytes)
    }
}

impl fmt::Display for VersionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.iter().take_while(|byte| byte.is_ascii_graphic());
        text.map(|byte| char::from(*byte)).try_for_each(|char| write!(f, "{char}"))
    }
}

/// A message. Those about a listener carry its descriptor, which identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who the sender is. The response is the list of its listeners, once.
    Hello(Hello),
    /// The memory that the sender counts in, or would count in if it was the first.
    Memory,
    /// A listener of the sender.
    Own,
    /// A listener that the sender holds and knows no owner of.
    Held,
    /// The list is complete.
    End,
    /// From a supervisor to its workers: whether metrics are shared with all processes on the port.
    Sharing(Sharing),
    /// A message of a later version.
    Unknown,
}

impl Message {
    /// How many descriptors go with it.
    pub const fn descriptors(self) -> usize {
        match self {
            Self::Memory | Self::Own | Self::Held => 1,
            Self::Hello(_) | Self::End | Self::Sharing(_) | Self::Unknown => 0,
        }
    }

    /// The bytes of the message.
    pub fn encode(self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Hello(hello) => {
                let mut body = hello.id.to_be_bytes().to_vec();
                body.extend(hello.pid.to_be_bytes());
                body.extend(hello.memory.to_be_bytes());
                body.extend(hello.version.0);
                (1, body)
            }
            Self::Memory => (2, Vec::new()),
            Self::Own => (3, Vec::new()),
            Self::Held => (4, Vec::new()),
            Self::End => (5, Vec::new()),
            Self::Sharing(sharing) => (6, vec![u8::from(sharing == Sharing::Complete)]),
            Self::Unknown => (0, Vec::new()),
        };
        let [first, second] = MAGIC;
        let mut bytes = vec![first, second, VERSION, kind];
        bytes.extend(body);
        bytes
    }

    /// The message in `bytes`, which came with so many descriptors.
    pub fn decode(bytes: &[u8], descriptors: usize) -> Result<Self, Violation> {
        let Some((&[first, second, version, kind], body)) = bytes.split_first_chunk::<HEADER>()
        else {
            return Err(Violation::Garbage);
        };
        if [first, second] != MAGIC || bytes.len() > LENGTH_MAX {
            return Err(Violation::Garbage);
        }
        if version != VERSION {
            return Err(Violation::Version(version));
        }
        let message = match (kind, body) {
            (1, body) => Self::Hello(decode_hello(body).ok_or(Violation::Garbage)?),
            (2, []) => Self::Memory,
            (3, []) => Self::Own,
            (4, []) => Self::Held,
            (5, []) => Self::End,
            (6, [0]) => Self::Sharing(Sharing::Incomplete),
            (6, [1]) => Self::Sharing(Sharing::Complete),
            (0 | 2..=6, _) => return Err(Violation::Garbage),
            _ => Self::Unknown,
        };
        if message != Self::Unknown && descriptors != message.descriptors() {
            return Err(Violation::Descriptors(descriptors));
        }
        Ok(message)
    }
}

fn decode_hello(body: &[u8]) -> Option<Hello> {
    let (id, body) = body.split_first_chunk()?;
    let (pid, body) = body.split_first_chunk()?;
    let (memory, body) = body.split_first_chunk()?;
    Some(Hello {
        id: u64::from_be_bytes(*id),
        pid: u32::from_be_bytes(*pid),
        memory: u64::from_be_bytes(*memory),
        version: VersionText(body.try_into().ok()?),
    })
}

/// Why the messages of a process are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It is no message.
    Garbage,
    /// It is a message of another version of the protocol.
    Version(u8),
    /// The number of descriptors is wrong. Also if this process has no room for them.
    Descriptors(usize),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage => f.write_str("bytes that are no message"),
            Self::Version(version) => write!(f, "protocol version {version} instead of {VERSION}"),
            Self::Descriptors(count) => write!(f, "a message with {count} descriptors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> [Message; 7] {
        let version = VersionText::new("1.2.3-rc.1+and-so-on-and-so-on");
        let hello = Hello { id: u64::MAX - 1, pid: 4711, memory: 7, version };
        [
            Message::Hello(hello),
            Message::Memory,
            Message::Own,
            Message::Held,
            Message::End,
            Message::Sharing(Sharing::Incomplete),
            Message::Sharing(Sharing::Complete),
        ]
    }

    #[test]
    fn messages_are_decoded_and_parts_of_them_are_not() {
        for message in all() {
            let (bytes, count) = (message.encode(), message.descriptors());
            assert!(bytes.len() < LENGTH_MAX);
            assert_eq!(Message::decode(&bytes, count), Ok(message));
            for length in 0..bytes.len() {
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
    fn another_version_is_rejected_and_a_new_kind_is_skipped() {
        assert_eq!(Message::decode(b"fg\x01\x01", 0), Err(Violation::Version(1)));
        for descriptors in 0..2 {
            assert_eq!(Message::decode(b"fg\x02\xffmore", descriptors), Ok(Message::Unknown));
        }
    }

    #[test]
    fn a_version_is_printable() {
        assert_eq!(VersionText::new("0.1.0").to_string(), "0.1.0");
        assert_eq!(VersionText::new("0.1\n[31m").to_string(), "0.1");
    }

    proptest! {
        #[test]
        fn bytes_are_one_message_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..LENGTH_MAX + 2),
            descriptors in 0_usize..4,
        ) {
            match Message::decode(&bytes, descriptors) {
                Ok(Message::Unknown) => prop_assert_eq!(&bytes[..3], b"fg\x02"),
                Ok(message) => prop_assert_eq!(bytes, message.encode()),
                Err(_) => {}
            }
        }
    }
}
