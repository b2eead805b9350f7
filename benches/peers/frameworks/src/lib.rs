//! What the servers have in common: the port and the numbers.

use std::{env, net::TcpListener};

use ibig::UBig;

/// The media type of a number.
pub const TEXT: &str = "text/plain; charset=utf-8";

const FIBONACCI: &str = "/api/fibonacci/";

/// Listens on the port of the first argument.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port())).expect("a free port");
    listener.set_nonblocking(true).expect("a socket that does not block");
    listener
}

/// The port of the first argument.
pub fn port() -> u16 {
    env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port as the only argument")
}

/// The digits of F(0) to F(10,000), for the rest of the process.
pub fn numbers() -> &'static [String] {
    let mut numbers = Vec::new();
    let (mut current, mut next) = (UBig::from(0_u8), UBig::from(1_u8));
    for _ in 0..=10_000 {
        numbers.push(current.to_string());
        current += &next;
        std::mem::swap(&mut current, &mut next);
    }
    numbers.leak()
}

/// The digits that a path names.
pub fn digits(numbers: &'static [String], path: &str) -> Option<&'static str> {
    let n: usize = path.strip_prefix(FIBONACCI)?.parse().ok()?;
    numbers.get(n).map(String::as_str)
}
