//! Limits on a request, each with the status that a request beyond it gets.

/// Most field lines that any configuration may allow.
pub const FIELDS_MAX: usize = 128;

/// Bounds on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, from the first byte to the empty line; beyond it 431.
    pub head_bytes: usize,
    /// Bytes of the request target; beyond it 414.
    pub target_bytes: usize,
    /// Field lines, at most [`FIELDS_MAX`]; beyond it 431.
    pub fields: usize,
    /// Bytes of content; beyond it 413.
    pub body_bytes: u64,
    /// Requests of one connection that are answered before others have their turn; beyond it they wait.
    pub pipelined: u32,
}

impl Limits {
    /// The limits if no flag is given.
    pub const DEFAULT: Self = Self {
        head_bytes: 8 * 1024,
        target_bytes: 4 * 1024,
        fields: 64,
        body_bytes: 1024 * 1024,
        pipelined: 32,
    };
}
