//! The effective configuration, which `--check` prints: one flag per line, as it can be typed in a shell.

use std::net::SocketAddr;

use clap::{Arg, ArgMatches};

use crate::config::{Config, command};

/// Renders every flag that has a value, but those that socket activation replaces. Values are as given, except where
/// [`Config`] has a more specific one.
pub(super) fn render(matches: &ArgMatches, config: &Config) -> String {
    let command = command();
    let flags = command.get_arguments().filter(|flag| flag.get_action().takes_values());
    flags.flat_map(|flag| lines(flag, matches, config)).collect()
}

fn lines(flag: &Arg, matches: &ArgMatches, config: &Config) -> Vec<String> {
    let (id, Some(name)) = (flag.get_id().as_str(), flag.get_long()) else { return Vec::new() };
    let line = |value: &str| format!("--{name} {}\n", quoted(value));
    let addresses = |addresses: &[SocketAddr]| {
        addresses.iter().map(|address| line(&address.to_string())).collect()
    };
    let [listen, admin_listen] = config.addresses_to_open();
    match id {
        "listen" => addresses(listen),
        "admin_listen" => addresses(admin_listen),
        "workers" => config.workers.iter().map(|workers| line(&workers.to_string())).collect(),
        "table_max_n" => vec![line(&config.table_max_n.to_string())],
        _ => {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| line(&value.to_string_lossy())).collect()
        }
    }
}

/// Quotes a value that a shell would otherwise split or expand.
fn quoted(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"[]:.,/_+-@%".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}
