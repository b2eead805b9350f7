//! The two text formats of an exposition, and their negotiation.
//!
//! Negotiation follows RFC 9110 section 12.5.1, with one limit: OpenMetrics must be requested by name. A
//! browser's `*/*` gets the text format. Elements that cannot be parsed are skipped. If neither format is
//! acceptable the response is text: a scraper gains more from it than from a 406.

use crate::http::request::weight::{WEIGHT_MAX, Weight, parameter, parse_weight, split_unquoted};

/// A format in which metrics are exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// The Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0, in its text form.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The value of `Content-Type` for this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns the format that the `Accept` header fields prefer; `accept` yields the value of each of them.
    #[expect(single_use_lifetimes, reason = "the elided form is not stable in impl Trait")]
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut weights = FormatWeights::default();
        for range in accept.into_iter().flat_map(|value| split_unquoted(value, b',')) {
            weights.record(range);
        }
        let open_metrics = weights.open_metrics.unwrap_or(0);
        if open_metrics > 0 && open_metrics >= weights.text_weight() {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// The highest weight of each of the media ranges that match a format.
#[derive(Debug, Default)]
struct FormatWeights {
    open_metrics: Option<Weight>,
    text_plain: Option<Weight>,
    text_any: Option<Weight>,
    any: Option<Weight>,
}

impl FormatWeights {
    /// Records one element of the list, unless it is malformed or names another type or version.
    fn record(&mut self, range: &[u8]) {
        let mut parts = split_unquoted(range, b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (preference, versions): (_, &[&[u8]]) = match media_type.as_slice() {
            // 0.0.1 is Prometheus' name of the draft of 1.0.0; scrapers that accept it read both.
            b"application/openmetrics-text" => (&mut self.open_metrics, &[b"1.0.0", b"0.0.1"]),
            b"text/plain" => (&mut self.text_plain, &[b"0.0.4"]),
            b"text/*" => (&mut self.text_any, &[]),
            b"*/*" => (&mut self.any, &[]),
            _ => return,
        };
        let mut weight = Some(WEIGHT_MAX);
        for (name, value) in parts.filter_map(parameter) {
            if name.eq_ignore_ascii_case(b"q") {
                weight = parse_weight(value);
            } else if name.eq_ignore_ascii_case(b"version") && !versions.contains(&value) {
                return;
            }
        }
        *preference = (*preference).max(weight);
    }

    /// The weight of plain text: that of the most specific range that matches it.
    fn text_weight(&self) -> Weight {
        self.text_plain.or(self.text_any).or(self.any).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: ExpositionFormat) {
        assert_eq!(ExpositionFormat::negotiate([accept.as_bytes()]), expected, "{accept}");
    }

    #[test]
    fn text_is_the_default() {
        assert_eq!(ExpositionFormat::negotiate(None), ExpositionFormat::Text);
        for accept in
            ["", "*/*", "text/plain", "text/html,application/xhtml+xml,*/*;q=0.8", "text/*"]
        {
            check(accept, ExpositionFormat::Text);
        }
    }

    #[test]
    fn open_metrics_is_used_when_it_is_preferred() {
        for accept in [
            // Prometheus 2.42, 2.30 and 3.0.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            "application/openmetrics-text",
            "application/openmetrics-text;charset=utf-8",
            "Application/OpenMetrics-Text ; VERSION=\"1.0.0\" ; Q=0.5 , text/plain;q=0.5",
            "application/openmetrics-text;q=0.001",
            "application/openmetrics-text,application/openmetrics-text;version=0.0.1;q=0.2,text/plain;q=0.5",
            "text/plain;q=0, application/openmetrics-text;q=0.3, */*",
            "application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=0.0.1",
        ] {
            check(accept, ExpositionFormat::OpenMetrics);
        }
    }

    #[test]
    fn text_is_used_when_it_is_preferred_or_open_metrics_is_not_acceptable() {
        for accept in [
            "application/openmetrics-text;q=0.5, text/plain;q=0.501",
            "application/openmetrics-text;q=0.5, text/plain",
            "application/openmetrics-text;q=0.5, text/*;q=0.6",
            "application/openmetrics-text;q=0.5, */*;q=0.6",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000, text/plain;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=",
            "application/*",
        ] {
            check(accept, ExpositionFormat::Text);
        }
    }

    #[test]
    fn malformed_elements_are_skipped() {
        for accept in [
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=1.001",
            "application/openmetrics-text;q=0.1234",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;q=.5",
            "application/openmetrics-textual",
            "application/openmetrics-text/x",
            ",;=,;;q=\",\\",
            "text/plain;x=\", application/openmetrics-text",
            "text/plain;x=\"\\\", application/openmetrics-text, \";q=0.1",
        ] {
            check(accept, ExpositionFormat::Text);
        }
        for accept in [
            ", ,application/openmetrics-text;;q=1.000;, ,",
            "application/openmetrics-text;q=1,5",
            "text/plain ; q = 0.2 ,\tapplication/openmetrics-text ; q = \"0.3\"",
            "text/plain;x=\"a,b;q=1\\\"\";q=0.2, application/openmetrics-text;q=0.3",
            "text/plain;q=nonsense, application/openmetrics-text;q=0.3",
            "\u{e9}/\u{e9};q=1, application/openmetrics-text",
        ] {
            check(accept, ExpositionFormat::OpenMetrics);
        }
        assert_eq!(
            ExpositionFormat::negotiate([b"\xff\0\"".as_slice(), b"\\"]),
            ExpositionFormat::Text
        );
    }

    #[test]
    fn several_fields_are_one_list() {
        let fields: [&[u8]; 2] = [b"text/plain;q=0.5", b"application/openmetrics-text;q=0.6"];
        assert_eq!(ExpositionFormat::negotiate(fields), ExpositionFormat::OpenMetrics);
    }
}
