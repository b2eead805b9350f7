//! The protocol: messages sent to other processes on the port, and the handling of received ones.

use std::{
    fmt,
    os::fd::{AsFd as _, OwnedFd},
    process,
    rc::Rc,
};

use log::{info, warn};
use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};

use crate::{
    group::{
        Group, Member,
        link::Received,
        message::{Hello, Message, Stop, VersionText},
        pool::{LinkId, ListenerId, Owner, Pool},
        rendezvous,
    },
    sys::listener,
};

/// Maximum number of messages read from a link, or of links accepted, before other sources are processed.
const PER_TURN: usize = 64;
/// Maximum number of messages read from a failed link: more than the kernel queues for one.
const LAST_MESSAGES_MAX: usize = 4096;

impl Group {
    /// Accepts links from other processes.
    pub(super) fn accept_links(&mut self) {
        for index in 0..self.rendezvous.len() {
            for _ in 0..PER_TURN {
                let Some(socket) = self.rendezvous.get(index) else { break };
                match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(socket) => drop(self.connect_link(socket)),
                    Err(Errno::CONNABORTED | Errno::INTR) => {}
                    // The queue is empty, or no descriptor is left. The timer retries.
                    Err(_) => break,
                }
            }
        }
    }

    /// Creates a link over a connected socket, if the other process runs as the same user.
    pub(super) fn connect_link(&mut self, socket: OwnedFd) -> Option<usize> {
        if !rendezvous::is_same_user(socket.as_fd()) {
            self.check.log_foreign();
            return None;
        }
        let key = self.links.insert(socket)?;
        self.members.insert(key, Member::default());
        self.links.send(key, Message::Hello(self.hello()), None);
        Some(key)
    }

    pub(super) fn hello(&self) -> Hello {
        let version = VersionText::new(env!("CARGO_PKG_VERSION"));
        Hello { id: self.id, pid: process::id(), memory: self.memory.id, version }
    }

    pub(super) fn read(&mut self, key: usize) {
        for _ in 0..PER_TURN {
            if !self.read_message(key) {
                return;
            }
        }
        self.links.report_again(key);
    }

    /// Handles one message. Returns whether there may be more.
    fn read_message(&mut self, key: usize) -> bool {
        match self.links.receive(key) {
            Received::Message(message, descriptor) => {
                self.handle(key, message, descriptor);
                true
            }
            Received::Nothing => false,
            Received::Closed => {
                self.links.fail(key);
                false
            }
            Received::Violation(violation) => {
                self.reject(key, &violation);
                false
            }
        }
    }

    fn handle(&mut self, key: usize, message: Message, descriptor: Option<OwnedFd>) {
        let link = LinkId(key);
        match (message, descriptor) {
            (Message::Hello(hello), _) => self.handle_hello(key, hello),
            (Message::Memory, memory) => {
                match self.members.get_mut(&key) {
                    Some(member) => member.memory = memory,
                    // The supervisor has moved to it.
                    None => self.memory.agreed = memory,
                }
            }
            (Message::Own, Some(descriptor)) => {
                self.learn(key, descriptor, |pool, id, port| pool.own_by(link, id, port));
            }
            (Message::Held, Some(descriptor)) => {
                self.learn(key, descriptor, |pool, id, port| pool.held_by(link, id, port));
            }
            (Message::Foreign, Some(descriptor)) => {
                self.learn(key, descriptor, Pool::owned_elsewhere);
            }
            (Message::End, _) => {
                if let Some(member) = self.members.get_mut(&key) {
                    member.has_received_list = true;
                }
            }
            (Message::Sharing(sharing), _) if self.pool.is_of_worker() => {
                self.check.sharing = sharing;
            }
            (Message::Stop(stop), _) => self.request_stop(stop),
            // Only a supervisor sends the state of sharing. A message without its descriptor was rejected before.
            (
                Message::Unknown
                | Message::Sharing(_)
                | Message::Own
                | Message::Held
                | Message::Foreign,
                _,
            ) => {}
        }
    }

    fn handle_hello(&mut self, key: usize, hello: Hello) {
        let Some(member) = self.members.get_mut(&key) else { return };
        member.hello = Some(hello);
        member.is_silent = false;
        if !member.has_sent_list {
            member.has_sent_list = true;
            self.send_list(key);
        }
        // Both may have connected at the same time. The link of the process that began to join first is kept.
        let keeps_own = self.id < hello.id;
        let is_same = |member: &Member| member.hello.is_some_and(|other| other.id == hello.id);
        let same = || self.members.iter().filter(|(_, member)| is_same(member));
        let spare = same().find(|(_, member)| member.is_initiated != keeps_own);
        if let (2.., Some((spare, _))) = (same().count(), spare) {
            self.links.fail(*spare);
        }
    }

    fn send_list(&mut self, key: usize) {
        if let Some(memory) = &self.memory.descriptor {
            self.links.send(key, Message::Memory, Some(memory.as_fd()));
        }
        for (id, owner) in self.pool.owners() {
            let message = match owner {
                Owner::This => Message::Own,
                Owner::Unowned => Message::Held,
                Owner::Other(_) | Owner::Unknown => Message::Foreign,
            };
            if let Some(listener) = self.listeners.get(&id) {
                self.links.send(key, message, Some(listener.as_fd()));
            }
        }
        self.links.send(key, Message::End, None);
    }

    /// Records a listener that another process has sent.
    fn learn(
        &mut self,
        key: usize,
        descriptor: OwnedFd,
        record: impl FnOnce(&mut Pool, ListenerId, u16),
    ) {
        let admitted = listener::admit(descriptor, &self.addresses).and_then(|listener| {
            let port = listener.local_addr()?.port();
            Ok((ListenerId(listener::identity(&listener)?), port, listener))
        });
        match admitted {
            Ok((id, port, listener)) => {
                if self.pool.has_place_for(id) {
                    self.listeners.entry(id).or_insert_with(|| Rc::new(listener));
                    record(&mut self.pool, id, port);
                    self.changed.push(id);
                } else {
                    warn!("too many listeners; one is left to other processes");
                }
            }
            Err(unfit) => self.reject(key, &unfit),
        }
    }

    pub(super) fn broadcast_held(&mut self, listeners: &[ListenerId]) {
        for id in listeners {
            if let Some(listener) = self.listeners.get(id) {
                self.links.broadcast(Message::Held, Some(listener.as_fd()));
            }
            self.changed.push(*id);
        }
    }

    /// Closes the link to a process that violates the protocol, and logs the reason.
    fn reject(&mut self, key: usize, reason: &dyn fmt::Display) {
        warn!("ignoring a process on this port: it sent {reason}");
        self.disconnect(key);
    }

    /// Closes links that have failed, and logs processes that have joined.
    pub(super) fn settle(&mut self) {
        while let Some(key) = self.links.failed() {
            // Its last messages may still be in the queue.
            for _ in 0..LAST_MESSAGES_MAX {
                if !self.read_message(key) {
                    break;
                }
            }
            self.disconnect(key);
        }
        // After the start, so that the startup line is the first one.
        if self.check.due_ns != 0 {
            self.log_joined();
        }
        self.update_sharing();
    }

    fn disconnect(&mut self, key: usize) {
        self.links.close(key);
        // The supervisor has exited, if this is a worker.
        self.request_stop(Stop::Graceful);
        let removed = self.members.remove(&key);
        let hello = removed.as_ref().and_then(|member| member.hello);
        if self.memory.id == 0 {
            let offer = removed.filter(|member| member.memory.is_some());
            self.memory.departed = offer.or_else(|| self.memory.departed.take());
        }
        let Some(hello) = hello else {
            let ownerless = self.pool.disconnect(LinkId(key));
            return self.broadcast_held(&ownerless);
        };
        let is_other = |member: &Member| member.hello.is_some_and(|other| other.id == hello.id);
        if let Some((other, _)) = self.members.iter().find(|(_, member)| is_other(member)) {
            return self.pool.transfer(LinkId(key), LinkId(*other));
        }
        self.check.listed.remove(&hello.id);
        let ownerless = self.pool.disconnect(LinkId(key));
        let (pid, version) = (hello.pid, hello.version);
        if ownerless.is_empty() {
            info!("process {pid} (version {version}) has left the port");
        } else {
            let count = ownerless.len();
            warn!("process {pid} (version {version}) exited; taking over its {count} listeners");
        }
        // All that have no owner: a third process may not have been connected to a previous owner.
        let ownerless: Vec<_> = self.pool.ownerless().collect();
        self.broadcast_held(&ownerless);
        // The kernel may have woken it for connections that it has not accepted.
        let all: Vec<_> = self.listeners.keys().copied().collect();
        self.changed.extend(all);
    }

    fn log_joined(&mut self) {
        for member in self.members.values_mut().filter(|member| !member.is_logged) {
            if let Some(hello) = member.hello.filter(|hello| hello.memory != 0) {
                member.is_logged = true;
                info!("process {} (version {}) shares the port", hello.pid, hello.version);
            }
        }
    }
}
