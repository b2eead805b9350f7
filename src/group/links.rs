//! All links of a process: sending on one or on all, and their registration.
//!
//! A link that fails is marked, and stays open until its last messages have been read.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use log::warn;
use mio::{Interest, Registry, Token, unix::SourceFd};
use slab::Slab;

use crate::group::{
    link::{Link, Received},
    message::Message,
};

/// Maximum number of other processes: two supervisors with the maximum number of workers, during an upgrade.
/// Beyond it, some processes have no link to each other.
pub(super) const LINKS_MAX: usize = 256;

/// The links, by key.
#[derive(Debug, Default)]
pub(super) struct Links {
    slab: Slab<Link>,
    failed: Vec<usize>,
    watch: Option<Watch>,
}

/// Registration with the poll. The token of a link is `first` plus its key.
#[derive(Debug)]
struct Watch {
    registry: Registry,
    first: usize,
}

impl Links {
    /// Returns the number of links.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Adds a link over a connected socket, if there is room. Returns its key.
    pub(super) fn insert(&mut self, socket: OwnedFd) -> Option<usize> {
        if self.slab.len() >= LINKS_MAX {
            return None;
        }
        let key = self.slab.insert(Link::new(socket));
        if self.register(key) {
            return Some(key);
        }
        self.slab.remove(key);
        None
    }

    /// Returns the keys of all links.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    /// Returns the socket of a link.
    pub(super) fn socket(&self, key: usize) -> Option<BorrowedFd<'_>> {
        self.slab.get(key).map(Link::socket)
    }

    /// Registers all links under tokens from `first` up. Later links are registered when they are added.
    pub(super) fn watch(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        self.watch = Some(Watch { registry: registry.try_clone()?, first });
        let mut keys = self.keys().into_iter();
        match keys.find(|key| !self.register(*key)) {
            Some(_) => Err(io::Error::other("cannot register a link to another process")),
            None => Ok(()),
        }
    }

    /// Registers a link again, so that the poll reports remaining messages. By itself it reports them only
    /// once. A link that cannot be registered fails, as its next messages would not be read.
    pub(super) fn report_again(&mut self, key: usize) {
        if let (Some(watch), Some(link)) = (&self.watch, self.slab.get(key)) {
            // An error means that the link is not registered, as the next step requires.
            drop(watch.registry.deregister(&mut SourceFd(&link.socket().as_raw_fd())));
        }
        if !self.register(key) {
            self.fail(key);
        }
    }

    /// Registers a link, if links are watched. Returns false after an error, which it logs.
    fn register(&self, key: usize) -> bool {
        let (Some(watch), Some(link)) = (&self.watch, self.slab.get(key)) else { return true };
        let (raw, token) = (link.socket().as_raw_fd(), Token(watch.first + key));
        let outcome = watch.registry.register(&mut SourceFd(&raw), token, Interest::READABLE);
        let log = |error: &io::Error| warn!("cannot register a link to another process: {error}");
        outcome.inspect_err(log).is_ok()
    }

    /// Receives the next message of a link.
    pub(super) fn receive(&self, key: usize) -> Received {
        self.slab.get(key).map_or(Received::Nothing, Link::receive)
    }

    /// Sends a message on one link.
    pub(super) fn send(
        &mut self,
        key: usize,
        message: Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) {
        let Some(link) = self.slab.get(key) else { return };
        if link.send(message, descriptor).is_err() {
            self.fail(key);
        }
    }

    /// Sends a message on all links.
    pub(super) fn broadcast(&mut self, message: Message, descriptor: Option<BorrowedFd<'_>>) {
        for key in self.keys() {
            self.send(key, message, descriptor);
        }
    }

    /// Marks a link as failed.
    pub(super) fn fail(&mut self, key: usize) {
        if !self.failed.contains(&key) {
            self.failed.push(key);
        }
    }

    /// Returns a failed link. It stays marked until it is closed.
    pub(super) fn failed(&self) -> Option<usize> {
        self.failed.first().copied()
    }

    /// Closes a link.
    pub(super) fn close(&mut self, key: usize) {
        self.failed.retain(|failed| *failed != key);
        // No other descriptor refers to the socket: closing it removes it from the poll.
        drop(self.slab.try_remove(key));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use mio::Poll;

    use super::*;

    #[test]
    fn a_link_that_cannot_be_registered_again_fails() {
        let (poll, mut links) = (Poll::new().unwrap(), Links::default());
        let key = links.insert(File::open("/dev/null").unwrap().into()).unwrap();
        links.report_again(key);
        assert_eq!(links.failed(), None, "links are not watched yet");
        // The kernel refuses to watch files of this kind (epoll_ctl(2)).
        links.watch(poll.registry(), 0).unwrap_err();
        links.report_again(key);
        assert_eq!(links.failed(), Some(key));
    }
}
