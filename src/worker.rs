//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::{error::Error, fs::File, io::Write as _};

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
    let mut groups = Vec::new();
    for address in &config.listen {
        groups.push(Group::join(*address, config.write_timeout(), None)?.group);
    }
    let addresses: Vec<_> = groups.iter().map(Group::address).collect();
    let mut server = prepare(config, table, groups)?;
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
            // The supervisor holds them for all workers.
            let groups: Result<_, _> = birth.listeners.into_iter().map(Group::of_one).collect();
            let mut server = prepare(config, table, groups?)?;
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
fn prepare(config: &Config, table: Table, groups: Vec<Group>) -> Result<Server, Box<dyn Error>> {
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
    let room = Room::new(config.connections);
    Ok(Server::new(groups, peers, service, room, Drain::new(config.drain))?)
}
