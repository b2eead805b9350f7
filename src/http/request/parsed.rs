//! A request, as [`super::head`] parses it and [`super::head_cache`] keeps it.

use crate::http::{
    Method,
    request::{
        body::Framing,
        headers::{Expectation, Persistence, Version},
        preferences::Preferences,
        target::Target,
    },
};

/// A request as far as the server needs it. It borrows nothing: it refers to the text of the head by offsets, so
/// that the buffer stays usable while the response is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The request target, as offsets into the head.
    pub target: Target,
    /// The protocol version of the client.
    pub version: Version,
    /// Whether the connection stays open after the response.
    pub persistence: Persistence,
    /// How the body is delimited.
    pub framing: Framing,
    /// What the client waits for before it sends the body.
    pub expectation: Expectation,
    /// What the response may depend on beside the target.
    pub preferences: Preferences,
    /// Length of the head in bytes, the empty line included.
    pub head_bytes: usize,
    /// Length of the body in bytes on the wire: zero until it has been discarded.
    pub body_bytes: u64,
}
