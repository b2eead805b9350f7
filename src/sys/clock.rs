//! The only module that reads the time.
//!
//! The event loop calls [`Clock::tick`] once per iteration. All other code takes the time as an argument.
//! Monotonic time is in nanoseconds since the clock was created. Wall time is read when a new second begins,
//! to render `Date`.

use std::time::{Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::http::{date, preamble::Preamble};

const SECOND_NS: u64 = 1_000_000_000;

/// Monotonic and wall time, as of the last tick.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    now_ns: u64,
    preamble: Preamble,
    /// Wall time for which the date was rendered, in seconds since 1970.
    unix_s: u64,
    /// Monotonic time at which the next second of wall time begins.
    date_valid_until_ns: u64,
}

impl Clock {
    /// Creates a clock that has ticked once.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        let mut clock = Self {
            origin: Instant::now(),
            now_ns: 0,
            preamble: Preamble::new(&date::imf_fixdate(0)),
            unix_s: 0,
            date_valid_until_ns: 0,
        };
        clock.tick();
        clock
    }

    /// Reads the time for the iteration that begins.
    pub fn tick(&mut self) {
        self.now_ns = self.read_ns();
        if self.now_ns >= self.date_valid_until_ns {
            self.render_date();
        }
    }

    /// Returns the nanoseconds from the clock's origin to the last tick.
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Reads the clock and returns the nanoseconds since the last tick.
    pub fn since_tick_ns(&self) -> u64 {
        self.read_ns().saturating_sub(self.now_ns)
    }

    /// Returns the start of a number's head, with the value of `Date` as of the last tick.
    pub const fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Returns the wall time as of the last tick, in milliseconds since 1970.
    pub const fn unix_ms(&self) -> u64 {
        let left_ns = self.date_valid_until_ns.saturating_sub(self.now_ns);
        self.unix_s * 1_000 + SECOND_NS.saturating_sub(left_ns) / 1_000_000
    }

    fn read_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[cold]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn render_date(&mut self) {
        // `Date` cannot represent a time before 1970.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.preamble = Preamble::new(&date::imf_fixdate(wall.as_secs()));
        self.unix_s = wall.as_secs();
        self.date_valid_until_ns = self.now_ns + SECOND_NS - u64::from(wall.subsec_nanos());
    }
}

/// Returns the wall time in milliseconds since 1970, for process events.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn wall_ms() -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the system-wide monotonic time in microseconds. All processes of the machine read the same value.
/// Use it only to report a point in time to another process.
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    u64::try_from(microseconds).unwrap_or_default()
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_advances_with_each_tick() {
        let mut clock = Clock::new();
        let before = clock.now_ns();
        assert_eq!(before, clock.now_ns(), "the time stands still between ticks");
        while clock.since_tick_ns() == 0 {}
        clock.tick();
        assert!(clock.now_ns() > before);
    }

    #[test]
    fn the_date_is_rendered_for_the_current_second() {
        let clock = Clock::new();
        assert!(clock.preamble().date().ends_with(b" GMT"));
        let left_ns = clock.date_valid_until_ns - clock.now_ns;
        assert!((1..=SECOND_NS).contains(&left_ns), "{left_ns}");
    }

    #[test]
    fn milliseconds_are_added_to_the_rendered_second() {
        let mut clock = Clock::new();
        (clock.unix_s, clock.date_valid_until_ns) = (784_111_777, 7 * SECOND_NS);
        for (now_ns, expected) in [
            (6 * SECOND_NS, 784_111_777_000),
            (6 * SECOND_NS + 999_999, 784_111_777_000),
            (6 * SECOND_NS + 123_000_000, 784_111_777_123),
            (7 * SECOND_NS - 1, 784_111_777_999),
        ] {
            clock.now_ns = now_ns;
            assert_eq!(clock.unix_ms(), expected);
        }
    }
}
