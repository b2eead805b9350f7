//! fibsrv: the nth Fibonacci number over HTTP/1.1, from a single-threaded event loop.
//!
//! The modules in reading order, which is the way of a request through the program:
//!
//! 1. [`config`]: what the program is told to do. [`logging`] starts the logger, [`worker`] makes the parts
//!    and runs them.
//! 2. [`server`]: the event loop. [`doors`], [`signals`] and [`clock`] are its senses, [`peers`] and
//!    [`timers`] its memory, [`descriptors`] its bounds, [`drain`] how it ends. [`group`] has the
//!    [`listener`]s of all processes on a port, and says from which of them to accept.
//!    [`overseer`] is told how it fares: a [`supervisor`], or whoever speaks the protocol of [`systemd`].
//! 3. [`peer`]: one socket, and one turn of it.
//! 4. [`conn`]: one connection as a state machine on bytes; [`http`] has the grammar it follows.
//! 5. [`route`], [`app`]: from a request to an answer; [`fibonacci`] has the numbers, [`compute`] is where
//!    the large ones are computed.
//! 6. [`metrics`]: what is counted, and how it is told; [`process`] adds what the kernel counts.
//!    [`access_log`] has a line for each answer.
//! 7. [`health`]: no part of the server, but a client that asks one whether it is ready.
//!
//! ARCHITECTURE.md says which of them may use which, and why.

pub mod app;
pub mod config;
pub mod fibonacci;
pub mod group;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod server;
pub mod start;
pub mod supervisor;
pub mod sys;
