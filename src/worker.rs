//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::error::Error;

use log::{info, warn};

use crate::{
    app::App,
    clock::Clock,
    config::Config,
    conn::Buffers,
    fibonacci::Table,
    listener::listen,
    metrics::Build,
    peer::{READ_BYTES, Service},
    peers::Peers,
    process::Probe,
    server::Server,
};

const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("FIBSRV_REVISION"),
    rustc: env!("FIBSRV_RUSTC"),
};

/// Serves in the foreground until told to stop.
pub fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let table = Table::new(config.table_last)?;
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(listen(*address)?);
    }
    let probe = Probe::new();
    if let Err(error) = &probe {
        warn!("there will be no process metrics: {error}");
    }
    for listener in &listeners {
        info!("listening on {}", listener.local_addr()?);
    }
    let service = Service {
        app: App::new(table, BUILD),
        clock: Clock::new(),
        limits: config.limits,
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
    };
    let peers = Peers::new(config.time_limits_ns);
    Server::new(listeners, peers, service, config.connections)?.run()?;
    info!("stopped");
    Ok(())
}
