//! The counts of one slot, each with the identity of its series.
//!
//! A slot has two banks, of which one is in use. An owner whose version has the same table as the previous owner
//! continues in the bank in use. Another version fills the other bank, in the order of its own table, while the
//! bank in use stays as it is, and then switches. So a process that is killed at any moment leaves either the old
//! bank or the new one, and both have all counts.
//!
//! Counters that the new owner does not know are appended behind its own. It never changes them; a later owner
//! that knows them continues from there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{
    Slot,
    families::CELLS,
    ids::{Schema, is_gauge},
};

/// The maximum number of cells in a bank: those that the owner knows, and those that it keeps for others.
pub(super) const CELLS_MAX: usize = 1022;
/// Length of the second half of a bank in words, so that it begins and ends with a page.
const VALUES: usize = 1024;

const _: () = assert!(CELLS <= CELLS_MAX);

/// The counts of one slot.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Bank {
    /// The fingerprint of the table of the version that filled it.
    fingerprint: AtomicU64,
    /// The number of cells.
    len: AtomicU64,
    ids: [AtomicU64; CELLS_MAX],
    /// The first values, which are all that a version counts in.
    slot: Slot,
    rest: [AtomicU64; VALUES - CELLS],
}

impl Bank {
    /// The cells of an owner that has filled this bank.
    pub(super) const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether the first cells are those of `schema`, in its order.
    pub(super) fn is_of(&self, schema: &Schema<'_>) -> bool {
        self.fingerprint.load(Relaxed) == schema.fingerprint
    }

    /// The value at a place.
    #[cfg(test)]
    pub(super) fn value(&self, place: usize) -> Option<&AtomicU64> {
        self.values().nth(place)
    }

    fn values(&self) -> impl Iterator<Item = &AtomicU64> {
        self.slot.cells().iter().chain(&self.rest)
    }

    /// Identity and value of each cell.
    fn cells(&self) -> impl Iterator<Item = (u64, &AtomicU64)> {
        let len = usize::try_from(self.len.load(Relaxed)).unwrap_or(CELLS_MAX);
        self.ids.iter().map(|id| id.load(Relaxed)).zip(self.values()).take(len)
    }

    /// Reads the values of the cells of `schema`, in its order. A cell that is not in this bank is 0.
    pub(super) fn read(&self, schema: &Schema<'_>, values: &mut [u64]) {
        if self.is_of(schema) {
            for (value, cell) in values.iter_mut().zip(self.values()) {
                *value = cell.load(Relaxed);
            }
            return;
        }
        values.fill(0);
        // Versions have most cells in the same order: the next one is searched for behind the last one found.
        let (mut next, len) = (0, schema.ids.len());
        for (id, cell) in self.cells() {
            let found =
                (next..len).chain(0..next).find(|place| schema.ids.get(*place) == Some(&id));
            if let Some((place, value)) =
                found.and_then(|place| Some((place, values.get_mut(place)?)))
            {
                *value = cell.load(Relaxed);
                next = place + 1;
            }
        }
    }

    /// Zeroes the gauges of the previous owner.
    pub(super) fn clear_gauges(&self) {
        for (_, cell) in self.cells().filter(|(id, _)| is_gauge(*id)) {
            cell.store(0, Relaxed);
        }
    }

    /// Fills this bank, which is not in use, with the cells of `schema` and the counters of `previous`. Returns
    /// whether there is room for all of them.
    pub(super) fn fill(&self, schema: &Schema<'_>, previous: Option<&Self>) -> bool {
        let mut values = [0; CELLS_MAX];
        if let Some(previous) = previous {
            previous.read(schema, &mut values);
        }
        let known = schema.ids.iter().zip(values);
        let known = known.map(|(id, value)| (*id, if is_gauge(*id) { 0 } else { value }));
        let unknown = previous.into_iter().flat_map(Self::cells);
        let unknown = unknown.map(|(id, cell)| (id, cell.load(Relaxed)));
        let unknown =
            unknown.filter(|(id, value)| *value != 0 && !is_gauge(*id) && !schema.ids.contains(id));
        let (mut len, mut places) = (0, self.ids.iter().zip(self.values()));
        for (id, value) in known.chain(unknown) {
            let Some((id_cell, value_cell)) = places.next() else { return false };
            id_cell.store(id, Relaxed);
            value_cell.store(value, Relaxed);
            len += 1;
        }
        self.fingerprint.store(schema.fingerprint, Relaxed);
        self.len.store(len, Relaxed);
        true
    }
}
