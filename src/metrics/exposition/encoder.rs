//! The syntax of the text formats: metadata, labels and numbers, and where the two formats differ.

use crate::{
    http::decimal,
    metrics::{ExpositionFormat, Kind},
};

/// The value of a sample. All are integers, so that what is exact in the counters is exact in the text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A number.
    Count(u64),
    /// Nanoseconds, which are written as seconds.
    Nanoseconds(u64),
}

/// Writes one exposition to the end of a buffer.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    format: ExpositionFormat,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, format: ExpositionFormat) -> Self {
        Self { out, format }
    }

    /// Writes the metadata of a family. `name` has no suffix `_total`; `help` is one line.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Samples<'_> {
        let word = match kind {
            Kind::Counter | Kind::Duration => "counter",
            Kind::Gauge | Kind::Earliest | Kind::Info => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let suffix = if word == "counter" { "_total" } else { "" };
        // OpenMetrics names the family, the older format the samples.
        let suffix_in_metadata = if self.format == ExpositionFormat::Text { suffix } else { "" };
        put(self.out, &["# HELP ", name, suffix_in_metadata, " ", help, "\n"]);
        put(self.out, &["# TYPE ", name, suffix_in_metadata, " ", word, "\n"]);
        Samples { out: self.out, name, suffix }
    }

    /// Ends the exposition. OpenMetrics marks the end, so that a truncated exposition is detected.
    pub(super) fn finish(self) {
        match self.format {
            ExpositionFormat::Text => {}
            ExpositionFormat::OpenMetrics => put(self.out, &["# EOF\n"]),
        }
    }
}

/// Writes the samples of a family.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    out: &'a mut Vec<u8>,
    name: &'static str,
    suffix: &'static str,
}

impl Samples<'_> {
    /// Writes a sample of a counter or gauge.
    pub(super) fn sample<'l>(
        &mut self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: Value,
    ) {
        self.part(self.suffix, labels, value);
    }

    /// Writes a sample that is part of a histogram or summary: `_bucket`, `_sum` or `_count`.
    pub(super) fn part<'l>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: Value,
    ) {
        put(self.out, &[self.name, suffix]);
        let (mut before, mut after) = ("{", " ");
        labels.into_iter().for_each(|(name, text)| {
            put(self.out, &[before, name, "=\""]);
            put_escaped(self.out, text);
            put(self.out, &["\""]);
            (before, after) = (",", "} ");
        });
        put(self.out, &[after]);
        match value {
            Value::Count(count) => decimal::push(self.out, count),
            Value::Nanoseconds(ns) => put_seconds(self.out, ns),
        }
        put(self.out, &["\n"]);
    }
}

fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Writes the value of a label. Both formats escape backslash, quote and line feed.
fn put_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// Writes nanoseconds as seconds, without loss and without zeros at the end.
fn put_seconds(out: &mut Vec<u8>, ns: u64) {
    const NS_PER_S: u64 = 1_000_000_000;
    decimal::push(out, ns / NS_PER_S);
    let mut digits = [0; 9];
    decimal::fill(&mut digits, ns % NS_PER_S);
    let mut decimals = digits.as_slice();
    while let [shorter @ .., b'0'] = decimals {
        decimals = shorter;
    }
    if !decimals.is_empty() {
        out.push(b'.');
        out.extend_from_slice(decimals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_are_exact() {
        for (ns, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (10, "0.00000001"),
            (1_000, "0.000001"),
            (100_000_000, "0.1"),
            (1_000_000_000, "1"),
            (10_000_000_000, "10"),
            (1_000_000_001, "1.000000001"),
            (1_500_000_000, "1.5"),
            (9_007_199_254_740_993, "9007199.254740993"), // 2^53 + 1, which no f64 holds
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(written(|out| put_seconds(out, ns)), expected);
        }
    }

    #[test]
    fn labels_are_escaped() {
        let text = written(|out| {
            Writer::new(out, ExpositionFormat::Text)
                .family(Kind::Gauge, "g", "Help.")
                .sample([("a", "plain"), ("b", "\"\\\n\u{e9}"), ("c", "")], Value::Count(1));
        });
        assert_eq!(
            text,
            "# HELP g Help.\n# TYPE g gauge\ng{a=\"plain\",b=\"\\\"\\\\\\n\u{e9}\",c=\"\"} 1\n"
        );
    }

    #[test]
    fn the_formats_differ_in_the_names_of_counters_and_in_the_end() {
        for (format, expected) in [
            (ExpositionFormat::Text, "# HELP c_total Help.\n# TYPE c_total counter\nc_total 5\n"),
            (ExpositionFormat::OpenMetrics, "# HELP c Help.\n# TYPE c counter\nc_total 5\n# EOF\n"),
        ] {
            let text = written(|out| {
                let mut writer = Writer::new(out, format);
                writer.family(Kind::Counter, "c", "Help.").sample([], Value::Count(5));
                writer.finish();
            });
            assert_eq!(text, expected);
        }
    }
}
