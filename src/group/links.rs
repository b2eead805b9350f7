//! All links of a process: sending on one or on all, and their registration.
//!
//! A link that fails is marked, and stays open until its last messages have been read.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use log::warn;
use mio::{Interest, Registry, unix::SourceFd};
use slab::Slab;

use crate::group::{
    link::{Link, Received},
    message::Message,
};

/// Maximum number of other processes: two supervisors with the maximum number of workers, during an upgrade.
/// Beyond it, some processes have no link to each other.
pub(super) const LINKS_MAX: usize = 256;

/// The links, by key.
#[derive(Debug)]
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
    /// Creates an empty set of links.
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), failed: Vec::new(), watch: None }
    }

    /// Returns the number of links.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Adds a link over a connected socket, if there is room. Returns its key.
    pub(super) fn insert(&mut self, socket: OwnedFd) -> Option<usize> {
        if self.slab.len() >= LINKS_MAX {
            return None;
        }
        let link = Link::new(socket);
        let raw = link.raw();
        let key = self.slab.insert(link);
        if let Some(watch) = &self.watch
            && let Err(error) = watch.begin(raw, key)
        {
            warn!("cannot register a link to another process: {error}");
            self.slab.remove(key);
            return None;
        }
        Some(key)
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
        let watch = Watch { registry: registry.try_clone()?, first };
        for (key, link) in &self.slab {
            watch.begin(link.raw(), key)?;
        }
        self.watch = Some(watch);
        Ok(())
    }

    /// Registers a link again, so that the poll reports remaining messages. By itself it reports them only
    /// once.
    pub(super) fn report_again(&self, key: usize) {
        if let (Some(watch), Some(link)) = (&self.watch, self.slab.get(key))
            && let Err(error) = watch.renew(link.raw(), key)
        {
            warn!("cannot register a link to another process: {error}");
        }
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

impl Watch {
    fn begin(&self, socket: RawFd, key: usize) -> io::Result<()> {
        let token = mio::Token(self.first + key);
        self.registry.register(&mut SourceFd(&socket), token, Interest::READABLE)
    }

    fn renew(&self, socket: RawFd, key: usize) -> io::Result<()> {
        let token = mio::Token(self.first + key);
        self.registry.reregister(&mut SourceFd(&socket), token, Interest::READABLE)
    }
}
