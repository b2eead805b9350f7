//! The sum over the slots of all workers at one moment.

use crate::metrics::{
    Slot,
    families::{CELLS, FAMILIES},
    family::{
        Kind, Labels, Metric,
        kind::{Cumulative, Level, MetricKind},
    },
};

/// Whether a slot has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// Its owner is running.
    Alive,
    /// It has none: its counters remain, and its gauges mean nothing.
    Gone,
}

/// The sum over the slots of all workers at one moment, in plain numbers.
///
/// Each number is exact. Numbers that the owner of a slot writes one after the other may be one batch of
/// requests apart, since the owner continues counting while its slot is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    values: [u64; CELLS],
}

impl Snapshot {
    /// The sum over no slot.
    pub const fn empty() -> Self {
        Self { values: [0; CELLS] }
    }

    /// The sum over `slots`, all of which have an owner.
    #[expect(single_use_lifetimes, reason = "the elided form is not stable in impl Trait")]
    pub fn of<'a>(slots: impl Iterator<Item = &'a Slot>) -> Self {
        let mut snapshot = Self::empty();
        for slot in slots {
            snapshot.add(&slot.values(), OwnerState::Alive);
        }
        snapshot
    }

    /// Adds the values of a slot.
    pub(super) fn add(&mut self, values: &[u64; CELLS], owner: OwnerState) {
        // Sums wrap around, as counters do: what is in shared memory must not stop a scrape.
        for (total, value) in self.values.iter_mut().zip(values) {
            *total = total.wrapping_add(*value);
        }
        let (mut totals, mut values) = (self.values.as_mut_slice(), values.as_slice());
        for family in FAMILIES {
            let Some((of_family, after)) = totals.split_at_mut_checked(family.cells) else {
                return;
            };
            if family.kind.is_gauge() {
                for (total, value) in of_family.iter_mut().zip(values) {
                    *total = add_gauge(family.kind, total.wrapping_sub(*value), *value, owner);
                }
            }
            (totals, values) = (after, values.get(family.cells..).unwrap_or_default());
        }
    }

    /// Counts `n` more, which no slot has counted yet.
    pub fn count<K: Cumulative>(&mut self, counter: Metric<K>, n: u64) {
        if let Some(total) = self.values.get_mut(counter.start()) {
            *total = total.wrapping_add(n);
        }
    }

    /// Sets what no slot counts.
    pub(super) fn set<K: Level>(&mut self, gauge: Metric<K>, value: u64) {
        if let Some(total) = self.values.get_mut(gauge.start()) {
            *total = value;
        }
    }

    /// The value of a metric that has one.
    pub fn get<K: MetricKind>(&self, metric: Metric<K>) -> u64 {
        self.values.get(metric.start()).copied().unwrap_or_default()
    }

    /// The values of a metric: of all its series, or of one that is chosen by its labels.
    pub fn values<K: MetricKind, L: Labels>(&self, metric: Metric<K, L>) -> &[u64] {
        let end = metric.start() + Metric::<K, L>::CELLS;
        self.values.get(metric.start()..end).unwrap_or_default()
    }

    /// The values of all metrics, in the order of the table.
    pub(super) const fn all(&self) -> &[u64; CELLS] {
        &self.values
    }

    /// All values set to different numbers.
    #[cfg(test)]
    pub(super) fn with_different_values() -> Self {
        Self { values: std::array::from_fn(|place| (place as u64 + 1) * 7) }
    }
}

/// The sum of a gauge and the value of one more slot.
fn add_gauge(kind: Kind, total: u64, value: u64, owner: OwnerState) -> u64 {
    match owner {
        OwnerState::Gone => total,
        OwnerState::Alive if kind == Kind::Earliest && total != 0 && value != 0 => total.min(value),
        // Unlimited and unlimited is unlimited.
        OwnerState::Alive => total.saturating_add(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{PROCESS_MAX_FDS, PROCESS_START_TIME};

    /// A slot's values: `n` times the place.
    fn values(n: u64) -> [u64; CELLS] {
        std::array::from_fn(|place| place as u64 * n)
    }

    #[test]
    fn counters_are_added_over_all_slots_and_gauges_over_those_with_an_owner() {
        let mut snapshot = Snapshot::empty();
        for (n, owner) in [(1, OwnerState::Alive), (20, OwnerState::Alive), (300, OwnerState::Gone)]
        {
            snapshot.add(&values(n), owner);
        }
        let kinds =
            FAMILIES.iter().flat_map(|family| std::iter::repeat_n(family.kind, family.cells));
        for (place, (value, kind)) in snapshot.values.into_iter().zip(kinds).enumerate() {
            let expected = match kind.is_gauge() {
                false => 321,
                true if kind == Kind::Earliest => 1,
                true => 21,
            };
            assert_eq!(value, place as u64 * expected, "{kind:?}");
        }
    }

    #[test]
    fn a_process_without_a_start_time_is_not_the_oldest_and_no_sum_overflows() {
        let (known, unknown) = (Slot::new(), Slot::new());
        known.set(PROCESS_START_TIME, 9_999);
        known.set(PROCESS_MAX_FDS, u64::MAX);
        for slots in [[&known, &unknown], [&unknown, &known], [&known, &known]] {
            let snapshot = Snapshot::of(slots.into_iter());
            assert_eq!(snapshot.get(PROCESS_START_TIME), 9_999);
            assert_eq!(snapshot.get(PROCESS_MAX_FDS), u64::MAX, "unlimited");
        }
    }
}
