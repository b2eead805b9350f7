//! Why metrics cannot be shared.

use std::{error::Error, fmt, io};

/// Why shared memory, or a slot in it, cannot be used.
#[derive(Debug)]
pub enum SharedMemoryError {
    /// A system call failed.
    System(io::Error),
    /// The descriptor is not a file in memory of this user.
    File,
    /// The memory could shrink, and the next access would end the process.
    Shrinkable,
    /// The memory has another size, in bytes.
    Size(u64),
    /// The header is not that of this program, or of another version of the layout.
    Layout,
    /// The limit of file sizes is too small.
    FileSizeLimit,
    /// No slot is free.
    Full,
    /// Another process has not finished joining in time.
    Busy,
}

impl fmt::Display for SharedMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(f, "shared metrics: {error}"),
            Self::File => f.write_str("shared metrics: not a file in memory of this user"),
            Self::Shrinkable => f.write_str("shared metrics: the memory is not sealed"),
            Self::Size(bytes) => write!(f, "shared metrics: unexpected size of {bytes} bytes"),
            Self::Layout => f.write_str("shared metrics: unknown layout"),
            Self::FileSizeLimit => f.write_str("shared metrics: the file size limit is too small"),
            Self::Full => f.write_str("shared metrics: all slots are in use"),
            Self::Busy => f.write_str("shared metrics: another process does not finish joining"),
        }
    }
}

impl Error for SharedMemoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::System(error) = self { Some(error) } else { None }
    }
}

impl From<io::Error> for SharedMemoryError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<rustix::io::Errno> for SharedMemoryError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}
