//! A slot that belongs to one worker.

use std::{cell::Cell, fs::File, ops::Deref};

use crate::metrics::{
    METRICS_SHARED, Process, Slot, Snapshot, WORKERS,
    ids::SCHEMA,
    shared::{SharedMemory, SharedMemoryError, layout::Layout, locks, sum},
};

/// The right to count in a slot, and the slots that a scrape adds up. Dropping it releases the slot, and leaves
/// the counters in it.
#[derive(Debug)]
pub struct Claim {
    slot: &'static Slot,
    source: Source,
    /// CPU time of this process that the slot has already, in nanoseconds.
    cpu_recorded_ns: u64,
    coverage: Cell<Coverage>,
}

/// Whether all processes on the port count in the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// They do.
    Complete,
    /// They do not, or it is not known.
    Incomplete,
}

/// Where the slot is.
#[derive(Debug)]
enum Source {
    Private,
    Shared {
        layout: &'static Layout,
        /// The description that holds the slot's lock.
        file: File,
        index: usize,
    },
}

impl Claim {
    /// A slot in private memory, which only this process can add up.
    pub fn private() -> Self {
        // Never freed: a process has one, for as long as it runs.
        Self::new(Box::leak(Box::new(Slot::new())), Source::Private)
    }

    /// A slot in shared memory whose lock `file` has.
    pub(super) fn shared(
        layout: &'static Layout,
        file: File,
        index: usize,
        slot: &'static Slot,
    ) -> Self {
        Self::new(slot, Source::Shared { layout, file, index })
    }

    fn new(slot: &'static Slot, source: Source) -> Self {
        slot.set(WORKERS, 1);
        Self { slot, source, cpu_recorded_ns: 0, coverage: Cell::new(Coverage::Complete) }
    }

    /// Sets whether all processes on the port count in the same memory.
    pub fn set_coverage(&self, coverage: Coverage) {
        self.coverage.set(coverage);
    }

    /// Continues in a slot of another memory, which then has all counts of this one. Counts of former owners in the
    /// memory that is left move as well, once.
    pub fn move_to(&mut self, memory: &SharedMemory) -> Result<(), SharedMemoryError> {
        let new = memory.claim()?;
        if let Source::Shared { layout, file, index: own } = &self.source {
            for index in (0..layout.slots_used()).filter(|index| index != own) {
                if locks::begin_claim(file, index)? {
                    if let Some(bank) = layout.claim(index, &SCHEMA) {
                        new.slot.absorb(bank.slot());
                    }
                    locks::release(file, index)?;
                }
            }
        }
        new.slot.absorb(self.slot);
        (self.slot, self.source) = (new.slot, new.source);
        Ok(())
    }

    /// The slot, for code that counts.
    pub const fn slot(&self) -> &'static Slot {
        self.slot
    }

    /// The sum over all workers that this one can read.
    pub fn snapshot(&self) -> Snapshot {
        match &self.source {
            Source::Private => Snapshot::of(std::iter::once(self.slot)),
            Source::Shared { layout, file, index } => {
                let mut snapshot = sum(layout, file, Some(*index));
                if self.coverage.get() == Coverage::Incomplete {
                    snapshot.set(METRICS_SHARED, 0);
                }
                snapshot
            }
        }
    }

    /// Records what the operating system counts for this process.
    pub fn record_process(&mut self, process: &Process) {
        self.slot.record_process(process, self.cpu_recorded_ns);
        self.cpu_recorded_ns = process.cpu_time_ns;
    }
}

impl Deref for Claim {
    type Target = Slot;

    #[inline]
    fn deref(&self) -> &Slot {
        self.slot
    }
}
