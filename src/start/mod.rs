//! Builds a worker or a supervisor from its configuration, and runs it.

mod check;

pub use check::check;

use std::{
    error::Error,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use log::{info, warn};
use mio::net::TcpListener;

use crate::{
    app::App,
    config::{Config, Inherited, OpenedBy},
    fibonacci::Table,
    group::Group,
    http::{conn::Buffers, request::head::Parser},
    logging::{self, access::AccessLog},
    metrics::{
        Build, Claim, WORKERS,
        shared::{SharedMemory, SharedMemoryError},
    },
    notify::{StatusReporter, socket::Notifier},
    server::{
        Server,
        connection::{READ_BYTES, WorkerContext},
        connections::Connections,
        drain::Drain,
        process_stats::ProcessStats,
    },
    supervisor::{self, Outcome},
    sys::{
        self,
        activation::{self, PassedError},
        clock::Clock,
        listener::{adopt, check_features, listen, may_stand_for, renew},
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
    let sockets = passed(config)?;
    let memory = new_memory(config, &sockets);
    let (group, memory) = join(config, 1, sockets, memory)?;
    let (addresses, others) = (group.own_addresses(), workers_of(memory.as_ref()));
    let mut server = prepare(config, table, group, claim(memory.as_ref()), access_log)?;
    server.set_on_hangup(on_hangup);
    // Not before the sockets are registered: this line is waited for.
    info!("{}", config.startup_line(&addresses, others));
    let manager = &config.service_manager;
    let notifier = Notifier::new(manager.notify.as_deref());
    let reporter = StatusReporter::service_manager(notifier, manager.watchdog_ns);
    server.report_to(reporter, &format!("version {} serves", BUILD.version));
    server.run()?;
    info!("stopped");
    Ok(())
}

/// Runs a supervisor with this number of workers, or serves as one of them, until it receives a signal to stop.
pub fn run_several(config: &Config, workers: usize) -> Result<(), Box<dyn Error>> {
    rlimit::raise_open_files();
    check_features(config.listeners)?;
    // Made once: forked processes share its pages as long as none writes to them.
    let table = Table::new(config.table_max_n)?;
    // Each worker opens its own, as it may be another file by then. An error is to be found now.
    drop(open_access_log(config)?);
    let (sockets, memory) = if let Some(inherited) = &config.inherited {
        inherit(config, inherited)?
    } else {
        let sockets = passed(config)?;
        let memory = new_memory(config, &sockets);
        (sockets, memory)
    };
    let (group, memory) = join(config, workers, sockets, memory)?;
    // After an upgrade the workers of the old version are its own.
    let own = config.inherited.as_ref().map_or(0, |old| old.workers.len() + old.leaving.len());
    let others = workers_of(memory.as_ref()).saturating_sub(own as u64);
    let unnamed = memory.as_ref().and_then(unnamed_fd);
    match supervisor::run(config, (workers, others), group, unnamed)? {
        Outcome::Ended => info!("stopped"),
        Outcome::Worker(init) => {
            init.enter_worker()?;
            logging::set_worker(init.number);
            let access_log = open_access_log(config)?;
            let mut server =
                prepare(config, table, init.group, claim(memory.as_ref()), access_log)?;
            if init.is_replacement {
                server.count_restart();
            }
            let limit_ns = Some(supervisor::hang_limit_ns(config));
            server.report_to(StatusReporter::supervisor(init.ready, limit_ns), "");
            server.run()?;
        }
    }
    Ok(())
}

/// Returns the number of workers that count in the shared memory.
fn workers_of(region: Option<&SharedMemory>) -> u64 {
    region.map_or(0, |region| region.snapshot().get(WORKERS))
}

/// The sockets and the memory of the program that this one was executed in place of.
fn inherit(
    config: &Config,
    inherited: &Inherited,
) -> Result<(Vec<TcpListener>, Option<SharedMemory>), Box<dyn Error>> {
    let sockets = inherited.sockets.iter().map(|number| {
        let socket = adopt(sys::adopt(*number)?)?;
        // The flags may be others now.
        renew(&socket, config.listeners).map(|()| socket)
    });
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    let memory = match inherited.region {
        Some(number) => or_private(SharedMemory::from_fd(sys::adopt(number)?)),
        None => new_memory(config, &sockets),
    };
    Ok((sockets, memory))
}

/// The sockets that a service manager has passed.
fn passed(config: &Config) -> Result<Vec<TcpListener>, PassedError> {
    activation::take(&config.service_manager.sockets, config.listeners)
}

/// Joins the processes that share a port with this one, and opens `count` listeners on each address, unless a service
/// manager has opened all. The metrics are counted in the memory of the others, if there are any.
fn join(
    config: &Config,
    count: usize,
    mut sockets: Vec<TcpListener>,
    memory: Option<SharedMemory>,
) -> Result<(Group, Option<SharedMemory>), Box<dyn Error>> {
    let is_passed = config.opened_by() == OpenedBy::ServiceManager;
    let addresses = if is_passed { Vec::new() } else { bind_ports(config, &mut sockets)? };
    let mut all = addresses.clone();
    for socket in &sockets {
        all.push(socket.local_addr()?);
    }
    let offer = memory.as_ref().and_then(unnamed_fd);
    let mut group = Group::join(all, offer.map(|offer| offer.try_clone_to_owned()).transpose()?);
    let offered = group.take_offered_memory();
    let memory = if config.inherited.is_some() { memory } else { prefer_shared(offered, memory) };
    let descriptor = memory.as_ref().map(|memory| memory.fd().try_clone_to_owned());
    group.set_memory(descriptor.transpose()?);
    for socket in sockets {
        group.add(socket)?;
    }
    for address in addresses {
        group.open(address, count, config.listeners)?;
    }
    Ok((group, memory))
}

/// The addresses to listen on, with the ports that the kernel has chosen for port 0: of sockets that are open already, or
/// that are opened now.
fn bind_ports(
    config: &Config,
    sockets: &mut Vec<TcpListener>,
) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let mut addresses = Vec::new();
    for address in &config.listen {
        let bound = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let mut port =
            bound.filter(|bound| may_stand_for(*bound, *address)).map(|bound| bound.port()).next();
        if address.port() == 0 && port.is_none() {
            let socket = listen(*address, config.listeners)?;
            port = Some(socket.local_addr()?.port());
            sockets.push(socket);
        }
        addresses.push(SocketAddr::new(address.ip(), port.unwrap_or_else(|| address.port())));
    }
    Ok(addresses)
}

/// A server that is ready to run.
fn prepare(
    config: &Config,
    table: Table,
    group: Group,
    counters: Claim,
    access_log: Option<AccessLog>,
) -> Result<Server, Box<dyn Error>> {
    let probe = ProcessStats::new();
    if let Err(error) = &probe {
        warn!("cannot read process metrics: {error}");
    }
    let context = WorkerContext {
        app: App::with_counters(table, config.numbers, BUILD, counters),
        clock: Clock::new(),
        parser: Parser::new(config.limits),
        probe: probe.ok(),
        buffers: Buffers::default(),
        input: Box::new([0; READ_BYTES]),
        access_log,
    };
    let connections = Connections::new(config.time_limits_ns);
    let fd_budget = FdBudget::new(config.max_connections, group.descriptors());
    Ok(Server::new(group, connections, context, fd_budget, Drain::new(config.drain))?)
}

fn open_access_log(config: &Config) -> io::Result<Option<AccessLog>> {
    config.access_log.as_ref().map(AccessLog::open).transpose()
}

/// The memory to count in, if it could be had.
fn or_private(region: Result<SharedMemory, SharedMemoryError>) -> Option<SharedMemory> {
    region.inspect_err(|error| warn!("cannot share metrics between workers: {error}")).ok()
}

/// Memory to count in that is found by name, if there is a directory for that, or else is new. `sockets` are
/// those that are known already.
fn new_memory(config: &Config, sockets: &[TcpListener]) -> Option<SharedMemory> {
    let port = match config.opened_by() {
        // Nobody knows yet what port 0 will be, or is there already.
        OpenedBy::Us => config.listen.first().map(SocketAddr::port).filter(|port| *port != 0),
        OpenedBy::ServiceManager => {
            let bound = sockets.first().and_then(|first| first.local_addr().ok());
            bound.map(|bound| bound.port())
        }
    };
    let named = config.runtime_dir.as_deref().zip(port);
    let named =
        named.map(|(directory, port)| (directory, SharedMemory::in_directory(directory, port)));
    match named {
        Some((_, Ok(region))) => return Some(region),
        Some((directory, Err(error))) => {
            warn!("cannot share metrics in {}: {error}", directory.display());
        }
        None => {}
    }
    or_private(SharedMemory::in_memory())
}

/// The descriptor of memory that others have to be given, as it has no name.
fn unnamed_fd(region: &SharedMemory) -> Option<BorrowedFd<'_>> {
    (!region.is_named()).then(|| region.fd())
}

/// The memory that others share, if they have given it and our own is not found by name.
fn prefer_shared(theirs: Option<OwnedFd>, own: Option<SharedMemory>) -> Option<SharedMemory> {
    match theirs {
        Some(theirs) if !own.as_ref().is_some_and(SharedMemory::is_named) => {
            or_private(SharedMemory::from_fd(theirs))
        }
        _ => own,
    }
}

/// What to count in: a slot of the region, or else something that nobody else adds up.
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
