//! fibsrv: the nth Fibonacci number over HTTP/1.1.

pub mod conn;
pub mod http;
pub mod route;
