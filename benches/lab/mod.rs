//! What the measuring programs have in common: how they are called, the servers they start, how answers
//! are read back and figures printed.

pub(crate) mod dice;
pub(crate) mod program;
pub(crate) mod reply;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod words;
