//! Processes that start, or fail to, next to others on the port.

use std::{fs, net::SocketAddr, process::Stdio};

use crate::{
    group::{check_all_served, clients_of, listeners},
    kit::{
        Server, command, eventually, halt,
        process::{children, send_signal, state},
        signal,
    },
    supervisor::{Program, workers},
    systemd::listeners_of,
    upgrade::under_load_of,
};

fn another(address: SocketAddr) -> Server {
    Server::start_on(&address.to_string(), &[])
}

#[test]
fn a_worker_that_cannot_start_delays_no_connection() {
    let program = Program::new("unable");
    let logs = program.0.parent().unwrap().join("logs");
    fs::create_dir(&logs).unwrap();
    let file = logs.join("access").to_str().unwrap().to_owned();
    let flags = ["--workers", "2", "--access-log", "json", "--access-log-file", &file];
    let mut server = Server::start_program(&program.0, &flags);
    fs::remove_dir_all(&logs).unwrap();
    signal(workers(&server)[0], "KILL");
    server.await_log("exited with signal 9");
    server.await_log("exited with status 1; restarting");
    check_all_served(clients_of(server.address()));
    fs::create_dir(&logs).unwrap();
    eventually("it starts in the end", || server.counted()["fibsrv_workers"] == 2.0);
}

#[test]
fn a_supervisor_that_is_stopped_while_it_starts_resets_no_connection() {
    let mut first = Server::start(&[]);
    let address = first.address();
    under_load_of(&["/api/fibonacci/20"], &mut first, |_| {
        for round in 0..24 {
            let mut starting = command();
            starting.args(["--workers", "2", "--listen", &address.to_string()]);
            starting.stdout(Stdio::null()).stderr(Stdio::null());
            let mut starting = starting.spawn().unwrap();
            let pid = starting.id();
            // It is stopped at different steps of its start.
            eventually("it has come so far", || match round % 4 {
                0 => listeners(address) >= 2,
                1 => listeners(address) >= 3,
                2 => !children(pid).is_empty(),
                _ => children(pid).len() == 2,
            });
            let signal = if round % 8 < 4 { "TERM" } else { "KILL" };
            crate::kit::signal(pid, signal);
            starting.wait().unwrap();
        }
    });
    assert_eq!(first.counted()["fibsrv_metrics_shared"], 1.0);
}

#[test]
fn processes_that_start_while_one_is_stopped_find_each_other() {
    let first = Server::start(&[]);
    let second = another(first.address());
    let address = first.address();
    halt(second.id());
    let others: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..6).map(|_| scope.spawn(|| another(address))).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    check_all_served(clients_of(address));
    second.signal("CONT");
    eventually("all count together and hold all listeners", || {
        let counted = first.counted();
        counted["fibsrv_metrics_shared"] == 1.0
            && counted["fibsrv_workers"] == 8.0
            && others
                .iter()
                .chain([&first, &second])
                .all(|server| listeners_of(server.id()).len() == 8)
    });
    // Whichever is killed, another accepts from its queue.
    halt(others[3].id());
    let clients = clients_of(address);
    others[3].signal("KILL");
    check_all_served(clients);
}

#[test]
fn a_process_at_its_descriptor_limit_holds_the_listeners_of_those_that_join() {
    let first = Server::start_with_limit("-n 40", &[]);
    let address = first.address();
    let idle: Vec<_> = (0..64).map(|_| first.connect()).collect();
    let others = [another(address), another(address)];
    drop(idle);
    eventually("all hold all listeners", || {
        others.iter().chain([&first]).all(|server| listeners_of(server.id()).len() == 3)
    });
    eventually("they share", || others[0].counted()["fibsrv_metrics_shared"] == 1.0);
}

#[test]
fn joins_and_exits_are_logged_with_process_and_version() {
    let mut first = Server::start(&[]);
    let mut second = another(first.address());
    let version = env!("CARGO_PKG_VERSION");
    let id = second.id();
    first.await_log(&format!("process {id} (version {version}) shares the port"));
    second.signal("TERM");
    second.wait();
    first.await_log(&format!("process {id} (version {version}) has left the port"));
    let third = another(first.address());
    third.signal("KILL");
    first.await_log(&format!("process {} (version {version}) exited; taking over", third.id()));
}

#[test]
fn a_stopped_supervisor_and_its_workers_delay_no_connection() {
    let server = Server::start(&["--workers", "2"]);
    let address = server.address();
    let beside = Server::start_on(&address.to_string(), &["--workers", "2"]);
    eventually("all workers hold all listeners", || {
        workers(&server).into_iter().chain(workers(&beside)).all(|pid| listeners_of(pid).len() == 4)
    });
    halt(server.id());
    workers(&server).into_iter().for_each(halt);
    check_all_served(clients_of(address));
    for pid in workers(&server).into_iter().chain([server.id()]) {
        send_signal(pid, rustix::process::Signal::CONT).unwrap();
    }
    eventually("they run again", || state(server.id()) == Some('S'));
    check_all_served(clients_of(address));
}

#[test]
fn a_stopping_supervisor_with_a_stopped_worker_delays_no_connection() {
    let mut server = Server::start(&["--workers", "2"]);
    let beside = another(server.address());
    eventually("it holds all listeners", || listeners_of(beside.id()).len() == 3);
    let stopped = workers(&server)[0];
    halt(stopped);
    server.signal("TERM");
    server.await_log("exited with status 0");
    for _ in 0..50 {
        assert_eq!(beside.get("/api/fibonacci/20").body, "6765");
    }
    signal(stopped, "CONT");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn an_upgrade_adopts_no_listener() {
    let mut server = Server::start(&["--workers", "2"]);
    for _ in 0..3 {
        let other = another(server.address());
        server.await_log(&format!("process {} ", other.id()));
        drop(other);
        server.await_log("taking over its 1 listeners");
        server.signal("HUP");
        server.await_log("2 workers, listening on");
        server.await_log("of the previous version exited");
        server.await_log("of the previous version exited");
    }
    // Each new process has adopted the listener without an owner.
    assert_eq!(listeners(server.address()), 3);
}

#[test]
fn a_process_whose_user_is_not_mapped_shares_with_no_other() {
    let first = Server::start(&[]);
    let mut unmapped = std::process::Command::new("unshare");
    unmapped.args(["--user", env!("CARGO_BIN_EXE_fibsrv")]);
    unmapped.args(["--listen", &first.address().to_string()]);
    let unmapped = Server::spawn(unmapped);
    let log = unmapped.preface();
    let reason = "this user is not mapped in the user namespace, so no user can be verified";
    assert!(log.contains(reason), "{log}");
    eventually("each reports that it counts alone", || {
        (0..20).all(|_| {
            let counted = first.counted();
            counted["fibsrv_metrics_shared"] == 0.0 && counted["fibsrv_workers"] == 1.0
        })
    });
    assert_eq!(listeners_of(unmapped.id()).len(), 1, "it has received no listener");
}
