//! Tables that are generated from the flags and from the table of metrics. `make docs` writes them.

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use fibsrv::{
    config,
    metrics::{FAMILIES, Family, Kind},
};

use crate::{path_of, read};

/// Compares the part of a page between its markers with `expected`, or replaces it if `UPDATE` is set.
fn check(page: &str, name: &str, expected: &str) {
    let text = read(page);
    let (begin, end) = (format!("<!-- {name}: written by make docs -->\n"), "<!-- end -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
    let (current, after) = rest.split_once(end).unwrap();
    if env::var_os("UPDATE").is_some() {
        fs::write(path_of(page), format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert_eq!(current, expected, "{page} is out of date: run make docs");
    }
}

/// A table of flags for each heading of the help.
fn flags() -> String {
    let command = config::command();
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let headings = command.get_arguments().filter_map(clap::Arg::get_help_heading);
    for heading in headings.filter(|heading| seen.insert(*heading)) {
        write!(
            text,
            "\n### {heading}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n"
        )
        .unwrap();
        let of_heading = |flag: &&clap::Arg| flag.get_help_heading() == Some(heading);
        for flag in command.get_arguments().filter(of_heading) {
            text.push_str(&row_of_flag(flag));
        }
    }
    text + "\n"
}

fn row_of_flag(flag: &clap::Arg) -> String {
    let value = flag.get_value_names().unwrap().first().unwrap().replace('|', " or ");
    let default = flag
        .get_default_values()
        .first()
        .map_or_else(|| "none".to_owned(), |value| format!("`{}`", value.to_string_lossy()));
    format!(
        "| `--{} {value}` | `{}` | {default} | {} |\n",
        flag.get_long().unwrap(),
        flag.get_env().unwrap().to_string_lossy(),
        flag.get_help().unwrap().to_string().replace('|', "\\|"),
    )
}

/// The name of the samples of a family, as in a query.
pub(crate) fn sample_name(family: &Family) -> String {
    if matches!(family.kind, Kind::Counter | Kind::Duration) {
        format!("{}_total", family.name)
    } else {
        family.name.to_owned()
    }
}

fn metrics() -> String {
    let mut text = "\n| metric | type | meaning |\n|---|---|---|\n".to_owned();
    for family in FAMILIES {
        let labels: &[&str] = if family.kind == Kind::Info {
            &["version", "revision", "rustc"]
        } else {
            family.label_names
        };
        let kind = match family.kind {
            Kind::Counter | Kind::Duration => "counter",
            Kind::Gauge | Kind::Earliest | Kind::Info => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(text, "| `{}{labels}` | {kind} | {} |", sample_name(family), family.help).unwrap();
    }
    text + "\n"
}

/// The values of each label.
fn labels() -> String {
    let mut text = "\n| metric | label | values |\n|---|---|---|\n".to_owned();
    for family in FAMILIES {
        for (place, label) in family.label_names.iter().enumerate() {
            let all = family.label_values.iter().skip(place).step_by(family.label_names.len());
            let mut seen = BTreeSet::new();
            let values: Vec<_> = all.filter(|value| seen.insert(**value)).collect();
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            writeln!(text, "| `{}` | `{label}` | {} |", sample_name(family), values.join(", "))
                .unwrap();
        }
    }
    text + "\n"
}

#[test]
fn the_table_of_flags_is_current() {
    check("docs/configuration.md", "flags", &flags());
}

#[test]
fn the_tables_of_metrics_are_current() {
    check("docs/metrics.md", "metrics", &metrics());
    check("docs/metrics.md", "labels", &labels());
}
