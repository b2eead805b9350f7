//! Several processes on a port without a supervisor: when one exits, another takes over its accept queue.

use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept, bind, connect, listen, sendmsg, socket_with,
};

use crate::kit::{ANSWERED, Client, PATIENCE, Server, eventually, halt, request, signal};

/// Starts `count` processes on one port.
fn start_group(count: usize) -> Vec<Server> {
    let first = Server::start(&[]);
    let address = first.address();
    let mut servers = vec![first];
    servers.extend((1..count).map(|_| another(address)));
    servers
}

/// Starts another process on this address.
fn another(address: SocketAddr) -> Server {
    Server::start_on(&address.to_string(), &[])
}

/// The number of sockets that listen on this port, from `/proc/net/tcp`.
pub(crate) fn listeners(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = table.lines().filter(|line| {
        let mut columns = line.split_whitespace();
        let is_ours = columns.nth(1).is_some_and(|local| local.ends_with(&port));
        is_ours && columns.nth(1) == Some("0A")
    });
    sockets.count()
}

/// The abstract socket names of the processes on this address.
fn names(address: SocketAddr) -> Vec<String> {
    let prefix = format!("@fibsrv.{address}.");
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    // The flag of a listening socket (`__SO_ACCEPTCON`).
    let lines = table.lines().filter(|line| line.contains(" 00010000 "));
    let names = lines.filter_map(|line| line.split_whitespace().nth(7));
    names.filter(|name| name.starts_with(&prefix)).map(|name| name[1..].to_owned()).collect()
}

/// Clients that have sent a request. Some are in the accept queue of a stopped process, if there is one.
pub(crate) fn clients_of(address: SocketAddr) -> Vec<Client> {
    let clients = (0..100).map(|_| {
        let mut client = Client::connect(address);
        client.send(request("GET", "/api/fibonacci/20").as_bytes());
        client
    });
    clients.collect()
}

pub(crate) fn check_all_served(clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.reply().body, "6765");
    }
}

/// Checks that no client waiting on a stopped process is lost when that process receives `signals`.
fn check_queue_is_taken(count: usize, signals: &[&str]) {
    let mut servers = start_group(count);
    assert_eq!(listeners(servers[0].address()), count);
    let victim = servers.remove(0);
    halt(victim.id());
    // The probability that all or none of these reached the halted process is 2^-99 with two processes.
    let clients = clients_of(victim.address());
    for signal in signals {
        victim.signal(signal);
    }
    check_all_served(clients);
    drop(victim);
    assert_eq!(listeners(servers[0].address()), count, "no listener was closed");
    check_all_served(clients_of(servers[0].address()));
}

#[test]
fn the_accept_queue_of_a_killed_process_is_served_by_another() {
    check_queue_is_taken(2, &["KILL"]);
    check_queue_is_taken(3, &["KILL"]);
}

#[test]
fn the_accept_queue_of_a_process_that_receives_sigterm_is_served_by_another() {
    check_queue_is_taken(2, &["TERM", "CONT"]);
    check_queue_is_taken(3, &["TERM", "CONT"]);
}

#[test]
fn processes_may_be_killed_one_after_the_other() {
    let mut servers = start_group(4);
    let address = servers[0].address();
    while servers.len() > 1 {
        for server in &servers[1..] {
            halt(server.id());
        }
        let clients = clients_of(address);
        let victim = servers.pop().unwrap();
        victim.signal("KILL");
        for server in &servers[1..] {
            server.signal("CONT");
        }
        check_all_served(clients);
    }
    assert_eq!(listeners(address), 4);
}

#[test]
fn a_new_process_takes_over_the_listeners_of_those_that_exited() {
    let mut servers = start_group(2);
    let address = servers[0].address();
    for round in 0..20 {
        let signal = if round % 2 == 0 { "KILL" } else { "TERM" };
        // The new one starts before or after the old one exits.
        if round % 4 < 2 {
            servers.push(another(address));
        }
        let mut old = servers.remove(0);
        old.signal(signal);
        old.wait();
        if servers.len() < 2 {
            servers.push(another(address));
        }
        assert!(listeners(address) <= 3, "round {round}: {}", listeners(address));
        check_all_served(clients_of(address));
    }
    drop(servers);
    eventually("no name is left", || names(address).is_empty());
    assert_eq!(listeners(address), 0);
}

#[test]
fn eight_processes_form_a_group() {
    let servers = start_group(8);
    let address = servers[0].address();
    assert_eq!((names(address).len(), listeners(address)), (8, 8));
    for server in &servers {
        assert_eq!(server.preface(), "");
    }
}

/// Listens under the name of a process on this address, to send what a server never sends.
fn listen_as_member(address: SocketAddr) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let rogue = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let name = format!("fibsrv.{address}.f00");
    bind(&rogue, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    listen(&rogue, 8).unwrap();
    rogue
}

/// Sends a message. A failure is ignored, because the server may have closed the connection.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap_or(0);
}

/// Starts a server beside a process that misbehaves in this way on each link. Returns what the server logged.
fn beside(rogue: impl Fn(&OwnedFd) + Sync) -> String {
    let first = Server::start(&[]);
    let address = first.address();
    let socket = listen_as_member(address);
    let is_over = AtomicBool::new(false);
    let preface = thread::scope(|scope| {
        // The first process connects as well, at its next check.
        let links = scope.spawn(|| {
            let mut links = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let link = accept(&socket).unwrap();
                rogue(&link);
                links.push(link);
            }
            links
        });
        let server = another(address);
        is_over.store(true, Ordering::Relaxed);
        drop(connect_to(address, "f00"));
        let links = links.join().unwrap();
        check_all_served(clients_of(address));
        drop(links);
        halt(server.id());
        let clients = clients_of(address);
        server.signal("KILL");
        check_all_served(clients);
        server.preface().to_owned()
    });
    assert!(preface.lines().all(|line| line.contains(" WARN ")), "{preface}");
    preface
}

/// Connects to one of the names on an address.
fn connect_to(address: SocketAddr, id: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let name = format!("fibsrv.{address}.{id}");
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    socket
}

#[test]
fn a_process_that_sends_invalid_messages_is_ignored() {
    let null = fs::File::open("/dev/null").unwrap();
    let descriptors_to_send = [null.as_fd(); 200];
    let invalid: [(&[u8], usize); 7] = [
        (b"what?", 0),
        (&[0; 10_000], 0),
        (b"fg\x01\x01", 0), // another version
        (b"fg\x02\x03", 0), // a listener without a descriptor
        (b"fg\x02\x03", 1), // a descriptor that is not a socket
        (b"fg\x02\x04", 200),
        (b"fg\x02\x05", 1), // the end, with a descriptor
    ];
    for (bytes, descriptors) in invalid {
        let preface = beside(|link| send(link, bytes, &descriptors_to_send[..descriptors]));
        assert_eq!(preface.lines().count(), 2, "{bytes:?}: {preface}");
        assert!(preface.contains("ignoring a process on this port"), "{preface}");
        assert!(preface.contains("metrics are not shared"), "{preface}");
    }
}

#[test]
fn a_process_that_sends_nothing_delays_the_start_only_briefly() {
    let preface = beside(|_| {});
    assert!(preface.contains("1 do not respond") && preface.lines().count() == 1, "{preface}");
}

#[test]
fn invalid_messages_to_a_running_process_do_no_harm() {
    let server = Server::start(&[]);
    let address = server.address();
    let name = names(address).pop().unwrap();
    let at = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    // More connections than it keeps. Some send an invalid message, and some send nothing.
    let rogues: Vec<_> = (0..100_usize)
        .map(|number| {
            let flags = SocketFlags::CLOEXEC;
            let kind = SocketType::SEQPACKET;
            let rogue = socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
            connect(&rogue, &at).unwrap();
            let message: &[u8] =
                [&b"fg\x02\x05"[..], b"fg\x02\x06\x01", b"nonsense", b""][number % 4];
            if !message.is_empty() {
                send(&rogue, message, &[]);
            }
            rogue
        })
        .collect();
    check_all_served(clients_of(address));
    drop(rogues);
    let second = another(address);
    halt(second.id());
    let clients = clients_of(address);
    second.signal("KILL");
    check_all_served(clients);
}

/// Sends one request on a new connection and reads to the end. Returns whether the response was right.
fn is_served(address: SocketAddr) -> bool {
    let exchange = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).map(|_| reply)
    };
    exchange().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("6765"))
}

#[test]
fn a_rolling_restart_loses_no_new_connection() {
    let mut servers = start_group(2);
    let address = servers[0].address();
    let (is_over, sent, lost) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    lost.fetch_add(usize::from(!is_served(address)), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=10 {
            eventually("the clients have sent requests", || {
                sent.load(Ordering::Relaxed) >= round * 200
            });
            servers.push(another(address));
            let mut old = servers.remove(0);
            old.signal("TERM");
            old.wait();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (sent, lost) = (sent.into_inner(), lost.into_inner());
    assert_eq!(lost, 0, "of {sent}");
    assert!(listeners(address) <= 3);
}

#[test]
fn a_scrape_of_any_process_returns_the_sum() {
    let first = Server::start(&[]);
    let address = first.address().to_string();
    let mut others: Vec<Server> = (0..2).map(|_| Server::start_on(&address, &[])).collect();
    let mut expected = 0.0;
    let mut load = |server: &Server| {
        for _ in 0..40 {
            assert_eq!(server.get("/api/fibonacci/20").body, "6765");
        }
        expected += 40.0;
        expected
    };
    let total = load(&first);
    for _ in 0..20 {
        assert_eq!(first.counted()[ANSWERED], total, "from any process");
    }
    drop(others.pop()); // by SIGKILL
    let total = load(&first);
    for _ in 0..10 {
        assert_eq!(first.counted()[ANSWERED], total, "counts of a killed process are kept");
    }
    others.push(Server::start_on(&address, &[]));
    drop(first);
    let total = load(&others[0]);
    for _ in 0..10 {
        assert_eq!(others[0].counted()[ANSWERED], total, "counts outlive the first process");
    }
}

/// Whether a server reports that its metrics include all processes on the port.
fn is_shared(server: &Server) -> bool {
    server.counted()["fibsrv_metrics_shared"] == 1.0
}

#[test]
fn a_stopped_process_delays_no_connection() {
    let servers = start_group(2);
    let address = servers[0].address();
    halt(servers[1].id());
    for _ in 0..50 {
        check_all_served(vec![clients_of_one(address)]);
    }
    servers[1].signal("CONT");
    check_all_served(clients_of(address));
}

/// A client that has sent a request.
fn clients_of_one(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(request("GET", "/api/fibonacci/20").as_bytes());
    client
}

#[test]
fn processes_that_start_next_to_a_stopped_one_find_it_later() {
    let first = Server::start(&[]);
    let address = first.address();
    halt(first.id());
    let others = [another(address), another(address)];
    assert!(others[0].preface().contains("do not respond"), "{}", others[0].preface());
    first.signal("CONT");
    // It holds their listeners now, and accepts while they are stopped.
    eventually("all hold all", || {
        let held = others.iter().map(|server| listening(server.id()));
        held.chain([listening(first.id())]).all(|held| held == 3)
    });
    for server in &others {
        halt(server.id());
    }
    check_all_served(clients_of(address));
    for server in &others {
        server.signal("CONT");
    }
    eventually("all share", || others.iter().chain([&first]).all(is_shared));
    assert_eq!(others[0].counted()["fibsrv_workers"], 3.0);
}

#[test]
fn processes_that_count_apart_move_to_common_memory_and_lose_no_count() {
    let first = Server::start(&[]);
    let address = first.address();
    check_all_served(clients_of(address));
    halt(first.id());
    // No connection to this address is assigned to the listener of the stopped process.
    let wildcard = format!("0.0.0.0:{}", address.port());
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], address.port()));
    let others = [&[][..], &["--workers", "2"]].map(|flags| Server::start_on(&wildcard, flags));
    check_all_served(clients_of(elsewhere));
    signal(crate::supervisor::workers(&others[1])[0], "KILL");
    check_all_served(clients_of(elsewhere));
    first.signal("CONT");
    eventually("all count together", || {
        let all: Vec<_> = others.iter().chain([&first]).map(Server::counted).collect();
        all.iter().all(|counted| {
            counted["fibsrv_metrics_shared"] == 1.0
                && counted["fibsrv_workers"] == 4.0
                && counted[ANSWERED] == 300.0
        })
    });
    // They stay together without the first.
    drop(first);
    eventually("three are left", || others[0].counted()["fibsrv_workers"] == 3.0);
    for server in &others {
        let counted = server.counted();
        assert_eq!((counted["fibsrv_metrics_shared"], counted[ANSWERED]), (1.0, 300.0));
    }
}

/// Returns the number of listening TCP sockets that a process holds.
fn listening(pid: u32) -> usize {
    crate::systemd::listeners_of(pid).len()
}

#[test]
fn overlapping_addresses_share_connections_and_metrics() {
    let all = Server::start_on("0.0.0.0:0", &[]);
    let port = all.address().port();
    let one = Server::start_on(&format!("127.0.0.1:{port}"), &[]);
    let address = one.address();
    eventually("they share", || is_shared(&all) && is_shared(&one));
    assert_eq!(one.counted()["fibsrv_workers"], 2.0);
    halt(one.id());
    let clients = clients_of(address);
    one.signal("KILL");
    check_all_served(clients);
    let other = Server::start_on(&format!("127.0.0.2:{port}"), &[]);
    eventually("the wildcard shares with each", || is_shared(&all));
    drop(other);
    check_all_served(clients_of(address));
}

#[test]
fn an_address_may_be_repeated() {
    let first = Server::start(&[]);
    let address = first.address().to_string();
    drop(first);
    let server = Server::start_on(&address, &["--listen", &address]);
    assert_eq!(server.preface(), "");
    check_all_served(clients_of(server.address()));
}

#[test]
fn many_processes_that_start_at_once_share() {
    let first = Server::start(&[]);
    let address = first.address();
    let servers: Vec<_> = thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(|| another(address))).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    eventually("all count together", || {
        let counted = first.counted();
        counted["fibsrv_metrics_shared"] == 1.0 && counted["fibsrv_workers"] == 9.0
    });
    drop(servers);
    check_all_served(clients_of(address));
}
