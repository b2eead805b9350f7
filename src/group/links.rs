//! All links of a process: to say something to one or to all, and to have them watched.
//!
//! A link that fails is marked, and stays until somebody parts with it: what its other end has said before
//! is still to be heard.

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

/// Most other processes: two supervisors with as many workers as can be, in the midst of an upgrade. With more
/// of them, some are not in touch with each other.
pub(super) const LINKS_MAX: usize = 256;

/// The links by key.
#[derive(Debug)]
pub(super) struct Links {
    slab: Slab<Link>,
    failed: Vec<usize>,
    watch: Option<Watch>,
}

/// How sockets are watched: the token of a link is its key, counted from the first.
#[derive(Debug)]
struct Watch {
    registry: Registry,
    first: usize,
}

impl Links {
    /// None.
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), failed: Vec::new(), watch: None }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Makes a link of a connected socket, if there is room.
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
            warn!("cannot watch a link: {error}");
            self.slab.remove(key);
            return None;
        }
        Some(key)
    }

    /// Closes a link.
    pub(super) fn remove(&mut self, key: usize) {
        // Nobody else has this socket: closing it takes it out of the poll.
        drop(self.slab.try_remove(key));
    }

    /// The keys of all.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.slab.iter().map(|(key, _)| key).collect()
    }

    /// The socket of a link.
    pub(super) fn socket(&self, key: usize) -> Option<BorrowedFd<'_>> {
        self.slab.get(key).map(Link::socket)
    }

    /// Has all links watched, now and later, with tokens from `first` up.
    pub(super) fn watch(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        let watch = Watch { registry: registry.try_clone()?, first };
        for (key, link) in &self.slab {
            watch.begin(link.raw(), key)?;
        }
        self.watch = Some(watch);
        Ok(())
    }

    /// Has the poll tell once more what there is to read: it tells only once by itself.
    pub(super) fn come_back_to(&self, key: usize) {
        if let (Some(watch), Some(link)) = (&self.watch, self.slab.get(key))
            && let Err(error) = watch.renew(link.raw(), key)
        {
            warn!("cannot watch a link: {error}");
        }
    }

    /// The next message of a link.
    pub(super) fn receive(&self, key: usize) -> Received {
        self.slab.get(key).map_or(Received::Nothing, Link::receive)
    }

    /// Says something to one.
    pub(super) fn say(&mut self, key: usize, message: Message, descriptor: Option<BorrowedFd<'_>>) {
        let Some(link) = self.slab.get(key) else { return };
        if link.send(message, descriptor).is_err() {
            self.fail(key);
        }
    }

    /// Says something to all.
    pub(super) fn tell(&mut self, message: Message, descriptor: Option<BorrowedFd<'_>>) {
        for key in self.keys() {
            self.say(key, message, descriptor);
        }
    }

    /// Marks a link as one to part with.
    pub(super) fn fail(&mut self, key: usize) {
        if !self.has_failed(key) {
            self.failed.push(key);
        }
    }

    /// Whether a link is marked.
    pub(super) fn has_failed(&self, key: usize) -> bool {
        self.failed.contains(&key)
    }

    /// A marked link. It stays marked until it is removed by [`Links::part`].
    pub(super) fn failed(&self) -> Option<usize> {
        self.failed.first().copied()
    }

    /// Closes a marked link.
    pub(super) fn part(&mut self, key: usize) {
        self.failed.retain(|failed| *failed != key);
        self.remove(key);
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
