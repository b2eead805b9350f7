//! Which sockets each worker accepts from.

use std::{collections::BTreeMap, io, net::SocketAddr, os::fd::AsFd as _};

use mio::net::TcpListener;

use crate::supervisor::Supervisor;
use crate::sys::listener::adopt;

impl Supervisor<'_> {
    /// Duplicates of the sockets that a worker accepts from: some of each address.
    pub(super) fn sockets_of(&self, place: usize) -> io::Result<Vec<TcpListener>> {
        let mut found = Vec::new();
        for sockets in self.addresses().values() {
            let indices = share(sockets.len(), self.children.len(), place);
            for socket in indices.filter_map(|index| sockets.get(index)) {
                found.push(adopt(socket.as_fd().try_clone_to_owned()?)?);
            }
        }
        Ok(found)
    }

    /// The sockets of each address.
    pub(super) fn addresses(&self) -> BTreeMap<SocketAddr, Vec<&TcpListener>> {
        let mut addresses: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for socket in &self.sockets {
            if let Ok(address) = socket.local_addr() {
                addresses.entry(address).or_default().push(socket);
            }
        }
        addresses
    }
}

/// The sockets of an address, of so many, that the worker at a place among others accepts from.
///
/// Each worker has one of its own if there are as many. Otherwise each socket has at least one worker, as the
/// kernel leads clients to all of them, and each worker at least one socket: so a service manager that passes a
/// single one has all workers share it.
fn share(sockets: usize, workers: usize, place: usize) -> impl Iterator<Item = usize> {
    let turns = place..sockets.max(workers);
    turns.step_by(workers.max(1)).filter_map(move |turn| turn.checked_rem(sockets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sockets: usize, workers: usize, expected: &[&[usize]]) {
        let shares: Vec<Vec<usize>> =
            (0..workers).map(|place| share(sockets, workers, place).collect()).collect();
        assert_eq!(shares, expected, "{sockets} sockets, {workers} workers");
    }

    #[test]
    fn each_socket_has_a_worker_and_each_worker_a_socket() {
        check(3, 3, &[&[0], &[1], &[2]]);
        check(1, 3, &[&[0], &[0], &[0]]);
        check(2, 3, &[&[0], &[1], &[0]]);
        check(5, 2, &[&[0, 2, 4], &[1, 3]]);
        check(4, 1, &[&[0, 1, 2, 3]]);
        check(0, 2, &[&[], &[]]);
    }
}
