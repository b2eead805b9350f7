//! From flags to a configuration or an error of one line.

use super::*;
use crate::logging::{EventFormat, Stream};

fn parse_flags(flags: &[&str]) -> Result<Command, UsageError> {
    let arguments = std::iter::once("fibsrv").chain(flags.iter().copied());
    parse(arguments.map(OsString::from))
}

fn effective(flags: &[&str]) -> String {
    let mut flags = flags.to_vec();
    flags.push("--check");
    match parse_flags(&flags) {
        Ok(Command::Check(_, text)) => text,
        other => panic!("{flags:?}: {other:?}"),
    }
}

#[test]
fn defaults() {
    assert_eq!(
        effective(&[]),
        "--listen [::]:3000\n--table-max-n 10000\n--max-n 10000000\n--max-computations 64\n\
         --cache-size 64MiB\n--max-head 16KiB\n--max-target 8KiB\n\
         --max-fields 64\n--max-body 1MiB\n--max-pipelined 32\n--max-connections 100000\n--head-timeout 10s\n\
         --body-timeout 10s\n--idle-timeout 75s\n--write-timeout 60s\n--defer-accept 0s\n--drain-delay 0s\n\
         --drain-grace 5s\n--drain-timeout 25s\n--log-level info\n\
         --log-format text\n--access-log off\n"
    );
}

#[test]
fn the_output_of_check_can_be_used_as_flags() {
    for flags in [
        &["--listen", "127.0.0.1:1,[::1]:2", "--head-timeout", "1m 30s"][..],
        &["--access-log", "combined"],
        &["--admin-listen", "127.0.0.1:3001,[::1]:3001"],
        &["--defer-accept", "1m"],
        &["--access-log", "json", "--access-log-file", "a b.log"],
        &["--workers", "auto", "--max-n", "50"],
    ] {
        let once = effective(flags);
        let pairs = once.lines().map(|line| line.split_once(' ').unwrap());
        let again: Vec<&str> =
            pairs.flat_map(|(flag, value)| [flag, value.trim_matches('\'')]).collect();
        assert_eq!(effective(&again), once);
    }
}

#[test]
fn effective_values_replace_given_ones() {
    let text = effective(&["--table-max-n", "100", "--max-n", "50", "--idle-timeout", "1m 5s"]);
    assert!(text.contains("--table-max-n 50\n--max-n 50\n"), "{text}");
    assert!(text.contains("--idle-timeout '1m 5s'\n"), "{text}");
}

#[test]
fn invalid_flags_are_errors_of_one_line() {
    for flags in [
        &["--nonsense"][..],
        &["extra"],
        &["--listen", "here"],
        &["--listen", "127.0.0.1"],
        &["--listen", "name.invalid:1"],
        &["--admin-listen", "here"],
        &["--admin-listen", "127.0.0.1:3000"],
        &["--admin-listen", "127.0.0.1:1,:3000"],
        &["--log-format", "xml"],
        &["--workers", "0"],
        &["--workers", "65"],
        &["--workers", "some"],
        &["--table-max-n", "-1"],
        &["--table-max-n", "100001"],
        &["--max-n", "100000001"],
        &["--max-computations", "0"],
        &["--cache-size", "2MB"],
        &["--max-head", "511B"],
        &["--max-head", "2MiB"],
        &["--max-head", "lots"],
        &["--max-target", "17KiB"],
        &["--max-target", "0"],
        &["--max-fields", "0"],
        &["--max-fields", "129"],
        &["--max-pipelined", "0"],
        &["--max-pipelined", "1025"],
        &["--max-connections", "0"],
        &["--head-timeout", "0s"],
        &["--head-timeout", "2days"],
        &["--head-timeout", "soon"],
        &["--drain-timeout", "2days"],
        &["--defer-accept", "61s"],
        &["--defer-accept", "1500ms"],
        &["--defer-accept", "300s"],
        &["--log-level", "loud"],
        &["--access-log", "xml"],
        &["--access-log-file", "a.log"],
    ] {
        let error = parse_flags(flags).expect_err(flags[0]).to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(flags[flags.len() - 1]) || error.contains(flags[0]), "{error}");
    }
}

#[test]
fn help_and_version_are_printed() {
    for flag in ["--help", "-h", "--version", "-V"] {
        assert!(matches!(parse_flags(&[flag]), Ok(Command::Print(_))), "{flag}");
    }
    let Ok(Command::Print(help)) = parse_flags(&["--help"]) else { panic!("no help") };
    for line in effective(&[]).lines() {
        let flag = line.split(' ').next().unwrap();
        assert!(help.contains(flag), "{flag}");
        let variable = flag.replace("--", "FIBSRV_").replace('-', "_").to_uppercase();
        assert!(help.contains(&variable), "{variable}");
    }
}

#[test]
fn the_number_of_workers_is_given_or_detected() {
    assert!(!effective(&[]).contains("--workers"));
    assert!(effective(&["--workers", "3"]).contains("--workers 3\n"));
    assert!(effective(&["--workers", "auto"]).contains("--workers "));
}

#[test]
fn health_checks_the_given_addresses_or_those_of_listen() {
    let check = |flags: &[&str], expected: &[&str]| match parse_flags(flags) {
        Ok(Command::Health(addresses)) => {
            assert_eq!(addresses, expected, "{flags:?}");
        }
        other => panic!("{flags:?}: {other:?}"),
    };
    check(&["health"], &["[::]:3000"]);
    check(&["--listen", "127.0.0.1:1,[::1]:2", "health"], &["127.0.0.1:1", "[::1]:2"]);
    check(&["--listen", "127.0.0.1:1", "health", "127.0.0.1:3"], &["127.0.0.1:3"]);
    check(&["health", "fib.example:80"], &["fib.example:80"]);
    check(&["health", "3000"], &["[::]:3000"]);
    for flags in [&["health", "localhost:0"][..], &["health", "127.0.0.1:0"], &["health", "x"]] {
        let error = parse_flags(flags).expect_err("an invalid address").to_string();
        assert!(error.lines().count() == 1 && error.contains(flags[1]), "{error}");
    }
}

#[test]
fn addresses_are_typed_in_several_ways() {
    let check = |flags: &[&str], expected: &str| {
        let text = effective(flags);
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("--listen ")).collect();
        assert_eq!(found.join(" "), expected, "{flags:?}");
    };
    check(&["--listen", "3001"], "--listen [::]:3001");
    check(&["--listen", ":3001"], "--listen [::]:3001");
    check(&["--listen", "3001,127.0.0.1:2"], "--listen [::]:3001 --listen 127.0.0.1:2");
    assert!(effective(&["--listen", "localhost:3001"]).contains("--listen 127.0.0.1:3001\n"));
}

#[test]
fn errors_have_possible_values_and_suggestions() {
    let check = |flags: &[&str], expected: &str| {
        assert_eq!(parse_flags(flags).unwrap_err().to_string(), expected);
    };
    check(
        &["--access-log", "jsn"],
        "invalid value 'jsn' for '--access-log <FORMAT>' [possible values: off, combined, json]; \
         a similar value exists: 'json' (see --help)",
    );
    check(
        &["--max-haed", "1KiB"],
        "unexpected argument '--max-haed' found; a similar argument exists: '--max-head' (see --help)",
    );
}

#[test]
fn the_process_log_and_the_access_log_have_different_streams() {
    let check = |flags: &[&str], format, stream| match parse_flags(flags) {
        Ok(Command::Serve(config)) => {
            assert_eq!((config.log.format, config.log.stream), (format, stream), "{flags:?}");
        }
        other => panic!("{flags:?}: {other:?}"),
    };
    check(&[], EventFormat::Text, Stream::Stdout);
    check(&["--access-log", "json"], EventFormat::Text, Stream::Stderr);
    let file = ["--access-log", "json", "--access-log-file", "a.log", "--log-format", "json"];
    check(&file, EventFormat::Json, Stream::Stdout);
    check(&["--access-log", "json", "--log-format", "logfmt"], EventFormat::Logfmt, Stream::Stderr);
}
