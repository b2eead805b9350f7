//! A client address as it appears in the access log.

use core::net::SocketAddr;

/// A client address, formatted once per connection.
#[derive(Debug)]
pub struct ClientAddress {
    pub(super) ip: String,
    pub(super) port: u16,
}

impl ClientAddress {
    /// Formats an address. IPv4-mapped IPv6 addresses are shown as IPv4.
    pub fn of(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical().to_string(), port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, ip) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            ("[fe80::1%7]:80", "fe80::1"),
        ] {
            let address = ClientAddress::of(address.parse().unwrap());
            assert_eq!((address.ip.as_str(), address.port), (ip, 80));
        }
    }
}
