//! Several processes on a port, started by hand: what one leaves behind, another takes.

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

use crate::kit::{ANSWERED, Client, PATIENCE, Server, eventually, halt, request};

/// So many processes on one port.
fn together(count: usize) -> Vec<Server> {
    let first = Server::start(&[]);
    let address = first.address();
    let mut servers = vec![first];
    servers.extend((1..count).map(|_| another(address)));
    servers
}

fn another(address: SocketAddr) -> Server {
    Server::start_on(&address.to_string(), &[])
}

/// How many sockets listen on this port, as the kernel lists them.
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

/// The abstract names of the processes on this address.
fn names(address: SocketAddr) -> Vec<String> {
    let prefix = format!("@fibsrv.{address}.");
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    // Listening, as far as the flags tell.
    let lines = table.lines().filter(|line| line.contains(" 00010000 "));
    let names = lines.filter_map(|line| line.split_whitespace().nth(7));
    names.filter(|name| name.starts_with(&prefix)).map(|name| name[1..].to_owned()).collect()
}

/// Clients that have asked, some of them in the queue of a process that does not accept.
pub(crate) fn clients_of(address: SocketAddr) -> Vec<Client> {
    let clients = (0..100).map(|_| {
        let mut client = Client::connect(address);
        client.send(request("GET", "/api/fibonacci/20").as_bytes());
        client
    });
    clients.collect()
}

pub(crate) fn all_are_answered(clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.reply().body, "6765");
    }
}

fn check_queue_is_taken(count: usize, signals: &[&str]) {
    let mut servers = together(count);
    assert_eq!(listeners(servers[0].address()), count);
    let victim = servers.remove(0);
    halt(victim.id());
    // All of these came to the halted process with a chance of 2^-100, and none with the same.
    let clients = clients_of(victim.address());
    for signal in signals {
        victim.signal(signal);
    }
    all_are_answered(clients);
    drop(victim);
    assert_eq!(listeners(servers[0].address()), count, "none was closed");
    all_are_answered(clients_of(servers[0].address()));
}

#[test]
fn who_waits_for_a_process_that_is_killed_is_answered_by_another() {
    check_queue_is_taken(2, &["KILL"]);
    check_queue_is_taken(3, &["KILL"]);
}

#[test]
fn who_waits_for_a_process_that_is_told_to_stop_is_answered_by_another() {
    check_queue_is_taken(2, &["TERM", "CONT"]);
    check_queue_is_taken(3, &["TERM", "CONT"]);
}

#[test]
fn one_after_the_other_may_die() {
    let mut servers = together(4);
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
        all_are_answered(clients);
    }
    assert_eq!(listeners(address), 4);
}

#[test]
fn who_comes_takes_over_what_was_left() {
    let mut servers = together(2);
    let address = servers[0].address();
    for round in 0..20 {
        let signal = if round % 2 == 0 { "KILL" } else { "TERM" };
        // The new one first, or the old one first.
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
        all_are_answered(clients_of(address));
    }
    drop(servers);
    eventually("no name is left", || names(address).is_empty());
    assert_eq!(listeners(address), 0);
}

#[test]
fn eight_processes_meet() {
    let servers = together(8);
    let address = servers[0].address();
    assert_eq!((names(address).len(), listeners(address)), (8, 8));
    for server in &servers {
        assert_eq!(server.preface(), "");
    }
}

/// A process under the same roof that does not behave: at the name where it can be met.
fn misbehave(address: SocketAddr) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let rogue = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let name = format!("fibsrv.{address}.f00");
    bind(&rogue, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    listen(&rogue, 8).unwrap();
    rogue
}

/// Whether it was sent does not matter: the other side may have had enough.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap_or(0);
}

/// Starts a server next to a rogue that does this to each process that connects; returns what the server logged.
fn beside(rogue: impl Fn(&OwnedFd) + Sync) -> String {
    let first = Server::start(&[]);
    let address = first.address();
    let socket = misbehave(address);
    let is_over = AtomicBool::new(false);
    let preface = thread::scope(|scope| {
        // The first process connects as well, when it compares.
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
        all_are_answered(clients_of(address));
        drop(links);
        halt(server.id());
        let clients = clients_of(address);
        server.signal("KILL");
        all_are_answered(clients);
        server.preface().to_owned()
    });
    assert!(preface.lines().all(|line| line.contains(" WARN ")), "{preface}");
    preface
}

/// A connection to one of the names on an address.
fn connect_to(address: SocketAddr, id: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let name = format!("fibsrv.{address}.{id}");
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    socket
}

#[test]
fn a_process_that_violates_the_protocol_is_ignored() {
    let null = fs::File::open("/dev/null").unwrap();
    let some = [null.as_fd(); 200];
    let nonsense: [(&[u8], usize); 7] = [
        (b"what?", 0),
        (&[0; 10_000], 0),
        (b"fg\x01\x01", 0), // another version
        (b"fg\x02\x03", 0), // a listener, and no descriptor
        (b"fg\x02\x03", 1), // not a listener
        (b"fg\x02\x04", 200),
        (b"fg\x02\x05", 1), // the end, and a descriptor
    ];
    for (bytes, descriptors) in nonsense {
        let preface = beside(|link| send(link, bytes, &some[..descriptors]));
        assert_eq!(preface.lines().count(), 2, "{bytes:?}: {preface}");
        assert!(preface.contains("ignoring a process on this port"), "{preface}");
        assert!(preface.contains("metrics are not shared"), "{preface}");
    }
}

#[test]
fn a_process_that_does_not_respond_is_waited_for_for_half_a_second() {
    let preface = beside(|_| {});
    assert!(preface.contains("1 do not respond") && preface.lines().count() == 1, "{preface}");
}

#[test]
fn who_comes_to_a_running_process_with_nonsense_does_no_harm() {
    let server = Server::start(&[]);
    let address = server.address();
    let name = names(address).pop().unwrap();
    let at = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    // More than it keeps, some of which say what they should not, and some nothing.
    let rogues: Vec<_> = (0..100_usize)
        .map(|number| {
            let flags = SocketFlags::CLOEXEC;
            let kind = SocketType::SEQPACKET;
            let rogue = socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
            connect(&rogue, &at).unwrap();
            let said: &[u8] = [&b"fg\x02\x05"[..], b"fg\x02\x06\x01", b"nonsense", b""][number % 4];
            if !said.is_empty() {
                send(&rogue, said, &[]);
            }
            rogue
        })
        .collect();
    all_are_answered(clients_of(address));
    drop(rogues);
    let second = another(address);
    halt(second.id());
    let clients = clients_of(address);
    second.signal("KILL");
    all_are_answered(clients);
}

/// Connects, asks once, and reads to the end: whether the answer was right.
fn asks_once(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).map(|_| reply)
    };
    ask().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("6765"))
}

#[test]
fn a_rolling_restart_loses_no_new_connection() {
    let mut servers = together(2);
    let address = servers[0].address();
    let (is_over, asked, lost) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    lost.fetch_add(usize::from(!asks_once(address)), Ordering::Relaxed);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=10 {
            eventually("they ask", || asked.load(Ordering::Relaxed) >= round * 200);
            servers.push(another(address));
            let mut old = servers.remove(0);
            old.signal("TERM");
            old.wait();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (asked, lost) = (asked.into_inner(), lost.into_inner());
    assert_eq!(lost, 0, "of {asked}");
    assert!(listeners(address) <= 3);
}

#[test]
fn whichever_process_is_scraped_tells_the_sum() {
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
        assert_eq!(first.counted()[ANSWERED], total, "whoever answers");
    }
    drop(others.pop()); // by SIGKILL
    let total = load(&first);
    for _ in 0..10 {
        assert_eq!(
            first.counted()[ANSWERED],
            total,
            "what the dead one has counted is still there"
        );
    }
    others.push(Server::start_on(&address, &[]));
    drop(first);
    let total = load(&others[0]);
    for _ in 0..10 {
        assert_eq!(others[0].counted()[ANSWERED], total, "and it outlives whoever was first");
    }
}

/// Whether the metrics of a server include all processes on the port, as it reports it.
fn is_shared(server: &Server) -> bool {
    server.counted()["fibsrv_metrics_shared"] == 1.0
}

#[test]
fn a_stopped_process_delays_no_connection() {
    let servers = together(2);
    let address = servers[0].address();
    halt(servers[1].id());
    for _ in 0..50 {
        all_are_answered(vec![clients_of_one(address)]);
    }
    servers[1].signal("CONT");
    all_are_answered(clients_of(address));
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
    // It holds their listeners by now, and accepts what they do not.
    eventually("all hold all", || {
        let held = others.iter().map(|server| listening(server.id()));
        held.chain([listening(first.id())]).all(|held| held == 3)
    });
    for server in &others {
        halt(server.id());
    }
    all_are_answered(clients_of(address));
    assert!(!is_shared(&first), "the others count in memory of their own");
    for server in &others {
        server.signal("CONT");
    }
    drop(first);
    eventually("the others share", || is_shared(&others[0]) && is_shared(&others[1]));
    assert_eq!(others[0].counted()["fibsrv_workers"], 2.0);
}

/// How many listening TCP sockets a process holds.
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
    all_are_answered(clients);
    let other = Server::start_on(&format!("127.0.0.2:{port}"), &[]);
    eventually("the wildcard shares with each", || is_shared(&all));
    drop(other);
    all_are_answered(clients_of(address));
}

#[test]
fn an_address_may_be_repeated() {
    let first = Server::start(&[]);
    let address = first.address().to_string();
    drop(first);
    let server = Server::start_on(&address, &["--listen", &address]);
    assert_eq!(server.preface(), "");
    all_are_answered(clients_of(server.address()));
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
    all_are_answered(clients_of(address));
}
