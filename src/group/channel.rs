//! The channel from a supervisor to a worker: a link that carries listeners of other processes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::io::read;

use crate::group::{
    Group,
    link::Link,
    message::Message,
    pool::{LinkId, ListenerId, Owner, Pool},
    rendezvous,
};

/// Maximum number of status reports read at a time: more than the kernel queues.
const REPORTS_MAX: usize = 4096;

/// The supervisor's end of a channel.
#[derive(Debug)]
pub struct Channel(Link);

impl Channel {
    /// Creates a channel. Returns the end of the supervisor and that of the worker.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rendezvous::socket_pair()?;
        Ok((Self(Link::new(ours)), theirs))
    }

    /// Adopts the supervisor's end of a channel, from the previous version of the supervisor.
    pub const fn adopt(socket: OwnedFd) -> Self {
        Self(Link::new(socket))
    }

    /// Sends a message to the worker, with a descriptor if it has one.
    pub fn send(&self, message: Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.0.send(message, descriptor)
    }

    /// Returns whether the worker has sent a status report since the last call. Each is one byte.
    pub fn take_reports(&self) -> bool {
        let reports = (0..REPORTS_MAX).take_while(|_| matches!(read(self, &mut [0; 1]), Ok(1..)));
        reports.count() > 0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket()
    }
}

impl Group {
    /// Converts this, in a forked process, into the group of a worker. The worker owns the listeners in `own` and holds
    /// the others. Its only link is the channel to its supervisor.
    #[must_use]
    pub fn into_worker(self, own: &[ListenerId], channel: OwnedFd) -> Self {
        let mut worker = Self::new(self.addresses, self.id);
        worker.admin_addresses = self.admin_addresses;
        worker.pool = Pool::of_worker();
        worker.check.sharing = self.check.sharing;
        worker.memory.descriptor = self.memory.descriptor;
        let supervisor = worker.links.insert(channel).map(LinkId);
        for (id, owner) in self.pool.owners() {
            let Some(listener) = self.listeners.get(&id) else { continue };
            let port = listener.local_addr().map_or(0, |address| address.port());
            match (owner, supervisor) {
                _ if own.contains(&id) => worker.pool.own(id, port),
                (Owner::This | Owner::Other(_), Some(link)) => worker.pool.own_by(link, id, port),
                (Owner::Unknown, _) => worker.pool.owned_elsewhere(id, port),
                (_, link) => worker.pool.held_by(link.unwrap_or(LinkId(0)), id, port),
            }
            worker.listeners.insert(id, Rc::clone(listener));
        }
        worker
    }

    /// Sends a listener to a worker.
    pub fn send_listener(&self, id: ListenerId, channel: &Channel) -> io::Result<()> {
        let owner = self.pool.owners().find(|(found, _)| *found == id).map(|(_, owner)| owner);
        let (Some(owner), Some(listener)) = (owner, self.listeners.get(&id)) else { return Ok(()) };
        let message = match owner {
            Owner::This | Owner::Other(_) => Message::Own,
            Owner::Unowned => Message::Held,
            Owner::Unknown => Message::Foreign,
        };
        channel.send(message, Some(listener.as_fd()))
    }
}
