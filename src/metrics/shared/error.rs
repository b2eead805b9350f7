//! Why there is no region to be had.

use std::{error::Error, fmt, io};

/// Why a region cannot be had, or a slot in it.
#[derive(Debug)]
pub enum SharedMemoryError {
    /// The system refused something.
    System(io::Error),
    /// The directory belongs to somebody else, or others can write to it.
    Directory,
    /// This is no region: it is not a plain file of this user that others cannot change.
    File,
    /// It could be cut off under our feet, and the next access would end the process.
    Shrinkable,
    /// It is smaller or larger than a region, by its size in bytes.
    Size(u64),
    /// It has not been made by this program, or by a version that lays it out in another way.
    Layout,
    /// The limit of file sizes is smaller than a region.
    FileSizeLimit,
    /// All slots have an owner.
    Full,
    /// Somebody else does not get done with entering or leaving it.
    Busy,
}

impl fmt::Display for SharedMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(f, "shared metrics: {error}"),
            Self::Directory => {
                f.write_str("the directory of shared metrics is not this user's alone")
            }
            Self::File => f.write_str("shared metrics are not in a file of this user alone"),
            Self::Shrinkable => f.write_str("shared metrics could be cut off: they are not sealed"),
            Self::Size(bytes) => write!(f, "shared metrics are not {bytes} bytes long"),
            Self::Layout => f.write_str("shared metrics are laid out in an unknown way"),
            Self::FileSizeLimit => f.write_str("shared metrics are beyond the limit of file sizes"),
            Self::Full => f.write_str("all slots of the shared metrics are taken"),
            Self::Busy => f.write_str("shared metrics are held up by another process"),
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
