//! The channel from a supervisor to a worker: a link that carries listeners of other processes.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use crate::group::{
    Group, Sharing,
    check::Check,
    link::Link,
    message::Message,
    pool::{LinkId, ListenerId, Owner},
    rendezvous,
};

/// The supervisor's end of a channel.
#[derive(Debug)]
pub struct Channel(Link);

impl Channel {
    /// Creates a channel. Returns the end of the supervisor and that of the worker.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rendezvous::socket_pair()?;
        Ok((Self(Link::new(ours)), theirs))
    }

    /// Sends whether metrics are shared with all processes on the port.
    pub fn send_sharing(&self, sharing: Sharing) -> io::Result<()> {
        self.0.send(Message::Sharing(sharing), None)
    }
}

impl Group {
    /// Converts this, in a forked process, into the group of a worker. The worker owns the listeners in `own` and holds
    /// the others. Its only link is the channel to its supervisor.
    #[must_use]
    pub fn into_worker(self, own: &[ListenerId], channel: OwnedFd) -> Self {
        let mut worker = Self::new(self.addresses, self.id);
        worker.check = Check::of_worker(self.check.sharing());
        let supervisor = worker.links.insert(channel).map(LinkId);
        for (id, owner) in self.pool.owners() {
            let Some(listener) = self.listeners.get(&id) else { continue };
            let port = listener.local_addr().map_or(0, |address| address.port());
            match (owner, supervisor) {
                _ if own.contains(&id) => worker.pool.own(id, port),
                (Owner::This | Owner::Other(_), Some(link)) => worker.pool.own_by(link, id, port),
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
        let message = if owner == Owner::Unowned { Message::Held } else { Message::Own };
        channel.0.send(message, Some(listener.as_fd()))
    }
}
