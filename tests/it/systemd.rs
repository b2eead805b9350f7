//! A systemd service: passed sockets, and notifications to the service manager, whose part the test plays.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram},
    },
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    kit::{Client, PATIENCE, Server, eventually, halt, request, signal},
    supervisor::{Program, workers},
};

const BINARY: &str = env!("CARGO_BIN_EXE_fibsrv");

/// A listening socket as systemd opens it, and its address.
fn open() -> (OwnedFd, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

/// Two listening sockets on one port, as of a unit with `ReusePort=`.
fn open_two() -> ([OwnedFd; 2], SocketAddr) {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets = [(); 2].map(|()| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        socket.into()
    });
    (sockets, address)
}

/// The kernel's name of a socket of this process, which is the same in all processes that have the socket.
fn name_of(socket: &OwnedFd) -> String {
    target(Path::new("/proc/self/fd").join(socket.as_raw_fd().to_string()).as_path())
}

fn target(link: &Path) -> String {
    fs::read_link(link).map(|target| target.display().to_string()).unwrap_or_default()
}

/// The names of all listening TCP sockets that a process has open.
pub(crate) fn listeners_of(pid: u32) -> Vec<String> {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let tables = tables.map(Result::unwrap_or_default).concat();
    let listening: Vec<_> = tables
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(3) == Some(&"0A"))
        .map(|columns| format!("socket:[{}]", columns[9]))
        .collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut open: Vec<_> = open.map(|entry| target(&entry.unwrap().path())).collect();
    open.retain(|name| listening.contains(name));
    open.sort();
    open
}

/// The command that executes a program with these variables and flags, and with these sockets as its descriptors
/// from 3 up. The shell executes the program in its place, so `$$` is the program's process id.
fn service(program: &Path, variables: &str, flags: &[&str], passed: &[&OwnedFd]) -> Command {
    let mut shell = Command::new("sh");
    shell.env_clear().stdin(Stdio::null());
    let places = ["3<&0 0</dev/null", "4<&2 2>&1"];
    if let Some(socket) = passed.first() {
        shell.stdin(socket.try_clone().unwrap());
    }
    if let Some(socket) = passed.get(1) {
        shell.stderr(socket.try_clone().unwrap());
    }
    // What the test runner was started with, such as a jobserver's pipe, is not passed.
    let closed = (3 + passed.len()..10).map(|descriptor| format!("{descriptor}<&-"));
    let moves: Vec<String> =
        places[..passed.len()].iter().map(ToString::to_string).chain(closed).collect();
    let moves = format!("exec {};", moves.join(" "));
    let script = format!("{moves} {variables} exec '{}' \"$@\"", program.display());
    shell.args(["-c", &script, "sh"]).args(flags);
    shell
}

/// Starts the program as a service with these passed sockets.
fn activate(passed: &[&OwnedFd], variables: &str, flags: &[&str]) -> Server {
    let count = passed.len();
    let variables = format!("LISTEN_PID=$$ LISTEN_FDS={count} {variables}");
    Server::spawn(service(Path::new(BINARY), &variables, flags, passed))
}

/// Runs the program until it exits.
fn run(variables: &str, passed: &[&OwnedFd]) -> Output {
    service(Path::new(BINARY), variables, &[], passed).output().unwrap()
}

/// A service manager that receives the notifications of a service.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let name = format!("fibsrv-{}-{test}", std::process::id());
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name }
    }

    fn variables(&self, more: &str) -> String {
        format!("NOTIFY_SOCKET=@{} {more}", self.name)
    }

    /// Receives the next notification. Returns its values by name.
    fn receive(&self) -> BTreeMap<String, String> {
        let mut bytes = [0; 4096];
        // A wait with a time limit is interrupted when the machine is paused, without any signal (signal(7)).
        let length = loop {
            match self.socket.recv(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.expect("a notification"),
            }
        };
        let lines = str::from_utf8(&bytes[..length]).unwrap().lines();
        let lines = lines.map(|line| line.split_once('=').expect("a name and a value"));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Waits for a notification with this name. Only watchdog notifications may precede it.
    fn await_notification(&self, name: &str) -> BTreeMap<String, String> {
        loop {
            let notification = self.receive();
            if notification.contains_key(name) {
                return notification;
            }
            assert_eq!(notification["WATCHDOG"], "1", "{notification:?} instead of {name}");
        }
    }

    /// Whether no notification is left to receive. Call it after the service has exited.
    fn has_received_all(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        self.socket.recv(&mut [0; 4096]).is_err()
    }
}

fn check(address: SocketAddr, times: usize) {
    for _ in 0..times {
        assert_eq!(Client::connect(address).get("/api/fibonacci/20").body, "6765");
    }
}

#[test]
fn clients_that_connect_before_the_service_starts_are_served() {
    for flags in [&[][..], &["--workers", "2"]] {
        let (socket, address) = open();
        let mut early: Vec<_> = (0..50).map(|_| Client::connect(address)).collect();
        for client in &mut early {
            client.send(request("GET", "/api/fibonacci/20").as_bytes());
        }
        let server = activate(&[&socket], "LISTEN_FDNAMES=web", flags);
        assert_eq!(server.address(), address);
        assert!(server.preface().contains("instead of --listen"), "{}", server.preface());
        for client in &mut early {
            assert_eq!(client.reply().body, "6765");
        }
        check(address, 20);
        // A client that connects between two services waits for the second one.
        server.signal("KILL");
        drop(server);
        let mut between = Client::connect(address);
        between.send(request("GET", "/api/fibonacci/20").as_bytes());
        let _next = activate(&[&socket], "", flags);
        assert_eq!(between.reply().body, "6765");
    }
}

/// Checks that `/metrics` is served at the second address only.
fn check_admin(public: SocketAddr, admin: SocketAddr) {
    check(public, 5);
    assert_eq!(Client::connect(public).get("/metrics").status, 404);
    assert_eq!(Client::connect(admin).get("/metrics").status, 200);
    assert_eq!(Client::connect(admin).get("/api/fibonacci/20").status, 404);
}

#[test]
fn a_passed_socket_may_be_that_of_the_admin_routes() {
    let (public, admin) = (open(), open());
    for flags in [&[][..], &["--workers", "2"]] {
        let server = activate(&[&public.0, &admin.0], "LISTEN_FDNAMES=web:admin", flags);
        check_admin(public.1, admin.1);
        assert_eq!(server.admin_address(), admin.1);
    }
    // One that is not passed is opened.
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let server = activate(&[&public.0], "LISTEN_FDNAMES=web", &flags);
    check_admin(public.1, server.admin_address());
    drop(server);
    let server = activate(&[&admin.0], "LISTEN_FDNAMES=admin", &flags);
    check_admin(server.address(), admin.1);
}

#[test]
fn check_opens_the_addresses_of_a_start_with_passed_sockets() {
    let ((public, _), (admin, _)) = (open(), open());
    let ((_taken, taken), (_other, other)) = (open(), open());
    let (taken, other) = (taken.to_string(), other.to_string());
    let free = "127.0.0.1:0";
    for (passed, listen, admin_listen, instead_of) in [
        (&[(&public, "web")][..], &*taken, free, "--listen"),
        (&[(&admin, "admin")], free, &*taken, "--admin-listen"),
        (&[(&public, "web"), (&admin, "admin")], &*taken, &*other, "--listen and --admin-listen"),
    ] {
        let names: Vec<&str> = passed.iter().map(|(_, name)| *name).collect();
        let sockets: Vec<&OwnedFd> = passed.iter().map(|(socket, _)| *socket).collect();
        let variables =
            format!("LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}", names.len(), names.join(":"));
        let run = |listen: &str, admin_listen: &str, more: &[&str]| {
            let flags = [&["--listen", listen, "--admin-listen", admin_listen], more].concat();
            service(Path::new(BINARY), &variables, &flags, &sockets)
        };
        // The taken address is that of a flag that is not used, so both succeed.
        let check = run(listen, admin_listen, &["--check"]).output().unwrap();
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "{instead_of}: {check:?}");
        let count = if names.len() == 1 { "1 socket" } else { "2 sockets" };
        let remark =
            format!("# using {count} passed by the service manager instead of {instead_of}\n");
        assert!(text.contains(&remark) && !text.contains(&taken), "{text}");
        let server = Server::spawn(run(listen, admin_listen, &[]));
        assert!(server.preface().contains(&remark[2..remark.len() - 1]), "{}", server.preface());
        drop(server);
        // The other way round, it is that of a flag that is used, and both fail.
        if names.len() == 1 {
            for more in [&["--check"][..], &[]] {
                let failed = run(admin_listen, listen, more).output().unwrap();
                let text = String::from_utf8_lossy(&failed.stderr);
                let expected = format!("cannot listen on {taken}: ");
                assert!(!failed.status.success() && text.contains(&expected), "{text}");
            }
        }
    }
}

#[test]
fn check_leaves_the_flags_of_a_passed_socket() {
    let (socket, _) = open();
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1";
    let check = service(Path::new(BINARY), variables, &["--check"], &[&socket]).output().unwrap();
    assert!(check.status.success(), "{check:?}");
    // A process that holds the socket may rely on a call that blocks.
    assert!(!SockRef::from(&socket).nonblocking().unwrap());
}

#[test]
fn an_upgrade_does_not_open_what_passed_sockets_replace() {
    let program = Program::new("passed-admin");
    let (admin, admin_address) = open();
    let (unused, other) = open();
    drop(unused);
    let flags = ["--workers", "1", "--listen", "127.0.0.1:0", "--admin-listen", &other.to_string()];
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin";
    let mut server = Server::spawn(service(&program.0, variables, &flags, &[&admin]));
    let before = workers(&server);
    let sockets = listeners_of(server.id());
    for _ in 0..2 {
        server.signal("HUP");
        let line = server.await_log_line("listening on");
        assert!(line.trim_end().ends_with(&format!(", admin on {admin_address}")), "{line}");
        assert_eq!(listeners_of(server.id()), sockets);
    }
    assert_ne!(workers(&server), before);
    check_admin(server.address(), admin_address);
}

#[test]
fn a_passed_socket_that_includes_an_admin_address_is_a_one_line_error() {
    let (socket, address) = open();
    let admin = format!("0.0.0.0:{}", address.port());
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";
    for more in [&[][..], &["--check"]] {
        let flags = [&["--admin-listen", &*admin], more].concat();
        let output = service(Path::new(BINARY), variables, &flags, &[&socket]).output().unwrap();
        let expected = format!("fibsrv: {address} includes or is within an admin address\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    }
}

#[test]
fn all_passed_sockets_are_served() {
    let (first, second) = (open(), open());
    for flags in [&[][..], &["--workers", "1"], &["--workers", "3"]] {
        let _server = activate(&[&first.0, &second.0], "LISTEN_FDNAMES=a:b", flags);
        check(first.1, 20);
        check(second.1, 20);
    }
    let (sockets, address) = open_two();
    let _server = activate(&sockets.each_ref(), "", &[]);
    check(address, 40);
}

#[test]
fn each_worker_holds_all_sockets() {
    let (sockets, address) = open_two();
    let mut names = sockets.each_ref().map(name_of);
    names.sort();
    for count in ["1", "2", "3"] {
        let server = activate(&sockets.each_ref(), "", &["--workers", count]);
        for worker in workers(&server) {
            assert_eq!(listeners_of(worker), names, "{count}");
        }
        check(address, 20);
    }
}

#[test]
fn a_stopped_worker_delays_no_connection() {
    let (sockets, address) = open_two();
    let (socket, shared_address) = open();
    for (passed, address) in [(&sockets.each_ref()[..], address), (&[&socket], shared_address)] {
        let server = activate(passed, "", &["--workers", "2"]);
        let stopped = workers(&server)[0];
        halt(stopped);
        check(address, 50);
        signal(stopped, "CONT");
    }
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let (socket, address) = open();
    let variables = "LISTEN_PID=1 LISTEN_FDS=1";
    let flags = ["--listen", "127.0.0.1:0"];
    let server = Server::spawn(service(Path::new(BINARY), variables, &flags, &[&socket]));
    assert_ne!(server.address(), address);
    check(server.address(), 1);
}

#[test]
fn a_descriptor_that_is_not_a_listening_socket_is_a_one_line_error() {
    let (socket, address) = open();
    let others: [(OwnedFd, &str); 3] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "not a listening TCP socket"),
        (fs::File::open("/dev/null").unwrap().into(), "not a listening TCP socket"),
        (std::net::TcpStream::connect(address).unwrap().into(), "not a listening TCP socket"),
    ];
    let check = |output: Output, status: i32, text: &str| {
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("fibsrv: ") && stderr.contains(text), "{stderr}");
    };
    for (other, text) in &others {
        let output = run("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web", &[other]);
        check(output, 1, &format!("cannot listen on passed descriptor 3 (web): {text}"));
    }
    let output = run("LISTEN_PID=$$ LISTEN_FDS=3", &[&socket]);
    check(
        output,
        1,
        "cannot listen on passed descriptor 4 (unknown): descriptor 4 was not inherited",
    );
    check(run("LISTEN_PID=$$ LISTEN_FDS=many", &[&socket]), 2, "LISTEN_FDS is not a number: many");
    check(run("LISTEN_PID=$$ LISTEN_FDS=1000", &[&socket]), 2, "LISTEN_FDS is 1000");
}

#[test]
fn ready_and_stopping_are_sent() {
    for (flags, status) in [(&[][..], "is ready"), (&["--workers", "2"], "is ready with 2 workers")]
    {
        let manager = Manager::new(&format!("order{}", flags.len()));
        let (socket, address) = open();
        let mut server = activate(&[&socket], &manager.variables(""), flags);
        let ready = manager.receive();
        assert_eq!((&*ready["READY"], &*ready["MAINPID"]), ("1", &*server.id().to_string()));
        assert!(ready["STATUS"].ends_with(status), "{ready:?}");
        check(address, 1);
        server.signal("TERM");
        let (ended, log) = server.wait();
        assert_eq!(ended.code(), Some(0), "{log}");
        assert_eq!(manager.receive()["STOPPING"], "1");
        assert!(manager.has_received_all(), "no watchdog notification without WATCHDOG_USEC");
    }
}

#[test]
fn without_a_reachable_service_manager_it_serves() {
    let (socket, address) = open();
    let mut server = activate(&[&socket], "NOTIFY_SOCKET=/nowhere/at/all", &[]);
    check(address, 1);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("cannot notify the service manager").count(), 1, "{log}");
}

#[test]
fn an_upgrade_keeps_passed_sockets_and_sends_reloading_and_ready() {
    let manager = Manager::new("upgrade");
    let program = Program::new("activated");
    let (sockets, address) = open_two();
    let mut names = sockets.each_ref().map(name_of);
    names.sort();
    let variables = format!("LISTEN_PID=$$ LISTEN_FDS=2 {}", manager.variables(""));
    let flags = ["--workers", "2", "--drain-grace", "20s"];
    let mut server = Server::spawn(service(&program.0, &variables, &flags, &sockets.each_ref()));
    manager.await_notification("READY");
    for _ in 0..3 {
        let before = workers(&server);
        program.replace("");
        server.signal("HUP");
        let reloading = manager.await_notification("RELOADING");
        assert!(reloading["MONOTONIC_USEC"].parse::<u64>().unwrap() > 0);
        check(address, 20);
        let ready = manager.await_notification("READY");
        assert_eq!(ready["MAINPID"], server.id().to_string());
        eventually("the old workers exit", || {
            let now = workers(&server);
            now.len() == 2 && !before.iter().any(|worker| now.contains(worker))
        });
        // Exactly the passed sockets: not the address of --listen, and no duplicates.
        assert_eq!(listeners_of(server.id()), names);
        let environment = fs::read_to_string(format!("/proc/{}/environ", server.id())).unwrap();
        assert!(!environment.contains("LISTEN_"), "{environment}");
        check(address, 20);
    }
    program.replace("no program");
    server.signal("HUP");
    manager.await_notification("RELOADING");
    let ready = manager.await_notification("READY");
    assert!(ready["STATUS"].ends_with("; an upgrade failed"), "{ready:?}");
    check(address, 20);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    manager.await_notification("STOPPING");
}

#[test]
fn watchdog_notifications_are_sent_while_the_loop_runs() {
    for flags in [&[][..], &["--workers", "2"]] {
        let manager = Manager::new(&format!("life{}", flags.len()));
        let variables = manager.variables("WATCHDOG_USEC=200000 WATCHDOG_PID=$$");
        let (socket, _) = open();
        let server = activate(&[&socket], &variables, flags);
        manager.await_notification("READY");
        for _ in 0..3 {
            manager.await_notification("WATCHDOG");
        }
        // A loop that does not run sends none.
        server.signal("STOP");
        manager.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while manager.socket.recv(&mut [0; 4096]).is_ok() {}
        manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        server.signal("CONT");
        manager.await_notification("WATCHDOG");
    }
}

#[test]
fn a_watchdog_for_another_process_is_ignored() {
    let manager = Manager::new("whose");
    let variables = manager.variables("WATCHDOG_USEC=2000 WATCHDOG_PID=1");
    let (socket, address) = open();
    let mut server = activate(&[&socket], &variables, &[]);
    check(address, 100);
    server.signal("TERM");
    server.wait();
    assert_eq!(manager.receive()["READY"], "1");
    assert_eq!(manager.receive()["STOPPING"], "1");
}

#[test]
fn a_worker_that_misses_its_heartbeat_is_restarted() {
    let manager = Manager::new("hung");
    let (socket, address) = open();
    let variables = manager.variables("WATCHDOG_USEC=1000000");
    let mut server = activate(&[&socket], &variables, &["--workers", "1"]);
    let hung = workers(&server)[0];
    signal(hung, "STOP");
    let mut client = Client::connect(address);
    assert_eq!(
        client.get("/api/fibonacci/20").body,
        "6765",
        "its successor serves the accept queue"
    );
    server.await_log("missed its heartbeat; killing it");
    assert_ne!(workers(&server), [hung]);
    manager.await_notification("READY");
    manager.await_notification("WATCHDOG");
}
