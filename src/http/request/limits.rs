//! The limits on a request, with the status of the response to a request that exceeds one.

/// Maximum of `--max-fields`.
pub const FIELDS_MAX: usize = 128;

/// Limits on the requests of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum head size in bytes, with empty lines before it and the empty line at its end; beyond it 431.
    pub head_bytes: usize,
    /// Maximum size of the request target in bytes; beyond it 414.
    pub target_bytes: usize,
    /// Maximum number of field lines, at most [`FIELDS_MAX`]; beyond it 431.
    pub fields: usize,
    /// Maximum size of the content in bytes; beyond it 413.
    pub body_bytes: u64,
    /// Maximum number of responses in a batch; further pipelined requests wait for the next one.
    pub pipelined: u32,
}

impl Limits {
    /// The limits if no flag is given.
    pub const DEFAULT: Self = Self {
        head_bytes: 16 * 1024,
        target_bytes: 8 * 1024,
        fields: 64,
        body_bytes: 1024 * 1024,
        pipelined: 32,
    };
}
