//! `/openapi.json` has every route and every method, and no others. `tests/openapi.sh` tests the responses.

use std::collections::BTreeSet;

use fibsrv::{http::Method, metrics::Handler};
use serde_json::Value;

use crate::wire::{Wire, only, request};

fn description() -> Value {
    serde_json::from_str(&Wire::new().reply_to(request("GET /openapi.json", "")).body).unwrap()
}

/// The paths with an n that is valid.
fn paths(description: &Value) -> Vec<(String, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| (path.replace("{n}", "20"), item)).collect()
}

#[test]
fn the_version_is_that_of_the_server() {
    assert_eq!(description()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_method_of_a_path_is_described() {
    for (path, item) in paths(&description()) {
        for method in Method::ALL {
            let (name, stream) =
                (method.as_str(), request(&format!("{} {path}", method.as_str()), ""));
            let mut wire = Wire::new();
            let reply = match method {
                Method::Connect => continue, // its target is no path
                Method::Head => only(wire.send_head(stream)),
                Method::Get
                | Method::Post
                | Method::Put
                | Method::Delete
                | Method::Options
                | Method::Trace
                | Method::Patch => wire.reply_to(stream),
            };
            let status = reply.status.to_string();
            match item.get(name.to_lowercase()) {
                Some(operation) => {
                    assert!(
                        operation["responses"].get(&status).is_some(),
                        "{name} {path}: {status}"
                    );
                }
                None => assert_eq!(status, "405", "{name} {path}"),
            }
        }
    }
}

/// A route that is not described has a handler that no described path reaches.
#[test]
fn every_route_is_described() {
    let mut wire = Wire::new();
    for (path, _) in paths(&description()) {
        wire.reply_to(request(&format!("GET {path}"), ""));
    }
    let metrics = wire.reply_to(request("GET /metrics", "")).body;
    let counted = metrics.lines().filter_map(|line| {
        let (labels, count) = line.rsplit_once(' ')?;
        let rest = labels.strip_prefix("fibsrv_request_duration_seconds_count{handler=\"")?;
        (count != "0").then_some(rest.strip_suffix("\"}")?)
    });
    let counted: BTreeSet<&str> = counted.collect();
    let expected = Handler::ALL.iter().filter(|handler| **handler != Handler::None);
    assert_eq!(counted, expected.map(|handler| handler.as_str()).collect());
}
