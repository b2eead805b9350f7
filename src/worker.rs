//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::error::Error;

use log::{info, warn};
use mio::net::TcpListener;

use crate::{
    app::App,
    clock::Clock,
    config::Config,
    conn::Buffers,
    descriptors,
    fibonacci::Table,
    http::head::Parser,
    listener::listen,
    metrics::{
        Build, Counters,
        shared::{Region, Scope},
    },
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
        listeners.push(listen(*address, config.write_timeout())?);
    }
    let probe = Probe::new();
    if let Err(error) = &probe {
        warn!("there will be no process metrics: {error}");
    }
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses?;
    let service = Service {
        app: App::with_counters(table, config.numbers, BUILD, counters()),
        clock: Clock::new(),
        parser: Parser::new(config.limits),
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
    };
    let peers = Peers::new(config.time_limits_ns);
    let connections_max = descriptors::connections_max(config.connections, listeners.len());
    let mut server = Server::new(listeners, peers, service, connections_max)?;
    // Not before signals are handled and the sockets are watched: somebody may be waiting for this line.
    for address in addresses {
        info!("listening on {address}");
    }
    server.run()?;
    info!("stopped");
    Ok(())
}

/// What to count in: the same as when there are others, none of which have been found so far.
fn counters() -> Counters {
    Region::in_memory().and_then(|region| region.claim(Scope::Own)).unwrap_or_else(|error| {
        warn!("this process counts for itself: {error}");
        Counters::private()
    })
}
