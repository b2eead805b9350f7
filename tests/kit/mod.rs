//! Shared support for tests and benchmarks.
//!
//! `parser`, `rng`, `process` and `launcher` return errors and are used by the benchmarks as well, which
//! include them one by one; `reply`, `client` and `server` panic, as a test does that cannot continue.

pub(crate) mod client; // sends requests and reads replies
pub(crate) mod launcher; // starts a server and waits until it listens
pub(crate) mod parser; // a strict parser of responses
pub(crate) mod process; // signals, and what /proc says about a process
pub(crate) mod reply; // a response that owns its text
pub(crate) mod rng; // random numbers that can be repeated
pub(crate) mod server; // a server under test

pub(crate) use self::{
    client::{Client, is_reset, request},
    reply::Reply,
    server::{ANSWERED, PATIENCE, Server, command, counted, eventually, halt, signal},
};
