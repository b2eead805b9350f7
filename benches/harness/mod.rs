//! Shared by the measuring programs: command line, server under test, replies, tables.

pub(crate) mod args; // options and names of scenarios
pub(crate) mod f20; // the request that most clients send, and a check of its reply
pub(crate) mod program; // runs scenarios by name
pub(crate) mod report; // figures and tables
pub(crate) mod server; // starts, measures and stops a server

#[path = "../../tests/kit/launcher.rs"]
pub(crate) mod launcher;
#[path = "../../tests/kit/parser.rs"]
pub(crate) mod parser;
#[path = "../../tests/kit/process.rs"]
pub(crate) mod process;
#[path = "../../tests/kit/rng.rs"]
pub(crate) mod rng;
