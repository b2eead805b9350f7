//! The check: compares the listed processes with the connected ones, and repairs the difference.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use log::{info, warn};

use crate::{
    group::{Group, PRIVATE, rendezvous},
    sys::{listener, user},
};

/// Time between two checks.
const INTERVAL_NS: u64 = 2_000_000_000;
/// Time between two checks while a process is missing.
const REPAIR_INTERVAL_NS: u64 = 500_000_000;

/// Whether the metrics include those of all processes on the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// They do.
    #[default]
    Complete,
    /// They do not.
    Incomplete,
}

/// State of the check.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// When the next one is due; 0 before the first.
    pub(super) due_ns: u64,
    /// The other processes that were listed last, without those of other users.
    pub(super) listed: BTreeSet<u64>,
    /// Processes of other users.
    foreign: BTreeSet<u64>,
    /// Why other processes cannot be found, if that is so.
    pub(super) failure: Option<String>,
    pub(super) sharing: Sharing,
    has_logged_foreign: bool,
}

impl Check {
    pub(super) fn log_foreign(&mut self) {
        if !std::mem::replace(&mut self.has_logged_foreign, true) {
            let reason = if user::is_verifiable() {
                "it runs as another user"
            } else {
                "this user is not mapped in the user namespace, so no user can be verified"
            };
            warn!("ignoring a process on this port: {reason}");
        }
    }
}

impl Group {
    /// Returns whether the metrics include those of all processes on the port.
    pub const fn sharing(&self) -> Sharing {
        self.check.sharing
    }

    /// Returns when the next check is due.
    pub const fn next_check_ns(&self) -> Option<u64> {
        if self.pool.is_of_worker() { None } else { Some(self.check.due_ns) }
    }

    /// Performs a check if one is due: connects to listed processes that are not connected.
    pub fn check(&mut self, now_ns: u64) {
        if self.next_check_ns().is_none_or(|due_ns| now_ns < due_ns) {
            return;
        }
        // Accepting may have failed for lack of descriptors.
        self.accept_links();
        for member in self.members.values_mut().filter(|member| member.hello.is_none()) {
            member.is_silent = member.was_checked;
            member.was_checked = true;
        }
        self.connect_to_listed();
        self.settle();
        self.agree_on_memory();
        let is_waiting = self.members.values().any(|member| member.hello.is_none());
        let is_repaired = !is_waiting && self.sharing() == Sharing::Complete;
        if is_repaired {
            let ownerless = self.pool.mark_complete();
            self.broadcast_held(&ownerless);
        }
        let interval_ns = if is_repaired { INTERVAL_NS } else { REPAIR_INTERVAL_NS };
        self.check.due_ns = now_ns.saturating_add(interval_ns);
    }

    /// Connects to listed processes that are not connected. Returns the new links.
    pub(super) fn connect_to_listed(&mut self) -> Vec<usize> {
        let listed = match rendezvous::list(&self.addresses) {
            Ok(listed) => listed,
            Err(error) => {
                self.check.failure = Some(format!("cannot list Unix names: {error}"));
                return Vec::new();
            }
        };
        self.check.failure = None;
        self.check.foreign.retain(|id| listed.iter().any(|name| name.id == *id));
        self.check.listed.clear();
        let own = self.id;
        let others = listed.into_iter().filter(|name| name.id != own);
        others.collect::<Vec<_>>().iter().filter_map(|name| self.connect_if_missing(name)).collect()
    }

    /// Connects to a listed process, unless it is connected.
    fn connect_if_missing(&mut self, name: &rendezvous::Name) -> Option<usize> {
        if self.check.foreign.contains(&name.id) {
            return None;
        }
        self.check.listed.insert(name.id);
        if self.is_connected(name.id) {
            return None;
        }
        let socket = rendezvous::connect_to(&name.text).ok()?;
        let Some(key) = self.connect_link(socket) else {
            // Another user may bind any name, so it does not affect sharing. If no user can be verified, it may be the
            // same user.
            if user::is_verifiable() {
                self.check.listed.remove(&name.id);
                self.check.foreign.insert(name.id);
            }
            return None;
        };
        if let Some(member) = self.members.get_mut(&key) {
            member.is_initiated = true;
            member.expected = Some(name.id);
        }
        Some(key)
    }

    fn is_connected(&self, id: u64) -> bool {
        self.members.values().any(|member| member.id() == Some(id))
    }

    /// Chooses the memory of the process that began to join first, if this one counts in other memory. All processes
    /// that are connected to each other choose the same.
    fn agree_on_memory(&mut self) {
        let own = if self.memory.id == PRIVATE { u64::MAX } else { self.id };
        let decided = self.members.values().filter_map(|member| {
            let hello = member.hello.filter(|hello| ![0, PRIVATE].contains(&hello.memory))?;
            (hello.id < own).then_some((hello, member.memory.as_ref()?))
        });
        let Some((hello, memory)) = decided.min_by_key(|(hello, _)| hello.id) else { return };
        let is_sent = listener::identity(memory).is_ok_and(|id| id == hello.memory);
        let is_other = hello.memory != self.memory.id && Some(hello.memory) != self.memory.rejected;
        if is_sent && is_other {
            info!(
                "process {} (version {}) counts in other memory; moving to it",
                hello.pid, hello.version
            );
            self.memory.agreed = memory.try_clone().ok();
        }
    }

    /// Sets the memory that this process is to count in from now on.
    pub fn agree_on(&mut self, memory: OwnedFd) {
        self.memory.agreed = Some(memory);
    }

    /// Returns the memory that this process is to count in from now on, once. Call [`Group::set_memory`] or
    /// [`Group::reject_memory`] with it.
    pub const fn take_agreed_memory(&mut self) -> Option<OwnedFd> {
        self.memory.agreed.take()
    }

    /// Records that this process cannot use some memory. It is not chosen again.
    pub fn reject_memory(&mut self, memory: BorrowedFd<'_>) {
        self.memory.rejected = listener::identity(memory).ok();
    }

    /// Returns the memory that this process counts in.
    pub fn memory(&self) -> Option<BorrowedFd<'_>> {
        self.memory.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Returns why the metrics do not include those of all processes on the port, if that is so.
    fn find_difference(&self) -> Option<String> {
        if self.memory.id == 0 {
            return None; // still joining
        }
        if self.memory.id == PRIVATE {
            return Some("this process counts in private memory".to_owned());
        }
        if let Some(failure) = &self.check.failure {
            return Some(failure.clone());
        }
        let unreachable = self.check.listed.iter().filter(|id| !self.is_connected(**id)).count();
        let silent = self.members.values().filter(|member| member.is_silent).count();
        if unreachable + silent > 0 {
            return Some(format!("{} do not respond", unreachable + silent));
        }
        let mut hellos = self.members.values().filter_map(|member| member.hello);
        // A process with identity 0 is still joining.
        let other = hellos.find(|hello| hello.memory != self.memory.id && hello.memory != 0)?;
        Some(format!("process {} (version {}) counts in other memory", other.pid, other.version))
    }

    /// Updates the state of sharing, and logs a change. A worker receives it from its supervisor.
    pub(super) fn update_sharing(&mut self) {
        if self.pool.is_of_worker() {
            return;
        }
        let problem = self.find_difference();
        let sharing = if problem.is_none() { Sharing::Complete } else { Sharing::Incomplete };
        if std::mem::replace(&mut self.check.sharing, sharing) == sharing {
            return;
        }
        match problem {
            None => info!("metrics are shared with all processes on the port again"),
            Some(problem) => {
                warn!("metrics are not shared with all processes on the port: {problem}");
            }
        }
    }
}
