//! Behaviour of the real executable over real sockets, on loopback and on ports the kernel chooses.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test that cannot go on has failed, and counters are whole numbers"
)]

mod support; // starts servers, speaks HTTP to them, and ends them
mod watch; // watches a server while it is attacked

mod api; // what each route answers
mod closing; // how connections end: no answer is lost to a reset
mod drain; // being told to stop
mod greedy; // clients that take more than their share, or less than they asked for
mod group; // several processes on a port: what one leaves, another takes
mod limits; // what happens when connections, descriptors or time run out
mod logs; // a log that cannot be written
mod metrics; // what /metrics tells, read by a parser that is not ours
mod numbers; // numbers beyond the table
mod process; // start, errors at start, signals, several processes on a port
mod protocol; // HTTP as seen from outside: pipelining, splits, closing
mod rude; // clients that send rubbish or do not listen
mod runtime_dir; // metrics shared by a file, or not at all
mod slow; // clients that take their time
mod supervisor; // several workers
mod systemd; // as a service: sockets that were passed, and what is told about how it fares
mod vanishing; // clients that go away at any moment
