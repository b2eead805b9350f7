//! What the operating system counts for a process, as plain data.
//!
//! A process can read its own figures only. So each worker records them in its slot, and a scrape adds up what
//! it finds there. CPU time is a counter of the slot, to which each owner adds what it has used since it last
//! recorded it; everything else is a gauge of the owner.

/// The figures of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// CPU time spent so far, user and system, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Maximum number of file descriptors the process may have open.
    pub max_fds: u64,
    /// Size of the address space in bytes.
    pub virtual_memory_bytes: u64,
    /// Memory in RAM in bytes.
    pub resident_memory_bytes: u64,
    /// When the process started, in nanoseconds since 1970-01-01T00:00:00Z.
    pub start_time_ns: u64,
}
