//! The text form of a [`Snapshot`]: the families of the table, one after the other.

mod encoder;

use std::iter::once;

use crate::metrics::{
    BUCKETS, Build, ExpositionFormat, FAMILIES, Family, Kind, PROCESS_START_TIME, Snapshot,
};
use encoder::{Samples, Value, Writer};

/// Appends the exposition to `out`. Families of the process are left out when no worker knows them (without
/// `/proc`): a guess would be worse than a gap.
pub fn render(out: &mut Vec<u8>, format: ExpositionFormat, snapshot: &Snapshot, build: &Build) {
    let has_process = snapshot.get(PROCESS_START_TIME) > 0;
    let mut writer = Writer::new(out, format);
    let mut rest = snapshot.all().as_slice();
    for family in FAMILIES {
        let (values, after) = rest.split_at_checked(family.cells).unwrap_or_default();
        rest = after;
        if has_process || !family.is_of_process() {
            let mut samples = writer.family(family.kind, family.name, family.help);
            write_family(&mut samples, family, values, build);
        }
    }
    writer.finish();
}

fn write_family(samples: &mut Samples<'_>, family: &Family, values: &[u64], build: &Build) {
    if family.kind == Kind::Info {
        let build =
            [("version", build.version), ("revision", build.revision), ("rustc", build.rustc)];
        return samples.sample(build, Value::Count(1));
    }
    // Without labels there is one series, which has no label values.
    let label_values = family.label_values.chunks(family.label_names.len().max(1));
    let label_values = label_values.chain(once([].as_slice()));
    for (cells, label_values) in values.chunks(family.kind.cells()).zip(label_values) {
        let labels = family.label_names.iter().copied().zip(label_values.iter().copied());
        write_series(samples, family.kind, labels, cells);
    }
}

fn write_series<'l>(
    samples: &mut Samples<'_>,
    kind: Kind,
    labels: impl Iterator<Item = (&'l str, &'l str)> + Clone,
    cells: &[u64],
) {
    match (kind, cells) {
        (Kind::Counter | Kind::Gauge, [count]) => samples.sample(labels, Value::Count(*count)),
        (Kind::Duration | Kind::Earliest, [ns]) => samples.sample(labels, Value::Nanoseconds(*ns)),
        (Kind::Summary, [sum, count]) => {
            samples.part("_sum", labels.clone(), Value::Count(*sum));
            samples.part("_count", labels, Value::Count(*count));
        }
        (Kind::Histogram, [buckets @ .., sum_ns]) => {
            let mut cumulative = 0;
            for (bucket, count) in BUCKETS.iter().zip(buckets) {
                cumulative = u64::wrapping_add(cumulative, *count);
                let labels = labels.clone().chain(once(("le", bucket.le)));
                samples.part("_bucket", labels, Value::Count(cumulative));
            }
            samples.part("_sum", labels.clone(), Value::Nanoseconds(*sum_ns));
            samples.part("_count", labels, Value::Count(cumulative));
        }
        _ => debug_assert!(false, "{kind:?} has {} cells", cells.len()),
    }
}

#[cfg(test)]
mod tests;
