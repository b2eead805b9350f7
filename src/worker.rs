//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::{error::Error, fs::File, io::Write as _};

use log::{info, warn};
use mio::net::TcpListener;

use crate::{
    app::App,
    clock::Clock,
    config::Config,
    conn::Buffers,
    descriptors,
    drain::Drain,
    fibonacci::Table,
    http::head::Parser,
    listener::listen,
    metrics::Build,
    peer::{READ_BYTES, Service},
    peers::Peers,
    process::Probe,
    server::Server,
    supervisor::{self, Outcome},
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
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses?;
    let mut server = prepare(config, table, listeners)?;
    // Not before signals are handled and the sockets are watched: somebody may be waiting for this line.
    for address in addresses {
        info!("listening on {address}");
    }
    server.run()?;
    info!("stopped");
    Ok(())
}

/// Has a supervisor keep so many workers, or serves as one of them, until told to stop.
pub fn run_several(config: &Config, workers: usize) -> Result<(), Box<dyn Error>> {
    // Made once: forked processes share its pages as long as nobody writes to them.
    let table = Table::new(config.table_last)?;
    match supervisor::run(config, workers)? {
        Outcome::Ended => info!("stopped"),
        Outcome::Worker(birth) => {
            let mut server = prepare(config, table, birth.listeners)?;
            if birth.is_replacement {
                server.count_restart();
            }
            File::from(birth.ready).write_all(b"!")?;
            server.run()?;
        }
    }
    Ok(())
}

/// A server that is ready to run.
fn prepare(
    config: &Config,
    table: Table,
    listeners: Vec<TcpListener>,
) -> Result<Server, Box<dyn Error>> {
    let probe = Probe::new();
    if let Err(error) = &probe {
        warn!("there will be no process metrics: {error}");
    }
    let service = Service {
        app: App::new(table, config.numbers, BUILD),
        clock: Clock::new(),
        parser: Parser::new(config.limits),
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
    };
    let peers = Peers::new(config.time_limits_ns);
    let connections_max = descriptors::connections_max(config.connections, listeners.len());
    Ok(Server::new(listeners, peers, service, connections_max, Drain::new(config.drain))?)
}
