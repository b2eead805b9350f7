//! Addresses as typed: `3000`, `:3000`, `127.0.0.1:3000`, `[::1]:3000` or `localhost:3000`.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    str::FromStr,
};

/// The address of a server. A host name is resolved when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAddress {
    Numeric(SocketAddr),
    Named { host: String, port: u16 },
}

impl ServerAddress {
    pub(super) const fn port(&self) -> u16 {
        match self {
            Self::Numeric(address) => address.port(),
            Self::Named { port, .. } => *port,
        }
    }

    /// Returns the addresses to listen on: one, or all of this host that the name resolves to.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        match self {
            Self::Numeric(address) => Ok(vec![*address]),
            Self::Named { host, port } => resolve(host, *port),
        }
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numeric(address) => address.fmt(f),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Numeric(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| "expected PORT, :PORT or HOST:PORT".to_owned())?;
        if host.is_empty() {
            return Ok(Self::Numeric((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        if host.contains(':') {
            return Err("expected brackets around an IPv6 address, as in [::1]:3000".to_owned());
        }
        Ok(Self::Named { host: host.to_owned(), port })
    }
}

/// Resolves a host name. Addresses of families that this host does not have, such as `::1` in a container without
/// IPv6, are left out.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let resolved = (host, port).to_socket_addrs();
    let resolved = resolved.map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut addresses: Vec<SocketAddr> = resolved.filter(|address| is_local(*address)).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!("{host} has no address on this host"));
    }
    Ok(addresses)
}

/// Returns whether a socket can be bound to the address, without regard to its port.
fn is_local(address: SocketAddr) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    match UdpSocket::bind((address.ip(), 0)) {
        Ok(_) => true,
        Err(error) => {
            error.kind() != io::ErrorKind::AddrNotAvailable
                && error.raw_os_error() != Some(EAFNOSUPPORT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_the_wildcard_address() {
        for text in ["3000", ":3000", "[::]:3000"] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.resolve(), Ok(vec!["[::]:3000".parse().unwrap()]), "{text}");
        }
    }

    #[test]
    fn a_host_name_is_resolved_to_addresses_of_this_host() {
        let found = "localhost:3000".parse::<ServerAddress>().unwrap().resolve().unwrap();
        assert!(found.contains(&"127.0.0.1:3000".parse().unwrap()), "{found:?}");
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        let named = ServerAddress::Named { host: "fib.example".to_owned(), port: 80 };
        assert_eq!("fib.example:80".parse(), Ok(named.clone()));
        assert_eq!((named.to_string(), named.port()), ("fib.example:80".to_owned(), 80));
    }

    #[test]
    fn anything_else_is_an_error_that_says_what_is_expected() {
        for text in ["", ":", "here", "127.0.0.1", "localhost:", "localhost:http", "1.2.3.4:65536"]
        {
            let error = text.parse::<ServerAddress>().unwrap_err();
            assert_eq!(error, "expected PORT, :PORT or HOST:PORT", "{text}");
        }
        assert!("::1:3000".parse::<ServerAddress>().unwrap_err().contains("brackets"));
        let unknown: ServerAddress = "name.invalid:1".parse().unwrap();
        let error = unknown.resolve().unwrap_err();
        assert!(error.starts_with("cannot resolve name.invalid: "), "{error}");
    }

    #[test]
    fn addresses_of_other_hosts_are_not_local() {
        assert!(is_local("127.0.0.1:1".parse().unwrap()));
        assert!(!is_local("192.0.2.1:1".parse().unwrap()));
    }
}
