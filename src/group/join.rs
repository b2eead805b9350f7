//! Joining a group. This is the only place that waits for other processes, and only for a bounded time.

use std::{
    collections::BTreeSet,
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use log::warn;
use mio::net::TcpListener;

use crate::group::{
    Group, Meeting, Stage,
    ledger::{Event, ListenerId, Owner},
    message::Message,
    rendezvous::{self, JoinLock, Reason},
};
use crate::sys::{
    clock::Clock,
    listener::{self, ListenError, Options, adopt, listen, renew},
};

/// Time limit for the other members to send their listeners. It takes them less than a millisecond, once
/// their event loop handles the request.
const ANSWER_PATIENCE_NS: u64 = 500_000_000;

/// Result of joining.
#[derive(Debug)]
pub struct Joined {
    /// The group.
    pub group: Group,
    /// The shared memory region of the other members, if they have one. If not, the region of this process is
    /// passed on to processes that join later.
    pub region: Option<OwnedFd>,
}

/// Result of discovery before joining.
#[derive(Debug)]
pub struct Found {
    /// Listeners without an owner.
    pub orphans: Vec<TcpListener>,
    /// The shared memory region of the other members, if they have one.
    pub region: Option<OwnedFd>,
}

impl Group {
    /// Joins the processes that listen on `address` and adopts or opens a listener there. It does so even if
    /// joining fails. `own_region` is for processes that join later, if no member has a region yet.
    pub fn join(
        address: SocketAddr,
        options: Options,
        own_region: Option<OwnedFd>,
    ) -> Result<Joined, ListenError> {
        if address.port() == 0 {
            // The kernel chooses an unused port, so there is no other process to join.
            let listener = listen(address, options)?;
            let actual = listener.local_addr().map_err(|error| ListenError::new(address, error))?;
            return Self::join_with(actual, vec![listener], own_region);
        }
        Self::enter(address, own_region, |group| match group.ledger.orphan() {
            Some(orphan) => {
                group.take_over(orphan, options);
                Ok(())
            }
            None => group.claim_new(listen(address, options)?),
        })
    }

    /// Joins with inherited listeners. Another process holds them, too, and reuses them when this process
    /// leaves or exits. Until then the group may accept from them as well.
    pub fn join_with(
        address: SocketAddr,
        listeners: Vec<TcpListener>,
        own_region: Option<OwnedFd>,
    ) -> Result<Joined, ListenError> {
        Self::enter(address, own_region, |group| {
            listeners.into_iter().try_for_each(|listener| group.claim_new(listener))
        })
    }

    /// Creates a group of one that no process can join, with a listener that another process manages.
    pub fn of_one(listener: TcpListener) -> io::Result<Self> {
        let mut group = Self::new(listener.local_addr()?, None);
        group.stop_joining();
        let id = ListenerId(listener::identity(&listener)?);
        group.listeners.insert(id, Rc::new(listener));
        group.claim(id);
        Ok(group)
    }

    /// Returns the orphans and the region of the processes that listen on `address`. It is for a process that
    /// joins later, or whose children do.
    pub fn discover(address: SocketAddr) -> Result<Found, ListenError> {
        let mut group = Self::new(address, None);
        let lock = group.lock_and(|group, clock| group.ask(&rendezvous::list(address)?, clock));
        let region = group.stop_joining();
        drop(lock);
        let orphans = group.ledger.owners().filter(|(_, owner)| *owner == Owner::Unowned);
        let orphans = orphans.filter_map(|(id, _)| group.listeners.get(&id));
        let orphans = orphans.map(|orphan| adopt(orphan.as_fd().try_clone_to_owned()?));
        let orphans = orphans.collect::<io::Result<_>>();
        let orphans = orphans.map_err(|error| ListenError::new(address, error))?;
        Ok(Found { orphans, region })
    }

    fn enter(
        address: SocketAddr,
        own_region: Option<OwnedFd>,
        claim: impl FnOnce(&mut Self) -> Result<(), ListenError>,
    ) -> Result<Joined, ListenError> {
        let mut group = Self::new(address, own_region);
        let lock = group.lock_and(|group, clock| {
            let others = rendezvous::list(address)?;
            group.meeting = Meeting::Open(rendezvous::open_meeting(address)?);
            group.ask(&others, clock)
        });
        let region = group.stop_joining();
        // A duplicate, as the original is passed on. Without a duplicate this process keeps counters of its
        // own.
        let given = region.as_ref().and_then(|region| region.try_clone().ok());
        group.region = region.or_else(|| group.region.take());
        claim(&mut group)?;
        group.settle();
        // Only after `Mine` was sent to all: the next process must not adopt the same orphan.
        drop(lock);
        Ok(Joined { group, region: given })
    }

    /// Takes the lock and calls `gather`. If either fails, logs the reason and returns `None`. The next
    /// process may join when the lock is dropped.
    fn lock_and(
        &mut self,
        gather: impl FnOnce(&mut Self, &mut Clock) -> Result<(), Reason>,
    ) -> Option<JoinLock> {
        let mut clock = Clock::new();
        let lock = JoinLock::take(self.address, &mut clock);
        let gathered = lock.and_then(|lock| gather(self, &mut clock).map(|()| lock));
        let told =
            |reason: &Reason| warn!("{}: shared without handing over, {reason}", self.address);
        gathered.inspect_err(told).ok()
    }

    /// Connects to the other members and receives their listeners and region.
    fn ask(&mut self, names: &[Vec<u8>], clock: &mut Clock) -> Result<(), Reason> {
        let mut met = BTreeSet::new();
        for name in names {
            // A process that has exited since, or whose backlog is full, is skipped.
            let link = rendezvous::connect_to(name).ok().and_then(|socket| self.take_in(socket));
            met.extend(link);
        }
        self.stage = Stage::Joining { awaited: met.clone(), region: None };
        for key in met {
            self.links.say(key, Message::AskRegion, None);
            self.links.say(key, Message::Hello, None);
        }
        let give_up_at_ns = clock.now_ns().saturating_add(ANSWER_PATIENCE_NS);
        self.hear_all(give_up_at_ns, clock)
    }

    /// Ends joining without waiting further. Returns the region that was received.
    fn stop_joining(&mut self) -> Option<OwnedFd> {
        match mem::replace(&mut self.stage, Stage::Joined) {
            Stage::Joining { region, .. } => region,
            Stage::Joined => None,
        }
    }

    /// Receives messages until each awaited member has sent `End`, or until the deadline.
    fn hear_all(&mut self, give_up_at_ns: u64, clock: &mut Clock) -> Result<(), Reason> {
        loop {
            self.settle();
            let Stage::Joining { awaited, .. } = &self.stage else { return Ok(()) };
            if awaited.is_empty() {
                return Ok(());
            }
            clock.tick();
            let patience_ns = give_up_at_ns.saturating_sub(clock.now_ns());
            if patience_ns == 0 {
                let count = awaited.len();
                warn!("{}: {count} on this port do not answer, others wait no more", self.address);
                return Ok(());
            }
            let awaited: Vec<_> = awaited.iter().copied().collect();
            let sockets: Vec<_> =
                awaited.iter().filter_map(|key| self.links.socket(*key)).collect();
            rendezvous::wait(&sockets, patience_ns)
                .map_err(|error| Reason::System("wait for the others", error))?;
            for key in awaited {
                self.read(key);
            }
        }
    }

    /// Claims a listener that this process has opened or inherited.
    fn claim_new(&mut self, listener: TcpListener) -> Result<(), ListenError> {
        let identity = listener::identity(&listener);
        let identity = identity.map_err(|error| ListenError::new(self.address, error))?;
        let id = ListenerId(identity);
        // Without a check: the bound applies only to listeners received from other processes.
        self.listeners.entry(id).or_insert_with(|| Rc::new(listener));
        self.claim(id);
        Ok(())
    }

    /// Adopts an orphan as if this process had opened it. Sets its own options, as its flags may differ from
    /// those of the process that opened the listener.
    fn take_over(&mut self, id: ListenerId, options: Options) {
        if let Some(listener) = self.listeners.get(&id)
            && let Err(error) = renew(listener, options)
        {
            warn!("{}: an adopted listener keeps its options: {error}", self.address);
        }
        self.claim(id);
    }

    fn claim(&mut self, id: ListenerId) {
        self.apply(Event::Claim(id));
        if let Some(listener) = self.listeners.get(&id) {
            self.links.tell(Message::Mine, Some(listener.as_fd()));
        }
    }
}
