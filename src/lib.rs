//! fibsrv: the nth Fibonacci number over HTTP/1.1, from a single-threaded event loop.
//!
//! Data flows one way: bytes → request → route → response → bytes. The modules, from the pure core to the shell:
//!
//! - [`fibonacci`]: the numbers: the table, computation in decimal, verification, the cache.
//! - [`http`]: the protocol on bytes: request heads and bodies, responses, and [`http::conn`], one connection as a
//!   state machine.
//! - [`metrics`]: counters, and their text exposition.
//! - [`app`]: routes and responses.
//! - [`server`]: the event loop of a worker: sockets, deadlines, graceful shutdown, the compute thread.
//! - [`logging`]: process events, and the access log.
//! - [`group`]: the processes that share a port. [`supervisor`]: a parent with several workers.
//! - [`notify`]: readiness and heartbeats, to systemd or to the supervisor.
//! - [`config`]: flags and environment. [`start`] builds a worker or a supervisor from them and runs it.
//! - [`health`]: the client behind `fibsrv health`.
//! - [`sys`]: what needs `unsafe` or a system call without a wrapper in std.
//!
//! ARCHITECTURE.md has the layers, the limits and the core path in reading order.

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
