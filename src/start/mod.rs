//! Start of a process: opens its resources from the configuration and runs a server or the supervisor.

mod check;

pub use check::check;

use std::{
    error::Error,
    io,
    net::SocketAddr,
    os::fd::{OwnedFd, RawFd},
};

use log::{info, warn};
use mio::net::TcpListener;

use crate::{
    app::{App, Recorder, ResponseTable, Settings},
    config::{Config, Inherited},
    group::Group,
    http::conn::Buffers,
    logging::{self, access::AccessLog},
    metrics::{
        Build, Claim, WORKERS,
        shared::{SharedMemory, SharedMemoryError},
    },
    notify::{Recipient, StatusReporter, socket::Notifier},
    server::{
        Server,
        connections::{ADMIN_CONNECTIONS_MAX, Connections},
        context::{READ_BYTES, WorkerContext},
        delivery::SendBudget,
        drain::Drain,
        process_stats::ProcessStats,
    },
    supervisor::{self, Returned},
    sys::{
        self, Fork,
        activation::{self, PassedError},
        clock::Clock,
        listener::{
            self, adopt, check_features, is_admin, listen, may_stand_for, renew, stands_for,
        },
        rlimit::{self, FdBudget},
        signals::{self, OnHangup},
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
    let table = ResponseTable::new(config.table_max_n)?;
    let access_log = open_access_log(config)?;
    let (group, memory) = join(config, 1, passed(config)?, new_memory())?;
    let others = workers_of(memory.as_ref());
    let startup_line = config.startup_line(&group.own_addresses(), group.admin_addresses(), others);
    let mut server = prepare(config, table, group, claim(memory.as_ref()), access_log)?;
    server.set_on_hangup(on_hangup);
    // Scripts wait for this line. Log it after signals are handled and the sockets are registered.
    info!("{startup_line}");
    let manager = &config.service_manager;
    let notifier = Notifier::new(manager.notify.as_deref());
    let recipient = Recipient::ServiceManager(notifier);
    let reporter = StatusReporter::new(recipient, manager.watchdog_ns);
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
    let table = match ResponseTable::new(config.table_max_n) {
        Ok(table) => table,
        Err(error) => return Err(supervisor::return_to_previous(config, error.into())),
    };
    if config.inherited.is_none() {
        // Each worker opens its own, as the path may be another file by then. An error is found here, at start.
        drop(open_access_log(config)?);
    }
    let (sockets, memory) = match &config.inherited {
        Some(inherited) => inherit(config, inherited)?,
        None => (passed(config)?, new_memory()),
    };
    let (group, memory) = join(config, workers, sockets, memory)?;
    // After an upgrade the workers of the previous version still count. They are not other processes.
    let own = config.inherited.as_ref().map_or(0, |old| old.workers.len() + old.leaving.len());
    let others = workers_of(memory.as_ref()).saturating_sub(own as u64);
    match supervisor::run(config, (workers, others), group, open_memory)? {
        Returned::Ended => info!("stopped"),
        Returned::Worker(init) => {
            logging::set_worker(init.number);
            let access_log = open_access_log(config)?;
            let counters = claim(current_memory(&init.group, memory).as_ref());
            let mut server = prepare(config, table, init.group, counters, access_log)?;
            if init.is_replacement {
                server.count_restart();
            }
            let limit_ns = Some(supervisor::hang_limit_ns(config));
            let recipient = Recipient::Supervisor(init.reports.into());
            server.report_to(StatusReporter::new(recipient, limit_ns), "");
            server.run()?;
        }
    }
    Ok(())
}

/// Performs the steps of an upgrade that can fail, in a process of its own. Returns a line for the supervisor that
/// waits.
pub fn rehearse(config: &Config) -> Result<String, Box<dyn Error>> {
    rlimit::raise_open_files();
    check_features(config.listeners)?;
    let _table = ResponseTable::new(config.table_max_n)?;
    let inherited = config.inherited.as_ref().ok_or("there is no upgrade to rehearse")?;
    let (mut sockets, _memory) = inherit(config, inherited)?;
    addresses_to_open(config, &mut sockets)?;
    drop(open_access_log(config)?);
    match sys::fork().map_err(|error| format!("cannot fork: {error}"))? {
        Fork::Child => Ok(String::new()),
        Fork::Parent(pid) => {
            signals::await_exit(pid)?;
            Ok(format!("{}\n", supervisor::REHEARSED))
        }
    }
}

/// Returns the number of workers that have a slot in the shared memory.
fn workers_of(region: Option<&SharedMemory>) -> u64 {
    region.map_or(0, |region| region.snapshot().get(WORKERS))
}

/// Sockets that this process starts with: those that it owns, and those that other processes own.
#[derive(Default)]
struct Sockets {
    own: Vec<TcpListener>,
    held: Vec<TcpListener>,
    /// The addresses of those that serve only the admin routes.
    admin: Vec<SocketAddr>,
}

/// Returns the sockets and the shared metrics of the program that executed this one in an upgrade.
fn inherit(
    config: &Config,
    inherited: &Inherited,
) -> Result<(Sockets, Option<SharedMemory>), Box<dyn Error>> {
    let adopt_all = |numbers: &[RawFd]| {
        let adopted = numbers.iter().map(|number| adopt(sys::adopt(*number)?));
        let adopted = adopted.collect::<io::Result<Vec<_>>>();
        adopted.map_err(|error| format!("cannot inherit the listening sockets: {error}"))
    };
    let sockets = Sockets {
        own: adopt_all(&inherited.sockets)?,
        held: adopt_all(&inherited.held)?,
        admin: inherited.admin.clone(),
    };
    for socket in &sockets.own {
        // The flags may have changed.
        renew(socket, config.listeners)
            .map_err(|error| format!("cannot set the options of a listening socket: {error}"))?;
    }
    let memory = match inherited.region {
        Some(number) => {
            let descriptor = sys::adopt(number)
                .map_err(|error| format!("cannot inherit the shared metrics: {error}"))?;
            or_private(SharedMemory::from_fd(descriptor))
        }
        None => None,
    };
    Ok((sockets, memory.or_else(new_memory)))
}

/// Returns the sockets that the service manager has passed.
fn passed(config: &Config) -> Result<Sockets, PassedError> {
    let passed = activation::take(&config.service_manager.sockets, config.listeners)?;
    Ok(Sockets { own: passed.listeners, admin: passed.admin, ..Sockets::default() })
}

/// Joins the processes that share a port with this one, and opens `count` listeners on each address, unless the service
/// manager has opened all. Also returns the memory for shared metrics: that of the other processes, if there are any.
fn join(
    config: &Config,
    count: usize,
    mut sockets: Sockets,
    memory: Option<SharedMemory>,
) -> Result<(Group, Option<SharedMemory>), Box<dyn Error>> {
    let addresses = addresses_to_open(config, &mut sockets)?;
    let all = [&addresses[..], &bound_addresses(&sockets.own)?].concat();
    let offer = memory.as_ref().map(SharedMemory::fd);
    let mut group = Group::join(all, offer.map(|offer| offer.try_clone_to_owned()).transpose()?);
    group.set_admin_addresses(sockets.admin);
    let offered = group.offered_memory();
    let memory = if config.inherited.is_some() { memory } else { prefer_shared(offered, memory) };
    let descriptor = memory.as_ref().map(|memory| memory.fd().try_clone_to_owned());
    group.set_memory(descriptor.transpose()?);
    for socket in sockets.own {
        group.add(socket)?;
    }
    for socket in sockets.held {
        group.hold(socket)?;
    }
    for address in addresses {
        match group.open(address, count, config.listeners) {
            // Inherited sockets suffice.
            Err(error) if config.inherited.is_some() => warn!("{error}"),
            outcome => outcome?,
        }
    }
    Ok((group, memory))
}

/// Returns the addresses at which listeners are to be opened, with the ports that the kernel has chosen. Also records
/// those of them that serve only the admin routes.
fn addresses_to_open(
    config: &Config,
    sockets: &mut Sockets,
) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let [public, admin] = config.addresses_to_open();
    let (own, known) = (&mut sockets.own, &mut sockets.admin);
    let mut addresses = bind_ports(config, public, own, |bound| !is_admin(bound, known))?;
    let admin = bind_ports(config, admin, own, |bound| is_admin(bound, known))?;
    addresses.extend(&admin);
    known.extend(admin);
    known.sort_unstable();
    known.dedup(); // after an upgrade they are known already
    check_overlaps(&bound_addresses(own)?, known)?;
    Ok(addresses)
}

/// Checks that no public listener includes an admin address, as one that was passed may do. The address alone says what
/// its connections reach.
fn check_overlaps(own: &[SocketAddr], admin: &[SocketAddr]) -> Result<(), String> {
    let is_exact = |bound| admin.iter().any(|address| stands_for(bound, *address));
    match own.iter().find(|bound| is_admin(**bound, admin) && !is_exact(**bound)) {
        Some(bound) => Err(format!("{bound} includes or is within an admin address")),
        None => Ok(()),
    }
}

fn bound_addresses(sockets: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    sockets.iter().map(TcpListener::local_addr).collect()
}

/// Returns these addresses with the port of an open and suitable socket in place of port 0. Opens one if there is none.
fn bind_ports(
    config: &Config,
    configured: &[SocketAddr],
    sockets: &mut Vec<TcpListener>,
    is_suitable: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let mut addresses = Vec::new();
    for address in configured {
        let bound = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let mut bound = bound.filter(|bound| is_suitable(*bound));
        let bound = bound.find(|bound| may_stand_for(*bound, *address));
        let mut port = bound.map(|bound| bound.port());
        if address.port() == 0 && port.is_none() {
            let socket = listen(*address, config.listeners)?;
            port = Some(socket.local_addr()?.port());
            sockets.push(socket);
        }
        addresses.push(SocketAddr::new(address.ip(), port.unwrap_or_else(|| address.port())));
    }
    Ok(addresses)
}

/// Returns a server that is ready to run.
fn prepare(
    config: &Config,
    table: ResponseTable,
    group: Group,
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
        send_budget: SendBudget::default(),
        unacknowledged: config.listeners.unacknowledged,
        input: Box::new([0; READ_BYTES]),
        access_log,
    };
    let connections = Connections::new(config.time_limits_ns);
    let reserved = if group.admin_addresses().is_empty() { 0 } else { ADMIN_CONNECTIONS_MAX };
    let fd_budget = FdBudget::new(config.max_connections, reserved, group.descriptors());
    Ok(Server::new(group, connections, context, fd_budget, Drain::new(config.drain))?)
}

fn open_access_log(config: &Config) -> io::Result<Option<AccessLog>> {
    config.access_log.as_ref().map(AccessLog::open).transpose()
}

/// Returns the memory for shared metrics. Logs a warning and returns `None` if there is none.
fn or_private(region: Result<SharedMemory, SharedMemoryError>) -> Option<SharedMemory> {
    region.inspect_err(|error| warn!("cannot share metrics between workers: {error}")).ok()
}

/// Opens memory that another process has sent. Returns a descriptor that keeps it.
fn open_memory(memory: OwnedFd) -> Option<OwnedFd> {
    let memory = SharedMemory::from_fd_at_once(memory)
        .inspect_err(|error| warn!("cannot count in the memory of other processes: {error}"))
        .ok()?;
    memory.fd().try_clone_to_owned().ok()
}

/// Returns the memory that the group counts in now: `memory`, unless the processes on the port have agreed on another
/// since the supervisor was started.
fn current_memory(group: &Group, memory: Option<SharedMemory>) -> Option<SharedMemory> {
    let identity = |memory| listener::identity(memory).ok();
    let current = group.memory()?;
    match memory {
        Some(memory) if identity(memory.fd()) == identity(current) => Some(memory),
        _ => or_private(SharedMemory::from_fd(current.try_clone_to_owned().ok()?)),
    }
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
