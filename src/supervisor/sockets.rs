//! Which listeners each worker owns.

use std::{collections::BTreeMap, net::SocketAddr};

use log::debug;

use crate::{group::ListenerId, supervisor::Supervisor};

impl Supervisor<'_> {
    /// The listeners that the worker at a place owns: some of each address.
    pub(super) fn listeners_of(&self, place: usize) -> Vec<ListenerId> {
        let mut addresses: BTreeMap<SocketAddr, Vec<ListenerId>> = BTreeMap::new();
        for (id, listener) in self.group.own() {
            if let Ok(address) = listener.local_addr() {
                addresses.entry(address).or_default().push(id);
            }
        }
        let shares = addresses.values().flat_map(|listeners| {
            let indices = share(listeners.len(), self.children.len(), place);
            indices.filter_map(|index| listeners.get(index).copied())
        });
        shares.collect()
    }

    /// Makes workers look at the listeners that a worker owns: it has exited, and they accept what it was woken for; or
    /// another one is there, and they queue behind it.
    pub(super) fn announce(&mut self, place: usize) {
        let listeners = self.listeners_of(place);
        for (other, child) in self.children.iter().enumerate() {
            if let Some(channel) = child.channel.as_ref().filter(|_| other != place) {
                for id in &listeners {
                    log_failure(other, self.group.send_listener(*id, channel));
                }
            }
        }
    }

    /// Sends the workers what has changed on the port.
    pub(super) fn forward_changes(&mut self) {
        let changed = self.group.take_changed();
        let sharing = self.group.sharing();
        let has_changed = std::mem::replace(&mut self.sharing, sharing) != sharing;
        for (place, child) in self.children.iter().enumerate() {
            let Some(channel) = &child.channel else { continue };
            for id in &changed {
                log_failure(place, self.group.send_listener(*id, channel));
            }
            if has_changed {
                log_failure(place, channel.send_sharing(sharing));
            }
        }
    }
}

/// A worker that does not read is replaced soon, and one that has exited is about to be.
fn log_failure(place: usize, outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        debug!("cannot send to worker {place}: {error}");
    }
}

/// The sockets of an address that the worker at a place owns.
///
/// Each worker has one of its own if there are as many. Otherwise each socket has at least one worker, as the kernel leads
/// clients to all of them, and each worker at least one socket: a single one that a service manager passes is owned by
/// all workers.
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
