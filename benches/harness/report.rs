//! Figures and tables.

use std::{fmt::Display, time::Duration};

/// Prints the header of a Markdown table.
pub(crate) fn head(columns: &[&str]) {
    println!("| {} |\n|---|{}", columns.join(" | "), "---:|".repeat(columns.len() - 1));
}

/// Prints a row of a Markdown table.
pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// The `share` quantile of durations in milliseconds; a dash if there are none.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> String {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is an index"
    )]
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.saturating_sub(1)).map_or_else(|| "-".to_owned(), |time| millis(*time))
}

/// Milliseconds: two decimals below 100, none above.
pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 { format!("{millis:.2}") } else { format!("{millis:.0}") }
}

/// `before → after`.
pub(crate) fn change(before: impl Display, after: impl Display) -> String {
    format!("{before} → {after}")
}

/// Bytes as signed megabytes.
pub(crate) fn megabytes(bytes: i64) -> String {
    format!("{:+.1}", bytes as f64 / 1e6)
}

/// `later - earlier`, of either sign.
pub(crate) fn growth(earlier: u64, later: u64) -> i64 {
    later.cast_signed() - earlier.cast_signed()
}
