//! Joining a group. This is the only place that waits for other processes, and only for a bounded time.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use log::warn;
use mio::net::TcpListener;

use crate::{
    group::{Group, PRIVATE, message::Message, pool::ListenerId, rendezvous},
    sys::{
        clock::{self, Clock},
        listener::{self, Bound, ListenError, Options, renew, stands_for},
    },
};

/// Time limit for the other processes to send their listeners. It takes them less than a millisecond, once their event
/// loop handles the request.
const RESPONSE_TIMEOUT_NS: u64 = 500_000_000;

impl Group {
    /// Joins the processes whose addresses overlap with `addresses`. `memory` is for processes that join at the same
    /// time.
    pub fn join(addresses: Vec<SocketAddr>, memory: Option<OwnedFd>) -> Self {
        // A process that began to join earlier has a lower ID.
        let mut group = Self::new(addresses, clock::monotonic_us());
        group.memory.descriptor = memory;
        group.check.failure = group.bind_names().err();
        let awaited = group.connect_to_listed().into_iter().collect();
        if let Err(error) = group.gather(awaited) {
            warn!("cannot wait for other processes on the port: {error}");
        }
        group
    }

    fn bind_names(&mut self) -> Result<(), String> {
        let addresses: BTreeSet<_> = self.addresses.iter().copied().collect();
        for address in addresses {
            let bound = rendezvous::bind_name(address, self.id);
            self.rendezvous
                .push(bound.map_err(|error| format!("cannot bind a Unix name: {error}"))?);
        }
        Ok(())
    }

    /// Receives messages until each awaited process has sent its list, or until the deadline.
    fn gather(&mut self, mut awaited: BTreeSet<usize>) -> io::Result<()> {
        let mut clock = Clock::new();
        let deadline_ns = clock.now_ns().saturating_add(RESPONSE_TIMEOUT_NS);
        loop {
            self.settle();
            let members = &self.members;
            awaited.retain(|key| members.get(key).is_some_and(|member| !member.has_received_list));
            clock.tick();
            let timeout_ns = deadline_ns.saturating_sub(clock.now_ns());
            if awaited.is_empty() || timeout_ns == 0 {
                for key in awaited {
                    if let Some(member) = self.members.get_mut(&key) {
                        member.is_silent = true;
                    }
                }
                return Ok(());
            }
            // Processes that join at the same time wait for this process as well.
            let keys = self.links.keys();
            let links = keys.iter().filter_map(|key| self.links.socket(*key));
            let sockets: Vec<_> =
                links.chain(self.rendezvous.iter().map(|socket| socket.as_fd())).collect();
            rendezvous::wait(&sockets, timeout_ns)?;
            self.accept_links();
            for key in keys {
                self.read(key);
            }
        }
    }

    /// Returns the memory that the other processes count in. If all of them are still joining, returns the memory of
    /// the one that began first, unless that is this process.
    pub fn offered_memory(&self) -> Option<OwnedFd> {
        let own = self.id;
        let offered = self.members.values().chain(&self.memory.departed);
        let offered = offered.filter_map(|member| {
            let hello = member.hello?;
            let is_decided = hello.memory != 0;
            let rank = (!is_decided, hello.id);
            let is_preferred = is_decided || hello.id < own;
            Some((rank, member.memory.as_ref()?)).filter(|_| is_preferred)
        });
        let (_, memory) = offered.min_by_key(|(rank, _)| *rank)?;
        memory.try_clone().ok()
    }

    /// Sets the memory that this process counts in, and sends its identity to the others. `None` means private memory.
    pub fn set_memory(&mut self, memory: Option<OwnedFd>) {
        let id = memory.as_ref().and_then(|memory| listener::identity(memory).ok());
        self.memory.id = id.unwrap_or(PRIVATE);
        self.memory.descriptor = memory;
        self.memory.departed = None;
        if self.pool.is_of_worker() {
            return;
        }
        if let Some(memory) = &self.memory.descriptor {
            self.links.broadcast(Message::Memory, Some(memory.as_fd()));
        }
        self.links.broadcast(Message::Hello(self.hello()), None);
        self.settle();
    }

    /// Adds an inherited or passed listener, which this process then owns.
    pub fn add(&mut self, listener: TcpListener) -> io::Result<()> {
        self.links.broadcast(Message::Own, Some(listener.as_fd()));
        self.claim(Rc::new(listener))?;
        self.settle();
        Ok(())
    }

    /// Adds an inherited listener that another process owns. That process may be stopped, and then cannot send it.
    pub fn hold(&mut self, listener: TcpListener) -> io::Result<()> {
        let id = ListenerId(listener::identity(&listener)?);
        if self.pool.has_place_for(id) {
            self.pool.owned_elsewhere(id, listener.local_addr()?.port());
            self.listeners.entry(id).or_insert_with(|| Rc::new(listener));
        }
        Ok(())
    }

    /// Ensures that this process owns `count` listeners on an address. Adopts those without an owner, and opens the
    /// rest.
    pub fn open(
        &mut self,
        address: SocketAddr,
        count: usize,
        options: Options,
    ) -> Result<(), ListenError> {
        let is_ours = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|bound| stands_for(bound, address))
        };
        let own = self.own().iter().filter(|(_, listener)| is_ours(listener)).count();
        let ownerless: Vec<_> = self.pool.ownerless().collect();
        let ownerless =
            ownerless.into_iter().filter_map(|id| self.listeners.get(&id).map(Rc::clone));
        let adopted: Vec<_> = ownerless
            .filter(|listener| is_ours(listener))
            .take(count.saturating_sub(own))
            .collect();
        let missing = count.saturating_sub(own + adopted.len());
        for listener in adopted {
            // Its options may be those of another version, or of other flags.
            renew(&listener, options).map_err(|error| ListenError::new(address, error))?;
            self.claim(listener).map_err(|error| ListenError::new(address, error))?;
        }
        for _ in 0..missing {
            // The others hold it before it listens. So no connection is reset if this process is killed meanwhile.
            let bound = Bound::open(address, options)?;
            self.links.broadcast(Message::Own, Some(bound.as_fd()));
            let listener = Rc::new(bound.listen()?);
            self.claim(listener).map_err(|error| ListenError::new(address, error))?;
        }
        self.settle();
        Ok(())
    }

    fn claim(&mut self, listener: Rc<TcpListener>) -> io::Result<()> {
        let id = ListenerId(listener::identity(&listener)?);
        self.pool.own(id, listener.local_addr()?.port());
        self.listeners.insert(id, listener);
        Ok(())
    }
}
