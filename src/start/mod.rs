//! Start of a process: opens its resources from the configuration and runs a server or the supervisor.

mod check;

pub use check::check;

use std::{collections::BTreeSet, error::Error, io, net::SocketAddr, os::fd::OwnedFd};

use log::{info, warn};
use mio::net::TcpListener;

use crate::{
    app::{App, Recorder, Settings},
    config::{Config, Inherited, OpenedBy},
    fibonacci::Table,
    group::{Group, Joined},
    http::conn::Buffers,
    logging::{self, access::AccessLog},
    metrics::{
        Build, Claim, WORKERS,
        shared::{SharedMemory, SharedMemoryError},
    },
    notify::{StatusReporter, socket::Notifier},
    server::{
        Server,
        connections::Connections,
        context::{READ_BYTES, WorkerContext},
        drain::Drain,
        process_stats::ProcessStats,
    },
    supervisor::{self, Outcome},
    sys::{
        self,
        activation::{self, PassedError},
        clock::Clock,
        listener::{ListenError, adopt, check_features, may_stand_for, renew},
        rlimit::{self, FdBudget},
        signals::OnHangup,
    },
};

const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("FIBSRV_REVISION"),
    rustc: env!("FIBSRV_RUSTC"),
};

/// Serves in the foreground until it receives a signal to stop.
pub fn run(config: &Config, on_hangup: OnHangup) -> Result<(), Box<dyn Error>> {
    rlimit::raise_open_files();
    check_features(config.listeners)?;
    let table = Table::new(config.table_max_n)?;
    let access_log = open_access_log(config)?;
    let (groups, region) = match config.opened_by() {
        OpenedBy::ServiceManager => {
            let (passed, region) = passed(config)?;
            (solo_groups(passed)?, region)
        }
        OpenedBy::Us => join_groups(config, new_memory(), |address, region| {
            Group::join(address, config.listeners, region).map(Some)
        })?,
    };
    let addresses: BTreeSet<_> = groups.iter().map(Group::address).collect();
    let others = workers_of(region.as_ref());
    let mut server = prepare(config, table, groups, claim(region.as_ref()), access_log)?;
    server.set_on_hangup(on_hangup);
    // Scripts wait for this line. Log it after signals are handled and the sockets are registered.
    info!("{}", config.startup_line(&addresses, others));
    let manager = &config.service_manager;
    let notifier = Notifier::new(manager.notify.as_deref());
    let reporter = StatusReporter::service_manager(notifier, manager.watchdog_ns);
    server.report_to(reporter, &format!("version {} is ready", BUILD.version));
    server.run()?;
    info!("stopped");
    Ok(())
}

/// Runs a supervisor with `workers` workers until it receives a signal to stop. In a forked process, runs one
/// of the workers.
pub fn run_several(config: &Config, workers: usize) -> Result<(), Box<dyn Error>> {
    rlimit::raise_open_files();
    check_features(config.listeners)?;
    // The table is computed once. Forked processes share its pages, as no process writes to them.
    let table = Table::new(config.table_max_n)?;
    // Each worker opens its own, as the path may be another file by then. An error is found here, at start.
    drop(open_access_log(config)?);
    let (sockets, region) = match &config.inherited {
        Some(inherited) => inherit(config, inherited)?,
        None if config.opened_by() == OpenedBy::ServiceManager => passed(config)?,
        None => discover(config, workers)?,
    };
    // After an upgrade the workers of the previous version still count. They are not other processes.
    let own = config.inherited.as_ref().map_or(0, |old| old.workers.len() + old.leaving.len());
    let others = workers_of(region.as_ref()).saturating_sub(own as u64);
    let memory = region.as_ref().map(SharedMemory::fd);
    match supervisor::run(config, (workers, others), sockets, memory)? {
        Outcome::Ended => info!("stopped"),
        Outcome::Worker(init) => {
            init.enter_worker()?;
            logging::set_worker(init.number);
            let (groups, region) = match config.opened_by() {
                OpenedBy::ServiceManager => (solo_groups(init.listeners)?, region),
                OpenedBy::Us => join_with(config, init.listeners, region)?,
            };
            let counters = claim(region.as_ref());
            let access_log = open_access_log(config)?;
            let mut server = prepare(config, table, groups, counters, access_log)?;
            if init.is_replacement {
                server.count_restart();
            }
            let limit_ns = config.service_manager.watchdog_ns;
            server.report_to(StatusReporter::supervisor(init.ready, limit_ns), "");
            server.run()?;
        }
    }
    Ok(())
}

/// Returns the number of workers that have a slot in the shared memory.
fn workers_of(region: Option<&SharedMemory>) -> u64 {
    region.map_or(0, |region| region.snapshot().get(WORKERS))
}

/// Returns the sockets and the shared metrics of the program that executed this one in an upgrade.
fn inherit(
    config: &Config,
    inherited: &Inherited,
) -> Result<(Vec<TcpListener>, Option<SharedMemory>), Box<dyn Error>> {
    let sockets = inherited.sockets.iter().map(|number| {
        let socket = adopt(sys::adopt(*number)?)?;
        // The flags may have changed.
        renew(&socket, config.listeners).map(|()| socket)
    });
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    let region = match inherited.region {
        Some(number) => or_private(SharedMemory::from_fd(sys::adopt(number)?)),
        None => new_memory(),
    };
    Ok((sockets, region))
}

/// Returns the sockets that the service manager has passed, and new memory for shared metrics.
fn passed(config: &Config) -> Result<(Vec<TcpListener>, Option<SharedMemory>), PassedError> {
    let sockets = activation::take(&config.service_manager.sockets, config.listeners)?;
    let region = new_memory();
    Ok((sockets, region))
}

/// Returns what other processes on the same ports have left or share: up to `workers` orphaned listeners per
/// address, and the memory for shared metrics. Without other processes it is new memory.
fn discover(
    config: &Config,
    workers: usize,
) -> Result<(Vec<TcpListener>, Option<SharedMemory>), ListenError> {
    let (mut sockets, mut region) = (Vec::new(), new_memory());
    for (nth, address) in config.listen.iter().filter(|address| address.port() != 0).enumerate() {
        let found = Group::discover(*address)?;
        for orphan in found.orphans.into_iter().take(workers) {
            renew(&orphan, config.listeners).map_err(|error| ListenError::new(*address, error))?;
            sockets.push(orphan);
        }
        if nth == 0 {
            region = prefer_shared(found.region, region);
        }
    }
    Ok((sockets, region))
}

/// Returns a server that is ready to run.
fn prepare(
    config: &Config,
    table: Table,
    groups: Vec<Group>,
    counters: Claim,
    access_log: Option<AccessLog>,
) -> Result<Server, Box<dyn Error>> {
    let process_stats = ProcessStats::new();
    if let Err(error) = &process_stats {
        warn!("cannot read process metrics: {error}");
    }
    let settings = Settings { limits: config.limits, numbers: config.numbers, build: BUILD };
    let log_format = config.access_log.as_ref().map(|options| options.format);
    let context = WorkerContext {
        app: App::new(table, settings, Recorder::new(counters, log_format)),
        clock: Clock::new(),
        process_stats: process_stats.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
        access_log,
    };
    let connections = Connections::new(config.time_limits_ns);
    let counted = groups.iter().map(Group::descriptors).sum();
    let fd_budget = FdBudget::new(config.max_connections, counted);
    Ok(Server::new(groups, connections, context, fd_budget, Drain::new(config.drain))?)
}

fn open_access_log(config: &Config) -> io::Result<Option<AccessLog>> {
    config.access_log.as_ref().map(AccessLog::open).transpose()
}

/// Returns the memory for shared metrics. Logs a warning and returns `None` if there is none.
fn or_private(region: Result<SharedMemory, SharedMemoryError>) -> Option<SharedMemory> {
    region.inspect_err(|error| warn!("cannot share metrics between workers: {error}")).ok()
}

/// Returns new memory for shared metrics.
fn new_memory() -> Option<SharedMemory> {
    or_private(SharedMemory::in_memory())
}

/// Returns the memory that the other processes share, if they have sent it and this version can read it.
/// Otherwise returns `own`.
fn prefer_shared(theirs: Option<OwnedFd>, own: Option<SharedMemory>) -> Option<SharedMemory> {
    theirs.and_then(|theirs| or_private(SharedMemory::from_fd(theirs))).or(own)
}

/// Joins the group of each address. Also returns the memory for shared metrics: that of the other processes,
/// if there are any.
fn join_groups(
    config: &Config,
    mut region: Option<SharedMemory>,
    mut join: impl FnMut(SocketAddr, Option<OwnedFd>) -> Result<Option<Joined>, ListenError>,
) -> Result<(Vec<Group>, Option<SharedMemory>), Box<dyn Error>> {
    let mut groups = Vec::new();
    for address in &config.listen {
        let own = region.as_ref().map(SharedMemory::fd);
        let own = own.map(|own| own.try_clone_to_owned()).transpose()?;
        let Some(joined) = join(*address, own)? else { continue };
        if groups.is_empty() {
            region = prefer_shared(joined.region, region);
        }
        groups.push(joined.group);
    }
    Ok((groups, region))
}

/// Joins the group of each address with the sockets that this worker has inherited.
fn join_with(
    config: &Config,
    mut listeners: Vec<TcpListener>,
    region: Option<SharedMemory>,
) -> Result<(Vec<Group>, Option<SharedMemory>), Box<dyn Error>> {
    join_groups(config, region, |address, region| {
        let own = listeners.extract_if(.., |listener| {
            listener.local_addr().is_ok_and(|bound| may_stand_for(bound, address))
        });
        let own: Vec<_> = own.collect();
        // The supervisor holds the sockets of all workers. With port 0 they have the actual port.
        let port = own.first().and_then(|first| first.local_addr().ok());
        let port = port.map(|bound| SocketAddr::new(address.ip(), bound.port()));
        port.map(|address| Group::join_with(address, own, region)).transpose()
    })
}

/// Returns a group for each passed socket. No other process joins these groups.
fn solo_groups(sockets: Vec<TcpListener>) -> io::Result<Vec<Group>> {
    sockets.into_iter().map(Group::of_one).collect()
}

/// Claims a slot of the shared memory. Without one, returns private memory that no other process adds up.
fn claim(region: Option<&SharedMemory>) -> Claim {
    let claimed = region.map(SharedMemory::claim);
    match claimed {
        Some(Ok(counters)) => counters,
        Some(Err(error)) => {
            warn!("cannot share the metrics of this worker: {error}");
            Claim::private()
        }
        None => Claim::private(),
    }
}
