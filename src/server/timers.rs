//! Deadlines of connections: one first-in-first-out list for each kind of timeout.
//!
//! All deadlines of a kind are set the same time ahead, so a list in order of arrival is in order of expiry. Setting,
//! cancelling and expiring cost the same however many there are. A connection has at most one deadline. The lists
//! are linked through an array indexed by the key of the connection. The time is an argument.
//!
//! A deadline limits the time that a client takes, not the time for which this process does not run. So a deadline that
//! has passed is only a suspicion: the loop reads the socket once more before it acts ([`TURNS_BEFORE_EXPIRY`]), and a
//! pause of the process postpones all deadlines ([`Timers::resume`]).

use crate::http::conn::TimeoutKind;

/// Marks the end of a list, in place of a key.
const NONE: u32 = u32::MAX;

/// Turns that a connection gets after its deadline. They empty a receive buffer, so that a request that was waiting
/// there is not timed out.
pub const TURNS_BEFORE_EXPIRY: u32 = 8;

/// Maximum time between two iterations while a client sends or receives. A longer time is a pause.
const WAKE_UP_NS: u64 = 1_000_000_000;

/// Maximum delay of a wake-up. A longer one means that the process was stopped or starved.
const DELAY_MAX_NS: u64 = 500_000_000;

/// Deadlines by the key of a connection. Times are in nanoseconds since any fixed origin.
#[derive(Debug)]
pub struct Timers {
    lists: [List; TimeoutKind::COUNT],
    links: Vec<DeadlineEntry>,
    /// The total of all pauses. Stored deadlines are this much too early.
    paused_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct List {
    limit_ns: u64,
    first: u32,
    last: u32,
}

/// The entry of one connection.
#[derive(Clone, Copy, Debug)]
struct DeadlineEntry {
    deadline_ns: u64,
    previous: u32,
    next: u32,
    kind: Option<TimeoutKind>,
}

const UNSET: DeadlineEntry =
    DeadlineEntry { deadline_ns: 0, previous: NONE, next: NONE, kind: None };

impl Timers {
    /// Returns timers without deadlines. Those of each kind will be set `limits_ns` ahead.
    pub fn new(limits_ns: [u64; TimeoutKind::COUNT]) -> Self {
        let lists = limits_ns.map(|limit_ns| List { limit_ns, first: NONE, last: NONE });
        Self { lists, links: Vec::new(), paused_ns: 0 }
    }

    /// The time limit of this kind.
    pub fn limit_ns(&self, kind: TimeoutKind) -> u64 {
        self.lists.get(kind as usize).map_or(0, |list| list.limit_ns)
    }

    /// Sets the deadline of `key`, replacing any it has.
    pub fn set(&mut self, key: usize, kind: TimeoutKind, now_ns: u64) {
        self.cancel(key);
        if key >= self.links.len() {
            self.links.resize(key + 1, UNSET);
        }
        let Some(list) = self.lists.get_mut(kind as usize) else { return };
        let Ok(key) = u32::try_from(key) else { return };
        let previous = std::mem::replace(&mut list.last, key);
        let deadline_ns = now_ns.saturating_sub(self.paused_ns).saturating_add(list.limit_ns);
        if previous == NONE {
            list.first = key;
        }
        if let Some(link) = self.links.get_mut(key as usize) {
            *link = DeadlineEntry { deadline_ns, previous, next: NONE, kind: Some(kind) };
        }
        if let Some(link) = self.links.get_mut(previous as usize) {
            link.next = key;
        }
    }

    /// Removes the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        let DeadlineEntry { previous, next, kind, .. } = std::mem::replace(link, UNSET);
        let Some(list) = kind.and_then(|kind| self.lists.get_mut(kind as usize)) else { return };
        match self.links.get_mut(previous as usize) {
            Some(link) => link.next = next,
            None => list.first = next,
        }
        match self.links.get_mut(next as usize) {
            Some(link) => link.previous = previous,
            None => list.last = previous,
        }
    }

    /// The earliest of all deadlines.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.firsts().map(|(_, deadline_ns)| deadline_ns).min()
    }

    /// When the next iteration must begin at the latest: at the earliest deadline, and soon enough to notice a pause
    /// while a client sends or receives.
    pub fn next_wake_up_ns(&self, now_ns: u64) -> Option<u64> {
        let is_active = [TimeoutKind::Head, TimeoutKind::Body, TimeoutKind::Write]
            .into_iter()
            .any(|kind| self.lists.get(kind as usize).is_some_and(|list| list.first != NONE));
        let deadline_ns = self.next_deadline_ns()?;
        Some(if is_active { deadline_ns.min(now_ns + WAKE_UP_NS) } else { deadline_ns })
    }

    /// Records that the iteration after the one at `previous_ns` was due at `due_ns` and has begun at `now_ns`. If that
    /// is late, all deadlines are postponed. Some time counts nevertheless, so that deadlines expire on a machine that
    /// is always late.
    pub fn resume(&mut self, previous_ns: u64, due_ns: u64, now_ns: u64) {
        if now_ns.saturating_sub(due_ns) > DELAY_MAX_NS {
            let gap_ns = now_ns.saturating_sub(previous_ns);
            self.paused_ns = self.paused_ns.saturating_add(gap_ns.saturating_sub(DELAY_MAX_NS));
        }
    }

    /// Removes a deadline that has passed. Returns its key.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<usize> {
        let (key, _) = self.firsts().find(|(_, deadline_ns)| *deadline_ns <= now_ns)?;
        self.cancel(key);
        Some(key)
    }

    /// The keys with a deadline of this kind, in the order in which it was set, and when that was, without the pauses
    /// since.
    pub fn waiting(&self, kind: TimeoutKind) -> impl Iterator<Item = (usize, u64)> {
        let first = self.lists.get(kind as usize).map_or(NONE, |list| list.first);
        let next = |key: &usize| self.links.get(*key).map(|link| link.next as usize);
        let keys = std::iter::successors(Some(first as usize), next);
        keys.map_while(|key| Some((key, self.since(key)?.1)))
    }

    /// The kind of the deadline of `key`, and when it was set, without the pauses since.
    pub fn since(&self, key: usize) -> Option<(TimeoutKind, u64)> {
        let link = self.links.get(key)?;
        let kind = link.kind?;
        let since_ns = (link.deadline_ns + self.paused_ns).saturating_sub(self.limit_ns(kind));
        Some((kind, since_ns))
    }

    /// Releases the memory of keys from `keys` on. They must have no deadlines.
    pub fn shrink_to(&mut self, keys: usize) {
        debug_assert!(self.links.iter().skip(keys).all(|link| link.kind.is_none()));
        self.links.truncate(keys);
        self.links.shrink_to_fit();
    }

    /// The first key of each list with its deadline.
    fn firsts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.lists.iter().filter_map(|list| {
            let link = self.links.get(list.first as usize)?;
            Some((list.first as usize, link.deadline_ns.saturating_add(self.paused_ns)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS_NS: [u64; TimeoutKind::COUNT] = [10, 20, 60, 30, 5];

    fn expired(timers: &mut Timers, now_ns: u64) -> Vec<usize> {
        std::iter::from_fn(|| timers.pop_expired(now_ns)).collect()
    }

    #[test]
    fn deadlines_expire_in_order() {
        let mut timers = Timers::new(LIMITS_NS);
        assert_eq!(timers.next_deadline_ns(), None);
        timers.set(3, TimeoutKind::Head, 0);
        timers.set(1, TimeoutKind::Head, 4);
        timers.set(2, TimeoutKind::Linger, 7);
        assert_eq!(timers.next_deadline_ns(), Some(10));
        assert_eq!(expired(&mut timers, 9), []);
        assert_eq!(expired(&mut timers, 12), [3, 2]);
        assert_eq!(expired(&mut timers, 14), [1]);
        assert_eq!(timers.next_deadline_ns(), None);
    }

    #[test]
    fn setting_a_deadline_again_moves_it_to_the_end() {
        let mut timers = Timers::new(LIMITS_NS);
        for (key, now_ns) in [(0, 0), (1, 1), (2, 2)] {
            timers.set(key, TimeoutKind::Idle, now_ns);
        }
        timers.set(0, TimeoutKind::Idle, 3);
        assert_eq!(timers.waiting(TimeoutKind::Idle).next(), Some((1, 1)));
        timers.set(1, TimeoutKind::Write, 4);
        assert_eq!(timers.waiting(TimeoutKind::Idle).next(), Some((2, 2)));
        assert_eq!(expired(&mut timers, 100), [2, 0, 1]);
    }

    #[test]
    fn any_sequence_agrees_with_a_plain_list() {
        let mut timers = Timers::new(LIMITS_NS);
        let mut model: Vec<(u64, usize)> = Vec::new();
        let mut state = 1_u64;
        for now_ns in 0..5_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 33) as usize % 20;
            let kind = TimeoutKind::ALL[(state >> 40) as usize % TimeoutKind::COUNT];
            model.retain(|(_, other)| *other != key);
            if state >> 60 < 12 {
                timers.set(key, kind, now_ns);
                model.push((now_ns + LIMITS_NS[kind as usize], key));
            } else {
                timers.cancel(key);
            }
            assert_eq!(timers.next_deadline_ns(), model.iter().map(|entry| entry.0).min());
            if (state >> 50).is_multiple_of(8) {
                let mut found = expired(&mut timers, now_ns);
                let mut due: Vec<usize> = Vec::new();
                model.retain(|(deadline_ns, key)| {
                    let is_due = *deadline_ns <= now_ns;
                    due.extend(is_due.then_some(*key));
                    !is_due
                });
                found.sort_unstable();
                due.sort_unstable();
                assert_eq!(found, due);
            }
        }
    }

    #[test]
    fn a_pause_postpones_all_deadlines() {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut timers = Timers::new([10 * SECOND_NS; TimeoutKind::COUNT]);
        timers.set(1, TimeoutKind::Body, 0);
        assert_eq!(timers.next_wake_up_ns(0), Some(SECOND_NS), "soon, as the client is sending");
        timers.resume(0, SECOND_NS, SECOND_NS + DELAY_MAX_NS);
        assert_eq!(timers.next_deadline_ns(), Some(10 * SECOND_NS), "a delay is no pause");
        timers.resume(SECOND_NS, 2 * SECOND_NS, 31 * SECOND_NS);
        let deadline_ns = 40 * SECOND_NS - DELAY_MAX_NS;
        assert_eq!(timers.next_deadline_ns(), Some(deadline_ns), "30 s were a pause");
        assert_eq!(
            timers.waiting(TimeoutKind::Body).next(),
            Some((1, deadline_ns - 10 * SECOND_NS))
        );
        timers.set(2, TimeoutKind::Idle, 31 * SECOND_NS);
        assert_eq!(expired(&mut timers, deadline_ns - 1), []);
        assert_eq!(expired(&mut timers, deadline_ns), [1]);
        assert_eq!(timers.next_wake_up_ns(40 * SECOND_NS), Some(41 * SECOND_NS));
        assert_eq!(expired(&mut timers, 41 * SECOND_NS), [2], "set after the pause");
    }

    #[test]
    fn deadlines_expire_on_a_machine_that_is_always_late() {
        let mut timers = Timers::new([10_000_000_000; TimeoutKind::COUNT]);
        timers.set(0, TimeoutKind::Write, 0);
        let mut now_ns = 0;
        while timers.pop_expired(now_ns).is_none() {
            timers.resume(now_ns, now_ns, now_ns + 2 * DELAY_MAX_NS);
            now_ns += 2 * DELAY_MAX_NS;
        }
        assert_eq!(now_ns, 20_000_000_000, "half of the time counts");
    }

    #[test]
    fn an_idle_connection_wakes_nothing_before_its_deadline() {
        let mut timers = Timers::new([60_000_000_000; TimeoutKind::COUNT]);
        timers.set(0, TimeoutKind::Idle, 0);
        assert_eq!(timers.next_wake_up_ns(0), Some(60_000_000_000));
        timers.cancel(0);
        assert_eq!(timers.next_wake_up_ns(0), None);
    }

    #[test]
    fn memory_is_released() {
        let mut timers = Timers::new(LIMITS_NS);
        timers.set(10_000, TimeoutKind::Idle, 0);
        timers.cancel(10_000);
        timers.set(1, TimeoutKind::Idle, 0);
        timers.shrink_to(2);
        assert_eq!(timers.links.capacity(), 2);
        assert_eq!(expired(&mut timers, 60), [1]);
    }
}
