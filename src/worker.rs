//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::error::Error;

use log::{info, warn};

use crate::{
    app::App,
    clock::Clock,
    config::Config,
    conn::Buffers,
    descriptors::Room,
    drain::Drain,
    fibonacci::Table,
    group::Group,
    http::head::Parser,
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
    let mut groups = Vec::new();
    for address in &config.listen {
        groups.push(Group::join(*address, config.write_timeout(), None)?.group);
    }
    let probe = Probe::new();
    if let Err(error) = &probe {
        warn!("there will be no process metrics: {error}");
    }
    let addresses: Vec<_> = groups.iter().map(Group::address).collect();
    let service = Service {
        app: App::new(table, config.numbers, BUILD),
        clock: Clock::new(),
        parser: Parser::new(config.limits),
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
    };
    let peers = Peers::new(config.time_limits_ns);
    let room = Room::new(config.connections);
    let mut server = Server::new(groups, peers, service, room, Drain::new(config.drain))?;
    // Not before signals are handled and the sockets are watched: somebody may be waiting for this line.
    for address in addresses {
        info!("listening on {address}");
    }
    server.run()?;
    info!("stopped");
    Ok(())
}
