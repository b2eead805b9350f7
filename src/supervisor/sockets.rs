//! Assignment of listening sockets to workers.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::AsFd as _};

use log::debug;

use crate::{
    group::{ListenerId, message::Message},
    supervisor::{
        Supervisor,
        child::{Child, Worker},
    },
};

impl Supervisor<'_> {
    /// Returns the listeners that the worker at `place` owns, some of each address.
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

    /// Sends the listeners of the worker at `place` to the other workers. They register them again. So they accept
    /// connections that the kernel had reported to a worker that has exited, and are behind a worker that has started.
    pub(super) fn announce(&self, place: usize) {
        let listeners = self.listeners_of(place);
        let own = self.children.get(place).and_then(Child::worker).map(|worker| worker.pid);
        for worker in self.workers().filter(|worker| Some(worker.pid) != own) {
            for id in &listeners {
                log_failure(worker, self.group.send_listener(*id, &worker.channel));
            }
        }
    }

    /// Makes all workers count in the memory that the processes on the port have agreed on, if there is new one.
    pub(super) fn move_to_agreed_memory(&mut self) {
        let Some(memory) = self.group.take_agreed_memory() else { return };
        let held = memory.try_clone().ok().and_then(self.open_memory);
        let Some(held) = held else { return self.group.reject_memory(memory.as_fd()) };
        for worker in self.workers() {
            log_failure(worker, worker.channel.send(Message::Memory, Some(held.as_fd())));
        }
        self.group.set_memory(Some(held));
    }

    /// Sends changed listeners and the state of sharing to the workers.
    pub(super) fn forward_changes(&mut self) {
        let changed = self.group.take_changed();
        let sharing = self.group.sharing();
        let has_changed = std::mem::replace(&mut self.sharing, sharing) != sharing;
        for worker in self.workers() {
            for id in &changed {
                log_failure(worker, self.group.send_listener(*id, &worker.channel));
            }
            if has_changed {
                log_failure(worker, worker.channel.send(Message::Sharing(sharing), None));
            }
        }
    }
}

/// Logs a failure for debugging only. A worker that does not read, or has exited, is restarted.
fn log_failure(worker: &Worker, outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        debug!("cannot send to the worker with pid {}: {error}", worker.pid);
    }
}

/// Returns the indices of the sockets of an address that the worker at `place` owns.
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
