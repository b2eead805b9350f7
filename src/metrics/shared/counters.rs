//! The slot that a worker counts in, wherever it lies.

#![expect(
    unsafe_code,
    reason = "a request counts a dozen times, and should not ask each time where the slot is"
)]

use std::{ops::Deref, ptr::NonNull, sync::Arc};

use crate::metrics::{
    Process, Slot, Snapshot,
    shared::{Holder, layout::Mapping, sum},
};

/// What one worker counts: it is the one writer of the [`Slot`] behind it. Dropping it gives the slot back,
/// with the counters in it.
#[derive(Debug)]
pub struct Counters {
    /// The slot that `place` keeps.
    slot: NonNull<Slot>,
    place: Place,
    /// Processor time of this process that is in the slot already, in nanoseconds.
    cpu_told_ns: u64,
}

/// What keeps the slot where it is.
#[derive(Debug)]
enum Place {
    Private(Arc<Slot>),
    Shared { mapping: Arc<Mapping>, holder: Holder, index: usize },
}

impl Counters {
    /// Counters of this process alone, which nobody else can see.
    pub fn private() -> Self {
        let slot = Arc::new(Slot::new());
        slot.claim();
        Self { slot: NonNull::from(&*slot), place: Place::Private(slot), cpu_told_ns: 0 }
    }

    /// Counters in a slot that has been claimed, by a lock that `holder` has.
    pub(super) fn shared(mapping: Arc<Mapping>, holder: Holder, index: usize) -> Option<Self> {
        let slot = NonNull::from(mapping.layout().slot(index)?);
        let place = Place::Shared { mapping, holder, index };
        Some(Self { slot, place, cpu_told_ns: 0 })
    }

    /// The sum over all workers that this one knows of.
    pub fn snapshot(&self) -> Snapshot {
        match &self.place {
            Place::Private(slot) => Snapshot::of(std::iter::once(&**slot)),
            Place::Shared { mapping, holder, index } => sum(mapping, &holder.file, Some(*index)),
        }
    }

    /// Tells what the operating system counts for this process.
    pub fn tell_process(&mut self, process: &Process) {
        self.process.tell(process, self.cpu_told_ns);
        self.cpu_told_ns = process.cpu_time_ns;
    }
}

impl Deref for Counters {
    type Target = Slot;

    #[inline]
    fn deref(&self) -> &Slot {
        // SAFETY: it points to what `place` owns, or has mapped, for as long as `self` lives, and neither
        // moves. A `Slot` is atomic integers, to which no exclusive reference is ever made.
        unsafe { self.slot.as_ref() }
    }
}
