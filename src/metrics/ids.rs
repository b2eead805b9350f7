//! The identity of each cell: a stable number, by which versions with different tables find each other's counts.
//!
//! An identity is a hash of all that says what a cell counts: the name of the family, the type, the labels and,
//! of a histogram, the bounds of the bucket. A version that changes the meaning of a cell has to change one of
//! these. It does not depend on the place of the row in the table. The lowest bit is set if the cell is a gauge,
//! so that the counters of series that a version does not know can be distinguished from their gauges.

use crate::metrics::{
    families::{CELLS, FAMILIES},
    family::{Family, Kind},
    histogram::BUCKETS,
};

/// The cells of one version, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schema<'a> {
    /// The identity of each cell.
    pub(super) ids: &'a [u64],
    /// A hash of all identities in order.
    pub(super) fingerprint: u64,
}

impl<'a> Schema<'a> {
    /// The schema with these identities.
    #[expect(clippy::indexing_slicing, reason = "below the length")]
    pub(super) const fn new(ids: &'a [u64]) -> Self {
        let (mut fingerprint, mut place) = (OFFSET_BASIS, 0);
        while place < ids.len() {
            fingerprint = hash(fingerprint, &ids[place].to_le_bytes());
            place += 1;
        }
        Self { ids, fingerprint }
    }
}

/// The cells of this version.
pub(super) static SCHEMA: Schema<'static> = Schema::new(&IDS);

static IDS: [u64; CELLS] = ids();

/// Whether the cell with this identity is the state of its owner.
pub(super) const fn is_gauge(id: u64) -> bool {
    id & GAUGE != 0
}

const GAUGE: u64 = 1;

/// FNV-1a.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

#[expect(clippy::indexing_slicing, reason = "below the length")]
const fn hash(mut state: u64, bytes: &[u8]) -> u64 {
    let mut place = 0;
    while place < bytes.len() {
        state = (state ^ bytes[place] as u64).wrapping_mul(PRIME);
        place += 1;
    }
    state
}

/// Adds a text, and an end that no text contains.
const fn hash_text(state: u64, text: &str) -> u64 {
    hash(hash(state, text.as_bytes()), &[0xff])
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn ids() -> [u64; CELLS] {
    let mut ids = [0; CELLS];
    let (mut row, mut place) = (0, 0);
    while row < FAMILIES.len() {
        let (family, mut cell) = (&FAMILIES[row], 0);
        while cell < family.cells {
            ids[place] = id(family, cell / family.kind.cells(), cell % family.kind.cells());
            cell += 1;
            place += 1;
        }
        row += 1;
    }
    ids
}

/// The identity of a cell of a series.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn id(family: &Family, series: usize, cell: usize) -> u64 {
    let mut state = hash_text(OFFSET_BASIS, family.name);
    let names = family.label_names;
    let mut label = 0;
    while label < names.len() {
        state = hash_text(state, names[label]);
        state = hash_text(state, family.label_values[series * names.len() + label]);
        label += 1;
    }
    state = match family.kind {
        Kind::Counter => hash_text(state, "counter"),
        Kind::Duration => hash_text(state, "counter of nanoseconds"),
        Kind::Gauge => hash_text(state, "gauge"),
        Kind::Earliest => hash_text(state, "earliest nanosecond"),
        Kind::Summary if cell == 0 => hash_text(state, "sum"),
        Kind::Summary => hash_text(state, "count"),
        Kind::Histogram if cell == BUCKETS.len() => hash_text(state, "sum of nanoseconds"),
        // Cells are not cumulative: what a bucket counts depends on both bounds.
        Kind::Histogram => {
            let below_ns = if cell == 0 { 0 } else { BUCKETS[cell - 1].upper_ns };
            state = hash(hash_text(state, "bucket"), &below_ns.to_le_bytes());
            hash(state, &BUCKETS[cell].upper_ns.to_le_bytes())
        }
        Kind::Info => state,
    };
    if family.kind.is_gauge() { state | GAUGE } else { state & !GAUGE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{self, Handler};
    use std::collections::BTreeSet;

    #[test]
    fn identities_differ() {
        let ids: BTreeSet<u64> = IDS.into_iter().collect();
        assert_eq!(ids.len(), CELLS);
        assert!(!ids.contains(&0));
    }

    #[test]
    fn identities_stay_what_they_are() {
        // Other versions know them by these numbers.
        let readyz = metrics::REQUEST_DURATION.with(Handler::Readyz).start();
        for (place, id) in [
            (metrics::CONNECTIONS_ACCEPTED.start(), 0xf8e9_b2bd_8aeb_bf40),
            (metrics::CONNECTIONS.start(), 0xc437_4c9a_617c_caef),
            (metrics::PROCESS_CPU.start(), 0x26b8_6e0e_3bee_b780),
            (readyz, 0x2990_e5a5_ba3c_bcbe),
            (readyz + 1, 0x9fec_261b_766c_961c),
            (readyz + BUCKETS.len(), 0x7d73_135d_b414_9268),
            (metrics::RESPONSE_SIZE.start() + 1, 0x74ce_65c7_1d5a_c19e),
        ] {
            assert_eq!(IDS[place], id, "{place}");
        }
    }
}
