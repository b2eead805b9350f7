//! How a process joins: it waits for others here, a bounded time, and nowhere else.

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

/// How long the others have to say what they have. It takes them less than a millisecond, once their loop
/// comes round to it.
const ANSWER_PATIENCE_NS: u64 = 500_000_000;

/// A process that has joined.
#[derive(Debug)]
pub struct Joined {
    /// The group.
    pub group: Group,
    /// The region that the others share, if they have one. If not, it is this process's own that is passed
    /// on to those who come later.
    pub region: Option<OwnedFd>,
}

/// What a process finds that looks around before it joins.
#[derive(Debug)]
pub struct Found {
    /// Listeners that are nobody's.
    pub orphans: Vec<TcpListener>,
    /// The region that the others share, if they have one.
    pub region: Option<OwnedFd>,
}

impl Group {
    /// Joins the processes that listen on `address`, and has a listener there in the end, with or without
    /// them. `own_region` is for those who come later, if nobody has one yet.
    pub fn join(
        address: SocketAddr,
        options: Options,
        own_region: Option<OwnedFd>,
    ) -> Result<Joined, ListenError> {
        if address.port() == 0 {
            // Only the kernel knows yet which port it will be, and that nobody is there.
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

    /// Joins as well, with listeners that this process was born with. Somebody else has them, too, and looks
    /// after them when this process leaves or dies; so may the group meanwhile.
    pub fn join_with(
        address: SocketAddr,
        listeners: Vec<TcpListener>,
        own_region: Option<OwnedFd>,
    ) -> Result<Joined, ListenError> {
        Self::enter(address, own_region, |group| {
            listeners.into_iter().try_for_each(|listener| group.claim_new(listener))
        })
    }

    /// A group of one, which nobody joins, with a listener that somebody else looks after.
    pub fn of_one(listener: TcpListener) -> io::Result<Self> {
        let mut group = Self::new(listener.local_addr()?, None);
        group.stop_joining();
        let id = ListenerId(listener::identity(&listener)?);
        group.listeners.insert(id, Rc::new(listener));
        group.claim(id);
        Ok(group)
    }

    /// What the processes that listen on `address` have for one that will join later, or whose children will.
    pub fn discover(address: SocketAddr) -> Result<Found, ListenError> {
        let mut group = Self::new(address, None);
        let lock = group.lock_and(|group, clock| group.ask(&rendezvous::list(address)?, clock));
        let region = group.stop_joining();
        drop(lock);
        let orphans = group.ledger.owners().filter(|(_, owner)| *owner == Owner::Nobody);
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
        // A duplicate, as one is passed on. Without it this process counts for itself.
        let given = region.as_ref().and_then(|region| region.try_clone().ok());
        group.region = region.or_else(|| group.region.take());
        claim(&mut group)?;
        group.settle();
        // Not before all have been told: the next one must not take the same.
        drop(lock);
        Ok(Joined { group, region: given })
    }

    /// Does this as the only one who joins, if that can be had. The next may join when the lock is dropped.
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

    /// Gets in touch with the others, and learns what they have.
    fn ask(&mut self, names: &[Vec<u8>], clock: &mut Clock) -> Result<(), Reason> {
        let mut met = BTreeSet::new();
        for name in names {
            // One that has gone since, or that others besiege, is as good as not there.
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

    /// Waits for nobody any more; returns the region that was heard of.
    fn stop_joining(&mut self) -> Option<OwnedFd> {
        match mem::replace(&mut self.stage, Stage::Joined) {
            Stage::Joining { region, .. } => region,
            Stage::Joined => None,
        }
    }

    /// Listens to the others until each has said all, or time is up.
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

    /// Makes a listener this process's own that nobody else has.
    fn claim_new(&mut self, listener: TcpListener) -> Result<(), ListenError> {
        let identity = listener::identity(&listener);
        let identity = identity.map_err(|error| ListenError::new(self.address, error))?;
        let id = ListenerId(identity);
        // Always: the bound is for what others tell of.
        self.listeners.entry(id).or_insert_with(|| Rc::new(listener));
        self.claim(id);
        Ok(())
    }

    /// Makes an orphan this process's own, as if it had opened it: its flags may be others than those of the
    /// process that did.
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
