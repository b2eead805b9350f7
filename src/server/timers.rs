//! Deadlines of connections: one first-in-first-out list per class.
//!
//! All deadlines of a class lie the same time ahead when they are set, so that a list in order of arrival
//! is in order of expiry, and setting, cancelling and expiring cost the same however many there are. A
//! connection has at most one deadline. The lists are linked through an array that is indexed by the
//! connection's key; the time is an argument.

/// What a deadline is for. The order is that of the time limits given to [`Timers::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The whole head of a request, from the accepted connection or its first byte.
    Head,
    /// The whole body of a request, from the end of its head.
    Body,
    /// The next request on a kept connection, from the last answer.
    Idle,
    /// Progress in writing.
    Write,
    /// The peer's end of stream after the last answer.
    Linger,
}

impl Class {
    /// Every class, in the order of the discriminants.
    pub const ALL: [Self; CLASSES] =
        [Self::Head, Self::Body, Self::Idle, Self::Write, Self::Linger];
}

/// Number of classes.
pub const CLASSES: usize = 5;

/// Ends a list, where a key would go on with it.
const NONE: u32 = u32::MAX;

/// Deadlines by the key of a connection. Times are nanoseconds since an origin of the caller's choice.
#[derive(Debug)]
pub struct Timers {
    lists: [List; CLASSES],
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    limit_ns: u64,
    first: u32,
    last: u32,
}

/// One connection's place in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    deadline_ns: u64,
    previous: u32,
    next: u32,
    class: Option<Class>,
}

const UNSET: Link = Link { deadline_ns: 0, previous: NONE, next: NONE, class: None };

impl Timers {
    /// No deadlines yet; those of each class will lie the given number of nanoseconds ahead.
    pub fn new(limits_ns: [u64; CLASSES]) -> Self {
        let lists = limits_ns.map(|limit_ns| List { limit_ns, first: NONE, last: NONE });
        Self { lists, links: Vec::new() }
    }

    /// Sets the deadline of `key`, in place of the one it may have had.
    pub fn set(&mut self, key: usize, class: Class, now_ns: u64) {
        self.cancel(key);
        if key >= self.links.len() {
            self.links.resize(key + 1, UNSET);
        }
        let Some(list) = self.lists.get_mut(class as usize) else { return };
        let Ok(key) = u32::try_from(key) else { return };
        let previous = std::mem::replace(&mut list.last, key);
        let deadline_ns = now_ns.saturating_add(list.limit_ns);
        if previous == NONE {
            list.first = key;
        }
        if let Some(link) = self.links.get_mut(key as usize) {
            *link = Link { deadline_ns, previous, next: NONE, class: Some(class) };
        }
        if let Some(link) = self.links.get_mut(previous as usize) {
            link.next = key;
        }
    }

    /// Removes the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        let Link { previous, next, class, .. } = std::mem::replace(link, UNSET);
        let Some(list) = class.and_then(|class| self.lists.get_mut(class as usize)) else { return };
        match self.links.get_mut(previous as usize) {
            Some(link) => link.next = next,
            None => list.first = next,
        }
        match self.links.get_mut(next as usize) {
            Some(link) => link.previous = previous,
            None => list.last = previous,
        }
    }

    /// The earliest deadline of all.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.firsts().map(|(_, deadline_ns)| deadline_ns).min()
    }

    /// Removes a deadline that has come and returns its key.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<usize> {
        let (key, _) = self.firsts().find(|(_, deadline_ns)| *deadline_ns <= now_ns)?;
        self.cancel(key);
        Some(key)
    }

    /// The key that has waited longest in `class`, and since when.
    pub fn oldest(&self, class: Class) -> Option<(usize, u64)> {
        let list = self.lists.get(class as usize)?;
        let link = self.links.get(list.first as usize)?;
        Some((list.first as usize, link.deadline_ns.saturating_sub(list.limit_ns)))
    }

    /// Gives memory back that keys from `keys` on have used. They have no deadlines any more.
    pub fn shrink_to(&mut self, keys: usize) {
        debug_assert!(self.links.iter().skip(keys).all(|link| link.class.is_none()));
        self.links.truncate(keys);
        self.links.shrink_to_fit();
    }

    /// The first key of each list with its deadline.
    fn firsts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.lists.iter().filter_map(|list| {
            let link = self.links.get(list.first as usize)?;
            Some((list.first as usize, link.deadline_ns))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS_NS: [u64; CLASSES] = [10, 20, 60, 30, 5];

    fn expired(timers: &mut Timers, now_ns: u64) -> Vec<usize> {
        std::iter::from_fn(|| timers.pop_expired(now_ns)).collect()
    }

    #[test]
    fn deadlines_come_in_order() {
        let mut timers = Timers::new(LIMITS_NS);
        assert_eq!(timers.next_deadline_ns(), None);
        timers.set(3, Class::Head, 0);
        timers.set(1, Class::Head, 4);
        timers.set(2, Class::Linger, 7);
        assert_eq!(timers.next_deadline_ns(), Some(10));
        assert_eq!(expired(&mut timers, 9), []);
        assert_eq!(expired(&mut timers, 12), [3, 2]);
        assert_eq!(expired(&mut timers, 14), [1]);
        assert_eq!(timers.next_deadline_ns(), None);
    }

    #[test]
    fn setting_again_moves_to_the_end() {
        let mut timers = Timers::new(LIMITS_NS);
        for (key, now_ns) in [(0, 0), (1, 1), (2, 2)] {
            timers.set(key, Class::Idle, now_ns);
        }
        timers.set(0, Class::Idle, 3);
        assert_eq!(timers.oldest(Class::Idle), Some((1, 1)));
        timers.set(1, Class::Write, 4);
        assert_eq!(timers.oldest(Class::Idle), Some((2, 2)));
        assert_eq!(expired(&mut timers, 100), [2, 0, 1]);
    }

    /// Every sequence of operations leaves what a plain list of deadlines would have.
    #[test]
    fn agrees_with_a_plain_list() {
        let mut timers = Timers::new(LIMITS_NS);
        let mut model: Vec<(u64, usize)> = Vec::new();
        let mut state = 1_u64;
        for now_ns in 0..5_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 33) as usize % 20;
            let class = Class::ALL[(state >> 40) as usize % CLASSES];
            model.retain(|(_, other)| *other != key);
            if state >> 60 < 12 {
                timers.set(key, class, now_ns);
                model.push((now_ns + LIMITS_NS[class as usize], key));
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
    fn memory_is_given_back() {
        let mut timers = Timers::new(LIMITS_NS);
        timers.set(10_000, Class::Idle, 0);
        timers.cancel(10_000);
        timers.set(1, Class::Idle, 0);
        timers.shrink_to(2);
        assert_eq!(timers.links.capacity(), 2);
        assert_eq!(expired(&mut timers, 60), [1]);
    }
}
