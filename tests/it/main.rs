//! Behaviour of the executable over sockets, on loopback and on ports that the kernel chooses.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test that cannot continue has failed, and counters are whole numbers"
)]

#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/mod.rs"]
mod kit; // starts servers, sends requests, reads replies
mod monitor; // measures a server under attack, and a regular client beside it

mod access_log; // one line for each response
mod admin; // metrics and health on an address of their own
mod api; // the response of each route
mod backpressure; // clients that do not read, and clients that pipeline without end
mod closing; // how connections close: no response is lost to a reset
mod disconnects; // clients that close or reset at any byte
mod drain; // graceful shutdown
mod group; // several processes on a port: connections in the accept queue of one that exits
mod joining; // processes that start, or fail to, next to others on the port
mod limits; // what happens when connections, descriptors or time run out
mod logs; // a log that cannot be written
mod malformed; // input that is not HTTP, and clients that ignore an error response
mod metrics; // the samples of /metrics, read by an independent parser
mod numbers; // numbers beyond the table
mod operator; // log formats and streams, environment, --check, Ctrl-C, memory
mod pauses; // the server is stopped, frozen or busy
mod process; // startup, errors at startup, signals, several processes on a port
mod protocol; // HTTP as seen from outside: pipelining, splits, closing
mod slow; // clients that send or read slowly
mod supervisor; // several workers
mod systemd; // as a service: socket activation and notifications
mod upgrade; // a fault at each step of an upgrade, and what an upgrade keeps
