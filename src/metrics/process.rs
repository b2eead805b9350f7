//! What the operating system counts for the processes, as far as the metrics know it: plain data, handed in.
//!
//! A process can read its own figures only, so each worker puts them into its slot now and then, and a scrape
//! adds up what it finds there. Processor time is a counter of the slot, to which each owner adds what it has
//! used since it last told; all else is a gauge of the owner.

use crate::metrics::{Counter, Gauge};

/// The figures of one process, or of all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Processor time spent so far, user and system, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Most file descriptors the process may have open.
    pub max_fds: u64,
    /// Size of the address space in bytes.
    pub virtual_memory_bytes: u64,
    /// Memory in RAM in bytes.
    pub resident_memory_bytes: u64,
    /// When the process started, in nanoseconds since 1970-01-01T00:00:00Z; of several the oldest. Zero:
    /// nobody has told anything.
    pub start_time_ns: u64,
}

impl Process {
    /// No process.
    pub(super) const fn empty() -> Self {
        Self {
            cpu_time_ns: 0,
            open_fds: 0,
            max_fds: 0,
            virtual_memory_bytes: 0,
            resident_memory_bytes: 0,
            start_time_ns: 0,
        }
    }

    /// Adds the processor time of all owners of a slot, those that are gone among them.
    pub(super) fn add_counters(&mut self, told: &ProcessGauges) {
        super::add(&mut self.cpu_time_ns, &told.cpu_time_ns);
    }

    /// Adds what the living owner of a slot has told.
    pub(super) fn add_gauges(&mut self, told: &ProcessGauges) {
        self.open_fds = self.open_fds.saturating_add(told.open_fds.get());
        // Saturating: unlimited and unlimited is unlimited.
        self.max_fds = self.max_fds.saturating_add(told.max_fds.get());
        self.virtual_memory_bytes =
            self.virtual_memory_bytes.saturating_add(told.virtual_memory_bytes.get());
        self.resident_memory_bytes =
            self.resident_memory_bytes.saturating_add(told.resident_memory_bytes.get());
        self.start_time_ns = match (self.start_time_ns, told.start_time_ns.get()) {
            (0, one) | (one, 0) => one,
            (one, other) => one.min(other),
        };
    }
}

/// The figures of the process that owns a slot, as it told them last.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ProcessGauges {
    cpu_time_ns: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_memory_bytes: Gauge,
    resident_memory_bytes: Gauge,
    start_time_ns: Gauge,
}

impl ProcessGauges {
    pub(super) const fn new() -> Self {
        Self {
            cpu_time_ns: Counter::new(),
            open_fds: Gauge::new(),
            max_fds: Gauge::new(),
            virtual_memory_bytes: Gauge::new(),
            resident_memory_bytes: Gauge::new(),
            start_time_ns: Gauge::new(),
        }
    }

    /// Zeroes what belongs to the owner that is gone.
    pub(super) fn claim(&self) {
        self.set(&Process::empty());
    }

    /// Takes in the figures of the owner, who told `cpu_told_ns` of its processor time before.
    pub(super) fn tell(&self, process: &Process, cpu_told_ns: u64) {
        self.cpu_time_ns.add(process.cpu_time_ns.saturating_sub(cpu_told_ns));
        self.set(process);
    }

    fn set(&self, process: &Process) {
        self.open_fds.set(process.open_fds);
        self.max_fds.set(process.max_fds);
        self.virtual_memory_bytes.set(process.virtual_memory_bytes);
        self.resident_memory_bytes.set(process.resident_memory_bytes);
        self.start_time_ns.set(process.start_time_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(n: u64) -> Process {
        Process {
            cpu_time_ns: n,
            open_fds: 10 * n,
            max_fds: 100 * n,
            virtual_memory_bytes: 1000 * n,
            resident_memory_bytes: 500 * n,
            start_time_ns: 10_000 - n,
        }
    }

    /// The sum over those that have counted and those that live.
    fn sum(counted: &[&ProcessGauges], living: &[&ProcessGauges]) -> Process {
        let mut sum = Process::empty();
        for figures in counted {
            sum.add_counters(figures);
        }
        for figures in living {
            sum.add_gauges(figures);
        }
        sum
    }

    #[test]
    fn sums_are_over_the_living_and_processor_time_is_over_all() {
        let slots = [ProcessGauges::new(), ProcessGauges::new(), ProcessGauges::new()];
        for (figures, n) in slots.iter().zip([1, 2, 4]) {
            figures.tell(&process(n), 0);
        }
        let [one, two, dead] = &slots;
        let sum = sum(&[one, two, dead], &[one, two]);
        assert_eq!(sum, Process { cpu_time_ns: 7, start_time_ns: 9_998, ..process(3) });
    }

    #[test]
    fn processor_time_goes_on_from_owner_to_owner() {
        let figures = ProcessGauges::new();
        let total = || sum(&[&figures], &[]).cpu_time_ns;
        figures.tell(&process(5), 0);
        figures.tell(&process(8), 5);
        figures.claim();
        assert_eq!(total(), 8);
        figures.tell(&process(3), 0);
        figures.tell(&process(2), 3);
        assert_eq!(total(), 11, "a clock that goes backwards takes nothing away");
    }

    #[test]
    fn whoever_has_told_nothing_is_not_the_oldest() {
        let (told, silent) = (ProcessGauges::new(), ProcessGauges::new());
        told.tell(&process(1), 0);
        assert_eq!(sum(&[], &[&told, &silent]).start_time_ns, 9_999);
        assert_eq!(sum(&[], &[&silent, &told]).start_time_ns, 9_999);
        told.max_fds.set(u64::MAX);
        assert_eq!(sum(&[], &[&told, &told]).max_fds, u64::MAX, "unlimited");
    }
}
