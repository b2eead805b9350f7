//! One worker, from its configuration to its end: makes the parts and runs the loop.

use std::{
    error::Error,
    fs::File,
    io::{self, Write as _},
};

use log::{info, warn};

use crate::{
    access_log::AccessLog,
    app::App,
    clock::Clock,
    config::Config,
    conn::Buffers,
    descriptors::Room,
    drain::Drain,
    fibonacci::Table,
    group::Group,
    http::head::Parser,
    metrics::{
        Build, Counters,
        shared::{Region, RegionError},
    },
    peer::{READ_BYTES, Service},
    peers::Peers,
    process::Probe,
    server::Server,
    supervisor::{self, Outcome},
    sys,
};

const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("FIBSRV_REVISION"),
    rustc: env!("FIBSRV_RUSTC"),
};

/// Serves in the foreground until told to stop.
pub fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let table = Table::new(config.table_last)?;
    let access_log = open_access_log(config)?;
    let (groups, region) = join_groups(config)?;
    let addresses: Vec<_> = groups.iter().map(Group::address).collect();
    let mut server = prepare(config, table, groups, claim(region.as_ref()), access_log)?;
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
    // Each worker opens its own, as it may be another file by then. This is to fail now if it is to fail.
    drop(open_access_log(config)?);
    let region = match config.inherited.as_ref().and_then(|inherited| inherited.region) {
        Some(descriptor) => keep(Region::from_fd(sys::adopt(descriptor)?)),
        None => keep(Region::in_memory()),
    };
    match supervisor::run(config, workers, region.as_ref().map(Region::fd))? {
        Outcome::Ended => info!("stopped"),
        Outcome::Worker(birth) => {
            birth.leave_home()?;
            let counters = claim(region.as_ref());
            // The supervisor holds them for all workers.
            let groups: Result<_, _> = birth.listeners.into_iter().map(Group::of_one).collect();
            let access_log = open_access_log(config)?;
            let mut server = prepare(config, table, groups?, counters, access_log)?;
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
    groups: Vec<Group>,
    counters: Counters,
    access_log: Option<AccessLog>,
) -> Result<Server, Box<dyn Error>> {
    let probe = Probe::new();
    if let Err(error) = &probe {
        warn!("there will be no process metrics: {error}");
    }
    let service = Service {
        app: App::with_counters(table, config.numbers, BUILD, counters),
        clock: Clock::new(),
        parser: Parser::new(config.limits),
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
        access_log,
    };
    let peers = Peers::new(config.time_limits_ns);
    let room = Room::new(config.connections);
    Ok(Server::new(groups, peers, service, room, Drain::new(config.drain))?)
}

fn open_access_log(config: &Config) -> io::Result<Option<AccessLog>> {
    config.access_log.as_ref().map(AccessLog::open).transpose()
}

/// The memory to count in, if it could be had.
fn keep(region: Result<Region, RegionError>) -> Option<Region> {
    region.inspect_err(|error| warn!("workers count for themselves: {error}")).ok()
}

/// Joins the group of each address. The memory to count in is that of the others, where there are any.
fn join_groups(config: &Config) -> Result<(Vec<Group>, Option<Region>), Box<dyn Error>> {
    let mut region = keep(Region::in_memory());
    let mut groups = Vec::new();
    for address in &config.listen {
        let own = region.as_ref().map(|region| region.fd().try_clone_to_owned()).transpose()?;
        let joined = Group::join(*address, config.write_timeout(), own)?;
        if let (Some(theirs), true) = (joined.region, groups.is_empty()) {
            region = keep(Region::from_fd(theirs));
        }
        groups.push(joined.group);
    }
    Ok((groups, region))
}

/// What to count in: a slot of the region, or else something that nobody else adds up.
fn claim(region: Option<&Region>) -> Counters {
    let claimed = region.map(Region::claim);
    match claimed {
        Some(Ok(counters)) => counters,
        Some(Err(error)) => {
            warn!("this worker counts for itself: {error}");
            Counters::private()
        }
        None => Counters::private(),
    }
}
