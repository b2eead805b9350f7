//! How a process joins: it waits for others here, a bounded time, and nowhere else.

use std::{
    collections::BTreeSet,
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use log::warn;
use mio::net::TcpListener;

use super::{
    Group, Meeting, Stage,
    ledger::{Event, ListenerId},
    message::Message,
    names::{self, JoinLock, Reason},
};
use crate::{
    clock::Clock,
    listener::{self, ListenError, listen, renew},
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

impl Group {
    /// Joins the processes that listen on `address`, and has a listener there in the end, with or without
    /// them. `own_region` is for those who come later, if nobody has one yet.
    ///
    /// `unacknowledged` is the longest time for which a client may take nothing of what was sent to it.
    pub fn join(
        address: SocketAddr,
        unacknowledged: Duration,
        own_region: Option<OwnedFd>,
    ) -> Result<Joined, ListenError> {
        // Only the kernel knows yet which port it will be, and that nobody is there.
        let opened = match address.port() {
            0 => Some(listen(address, unacknowledged)?),
            _ => None,
        };
        let actual = opened.as_ref().and_then(|listener| listener.local_addr().ok());
        let mut group = Self::new(actual.unwrap_or(address), own_region);
        let lock = match group.gather() {
            Ok(lock) => Some(lock),
            Err(reason) => {
                warn!("{}: shared without handing over, {reason}", group.address);
                None
            }
        };
        let mut given = None;
        if let Stage::Joining { region, .. } = mem::replace(&mut group.stage, Stage::Joined) {
            // A duplicate, as one is passed on. Without it this process counts for itself.
            given = region.as_ref().and_then(|region| region.try_clone().ok());
            group.region = region.or_else(|| group.region.take());
        }
        match (opened, group.ledger.orphan()) {
            (Some(listener), _) => group.claim_new(listener)?,
            (None, Some(orphan)) => group.take_over(orphan, unacknowledged),
            (None, None) => group.claim_new(listen(group.address, unacknowledged)?)?,
        }
        group.settle();
        // Not before all have been told: the next one must not take the same.
        drop(lock);
        Ok(Joined { group, region: given })
    }

    /// A group of one, with a listener that somebody else looks after when this process leaves or dies.
    pub fn of_one(listener: TcpListener) -> io::Result<Self> {
        let mut group = Self::new(listener.local_addr()?, None);
        group.stage = Stage::Joined;
        let id = ListenerId(listener::cookie(&listener)?);
        group.hold(id, listener);
        group.apply(Event::Claim(id));
        Ok(group)
    }

    /// Gets in touch with the others, and learns what they have. The next may join when the lock is dropped.
    fn gather(&mut self) -> Result<JoinLock, Reason> {
        let mut clock = Clock::new();
        let lock = JoinLock::take(self.address, &mut clock)?;
        let found = names::list(self.address);
        let found = found.map_err(|error| Reason::System("list Unix names", error))?;
        let meeting = names::open_meeting(self.address);
        let meeting = meeting.map_err(|error| Reason::System("bind a Unix name", error))?;
        self.meeting = Meeting::Open(meeting);
        let mut met = BTreeSet::new();
        for name in found {
            // One that has gone since, or that others besiege, is as good as not there.
            let link = names::connect_to(&name).ok().and_then(|socket| self.take_in(socket));
            met.extend(link);
        }
        self.stage = Stage::Joining { awaited: met.clone(), region: None };
        for key in met {
            self.links.say(key, Message::AskRegion, None);
            self.links.say(key, Message::Hello, None);
        }
        let give_up_at_ns = clock.now_ns().saturating_add(ANSWER_PATIENCE_NS);
        self.hear_all(give_up_at_ns, &mut clock)?;
        Ok(lock)
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
            names::wait(&sockets, patience_ns)
                .map_err(|error| Reason::System("wait for the others", error))?;
            for key in awaited {
                self.read(key);
            }
        }
    }

    /// Makes a listener this process's own that nobody else has.
    fn claim_new(&mut self, listener: TcpListener) -> Result<(), ListenError> {
        let cookie = listener::cookie(&listener);
        let cookie = cookie.map_err(|error| ListenError::new(self.address, error))?;
        self.hold(ListenerId(cookie), listener);
        self.claim(ListenerId(cookie));
        Ok(())
    }

    /// Makes an orphan this process's own, as if it had opened it: its flags may be others than those of the
    /// process that did.
    fn take_over(&mut self, id: ListenerId, unacknowledged: Duration) {
        if let Some(listener) = self.listeners.get(&id)
            && let Err(error) = renew(listener, unacknowledged)
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
