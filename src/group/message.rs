//! The messages between the processes of a group, as bytes.
//!
//! Does no I/O: of descriptors it has only the number.

use std::fmt;

use crate::group::Sharing;

/// Maximum length of a message in bytes.
pub const LENGTH_MAX: usize = 64;

/// First bytes of each message.
const MAGIC: [u8; 2] = *b"fg";
/// Version of the protocol. Processes of different versions ignore each other, and lose connections when they replace
/// each other. So prefer a new kind of message, which older versions skip.
const VERSION: u8 = 2;
const HEADER: usize = 4;
/// Length of the version in [`Hello`]. A longer one is truncated.
const VERSION_TEXT_MAX: usize = 24;

/// What a process sends about itself on a new link, and again when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The ID in its names: the time at which it began to join.
    pub id: u64,
    /// Its process ID in its own PID namespace.
    pub pid: u32,
    /// Identity of the memory that it counts in, or 0 while it joins.
    pub memory: u64,
    /// Its version.
    pub version: VersionText,
}

/// A version as text of bounded length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionText([u8; VERSION_TEXT_MAX]);

impl VersionText {
    /// Creates a version from the first bytes of `text`.
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

/// Why a supervisor stops a worker. A later one takes precedence over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Workers of another version have replaced it. The service goes on, so readiness does not fail.
    Replaced,
    /// The supervisor stops gracefully, or has exited.
    Graceful,
    /// The same, from a terminal: times are short.
    Interactive,
    /// The worker exits at once.
    Immediate,
}

impl Stop {
    const ALL: [Self; 4] = [Self::Replaced, Self::Graceful, Self::Interactive, Self::Immediate];
}

/// A message. A message about a listener carries its descriptor, which identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The identity of the sender. The first one is a request for the list of listeners.
    Hello(Hello),
    /// The memory that the sender counts in, or offers while it joins.
    Memory,
    /// A listener that the sender owns.
    Own,
    /// A listener that has no owner, as far as the sender knows.
    Held,
    /// A listener that a third process owns. That process may be stopped, and unable to send it.
    Foreign,
    /// The list is complete.
    End,
    /// From a supervisor to its workers: whether metrics are shared with all processes on the port.
    Sharing(Sharing),
    /// From a supervisor to a worker: a request to stop.
    Stop(Stop),
    /// A message of a later version.
    Unknown,
}

impl Message {
    /// Returns the number of descriptors sent with the message.
    pub const fn descriptors(self) -> usize {
        match self {
            Self::Memory | Self::Own | Self::Held | Self::Foreign => 1,
            Self::Hello(_) | Self::End | Self::Sharing(_) | Self::Stop(_) | Self::Unknown => 0,
        }
    }

    /// Returns the bytes of the message.
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
            Self::Stop(stop) => (7, vec![stop as u8]),
            Self::Foreign => (8, Vec::new()),
            Self::Unknown => (0, Vec::new()),
        };
        let [first, second] = MAGIC;
        let mut bytes = vec![first, second, VERSION, kind];
        bytes.extend(body);
        bytes
    }

    /// Decodes a message that was received with this number of descriptors.
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
            (7, &[stop]) => {
                Self::Stop(*Stop::ALL.get(usize::from(stop)).ok_or(Violation::Garbage)?)
            }
            (8, []) => Self::Foreign,
            (0 | 2..=8, _) => return Err(Violation::Garbage),
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

/// Why a message is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The bytes are no message.
    Garbage,
    /// The message has another version of the protocol.
    Version(u8),
    /// The number of descriptors is wrong, or this process is out of descriptors.
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

    fn all() -> [Message; 12] {
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
            Message::Foreign,
            Message::Stop(Stop::Replaced),
            Message::Stop(Stop::Graceful),
            Message::Stop(Stop::Interactive),
            Message::Stop(Stop::Immediate),
        ]
    }

    #[test]
    fn messages_round_trip_and_other_lengths_are_rejected() {
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
    fn another_version_is_rejected_and_an_unknown_kind_is_ignored() {
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
        fn decoded_messages_encode_to_the_same_bytes(
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
