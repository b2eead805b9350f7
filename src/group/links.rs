//! All links of a process: sending to one or to all, and their registration.
//!
//! A link that fails is marked and stays open until its last messages have been read.

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

/// Maximum number of other processes. With more of them, some are not connected to each other.
pub(super) const LINKS_MAX: usize = 256;

/// The links by key.
#[derive(Debug)]
pub(super) struct Links {
    slab: Slab<Link>,
    failed: Vec<usize>,
    watch: Option<Watch>,
}

/// How sockets are registered: the token of a link is its key, counted from the first.
#[derive(Debug)]
struct Watch {
    registry: Registry,
    first: usize,
}

impl Links {
    /// No links.
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), failed: Vec::new(), watch: None }
    }

    /// The number of links.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Makes a link of a connected socket, unless there are too many.
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

    /// The keys of all links.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    /// The socket of a link.
    pub(super) fn socket(&self, key: usize) -> Option<BorrowedFd<'_>> {
        self.slab.get(key).map(Link::socket)
    }

    /// Registers all links, now and later, with tokens from `first` up.
    pub(super) fn watch(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        let watch = Watch { registry: registry.try_clone()?, first };
        for (key, link) in &self.slab {
            watch.begin(link.raw(), key)?;
        }
        self.watch = Some(watch);
        Ok(())
    }

    /// Makes the poll report once more what there is to read: it reports it only once by itself.
    pub(super) fn come_back_to(&self, key: usize) {
        if let (Some(watch), Some(link)) = (&self.watch, self.slab.get(key))
            && let Err(error) = watch.renew(link.raw(), key)
        {
            warn!("cannot register a link to another process: {error}");
        }
    }

    /// The next message of a link.
    pub(super) fn receive(&self, key: usize) -> Received {
        self.slab.get(key).map_or(Received::Nothing, Link::receive)
    }

    /// Sends to one.
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

    /// Sends to all.
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

    /// A failed link. It stays marked until it is closed.
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
