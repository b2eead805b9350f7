//! Assignment of listening sockets to workers.

use std::{collections::BTreeMap, io, net::SocketAddr, os::fd::AsFd as _};

use mio::net::TcpListener;

use crate::supervisor::Supervisor;
use crate::sys::listener::adopt;

impl Supervisor<'_> {
    /// Returns duplicates of the sockets that a worker accepts from: some of each address.
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

    /// Returns the sockets of each address.
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

/// Returns the indices of the sockets of an address that the worker at `place` accepts from.
///
/// Each worker has a socket of its own if there are as many sockets as workers. Otherwise each socket has at
/// least one worker, as the kernel distributes clients to all sockets. Each worker has at least one socket:
/// if the service manager passes a single one, all workers share it.
fn share(sockets: usize, workers: usize, place: usize) -> impl Iterator<Item = usize> {
    let steps = place..sockets.max(workers);
    steps.step_by(workers.max(1)).filter_map(move |step| step.checked_rem(sockets))
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
