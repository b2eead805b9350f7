//! Several workers under a supervisor: restarted when they exit, stopped together, upgraded in place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    group::{check_all_served, clients_of, listeners},
    kit::{ANSWERED, Client, Server, eventually, halt, process::state, request, signal},
};

/// The process ids of the workers of a supervisor.
pub(crate) fn workers(server: &Server) -> Vec<u32> {
    let id = server.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

fn check(server: &Server, times: usize) {
    for _ in 0..times {
        assert_eq!(server.get("/api/fibonacci/20").body, "6765");
    }
}

#[test]
fn workers_share_the_port_and_stop_together() {
    let mut server = Server::start(&["--workers", "3"]);
    let workers = workers(&server);
    assert_eq!(workers.len(), 3);
    check(&server, 50);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(workers.into_iter().all(|worker| !is_alive(worker)), "{log}");
}

#[test]
fn a_killed_worker_is_restarted_and_its_accept_queue_is_served() {
    let server = Server::start(&["--workers", "1"]);
    for _ in 0..3 {
        let [worker] = workers(&server)[..] else { panic!("one worker") };
        // A stopped worker accepts nothing. When it is killed, its successor serves the accept queue.
        halt(worker);
        let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for client in &mut waiting {
            client.send(request("GET", "/api/fibonacci/20").as_bytes());
        }
        signal(worker, "KILL");
        for client in &mut waiting {
            assert_eq!(client.reply().body, "6765");
        }
        assert!(server.get("/metrics").body.contains("\nfibsrv_worker_restarts_total "));
    }
}

#[test]
fn workers_exit_when_their_supervisor_is_killed() {
    let mut server = Server::start(&["--workers", "2", "--drain-grace", "0s"]);
    let workers = workers(&server);
    server.signal("KILL");
    server.wait();
    eventually("the workers have exited", || !workers.iter().any(|worker| is_alive(*worker)));
}

#[test]
fn a_scrape_of_any_worker_returns_the_sum() {
    let server = Server::start(&["--workers", "3"]);
    check(&server, 100);
    for _ in 0..20 {
        assert_eq!(server.counted()[ANSWERED], 100.0, "exact, from any worker");
    }
    assert_eq!(server.counted()["fibsrv_workers"], 3.0);
    assert_eq!(server.counted()["fibsrv_metrics_shared"], 1.0);
    // The counts of a killed worker remain.
    let killed = workers(&server)[0];
    signal(killed, "KILL");
    eventually("it is restarted", || {
        workers(&server).len() == 3 && !workers(&server).contains(&killed)
    });
    check(&server, 20);
    for _ in 0..20 {
        assert_eq!(server.counted()[ANSWERED], 120.0);
    }
    eventually("the restart is counted", || {
        server.counted()["fibsrv_worker_restarts_total"] == 1.0
    });
    eventually("three workers are counted", || server.counted()["fibsrv_workers"] == 3.0);
}

/// A copy of the program, which can be replaced while it runs.
pub(crate) struct Program(pub(crate) PathBuf);

impl Program {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fibsrv-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("fibsrv");
        copy(Path::new(env!("CARGO_BIN_EXE_fibsrv")), &path);
        Self(path)
    }

    /// Replaces it by a rename, as an installation does.
    pub(crate) fn replace(&self, other: &str) {
        let new = self.0.with_extension("new");
        write_program(&new, other);
        fs::rename(new, &self.0).unwrap();
    }
}

/// Writes a script, or if it is empty a copy of the program.
pub(crate) fn write_program(path: &Path, script: &str) {
    copy(Path::new(env!("CARGO_BIN_EXE_fibsrv")), path); // for its permissions
    if !script.is_empty() {
        let text = path.with_extension("text");
        fs::write(&text, script).unwrap();
        copy(&text, path);
    }
}

/// Copies a file, in a process of its own. A descriptor of this process could be inherited by a child that another
/// test starts meanwhile, and a file that is open for writing cannot be executed.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.0.parent().unwrap()));
    }
}

#[test]
fn an_upgrade_keeps_process_and_sockets_and_replaces_the_workers() {
    let program = Program::new("upgrade");
    let flags = ["--workers", "2", "--drain-grace", "20s"]; // enough for the test to send another request
    let mut server = Server::start_program(&program.0, &flags);
    let mut client = server.connect();
    for _ in 0..3 {
        let before = workers(&server);
        assert_eq!(client.get("/api/fibonacci/20").body, "6765");
        program.replace("");
        server.signal("HUP");
        server.await_log("2 workers, listening on");
        check(&server, 20);
        // SIGTERM has been sent to the old worker, which may not have handled it yet.
        eventually("the old worker disables keep-alive", || {
            let reply = client.get("/api/fibonacci/20");
            assert_eq!(reply.body, "6765");
            reply.field("Connection") == Some("close")
        });
        client = server.connect();
        eventually("the old workers exit", || {
            let now = workers(&server);
            now.len() == 2 && !before.iter().any(|worker| now.contains(worker))
        });
        let accepted = server.counted()["fibsrv_connections_accepted_total"];
        assert!(accepted > 20.0, "counts continue: {accepted}");
    }
    drop(client);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_version_that_does_not_start_changes_nothing() {
    let program = Program::new("broken");
    let mut server = Server::start_program(&program.0, &["--workers", "2"]);
    let before = workers(&server);
    for binary in ["#!/bin/sh\nexit 3\n", "no program"] {
        program.replace(binary);
        server.signal("HUP");
        server.await_log("this version keeps running");
        check(&server, 10);
        assert_eq!(workers(&server), before);
    }
}

/// Starts supervisors with two workers each on one port.
fn start_supervisors(count: usize) -> Vec<Server> {
    let first = Server::start(&["--workers", "2"]);
    let address = first.address().to_string();
    let others = (1..count).map(|_| Server::start_on(&address, &["--workers", "2"]));
    let others: Vec<_> = others.collect();
    [first].into_iter().chain(others).collect()
}

/// Clients that have sent a request while this supervisor and all its workers are stopped.
fn clients_of_halted(server: &Server) -> Vec<Client> {
    halt(server.id());
    workers(server).into_iter().for_each(halt);
    clients_of(server.address())
}

#[test]
fn supervisors_on_one_port_take_over_each_others_accept_queues() {
    for how in ["KILL", "TERM"] {
        let mut servers = start_supervisors(2);
        let address = servers[0].address();
        let mut leaving = servers.remove(0);
        let workers = workers(&leaving);
        let clients = clients_of_halted(&leaving);
        for process in workers.iter().copied().chain([leaving.id()]) {
            signal(process, how);
            signal(process, "CONT"); // a killed process is a zombie until its parent, stopped or this test, reaps it
        }
        check_all_served(clients);
        leaving.wait();
        eventually("its workers have exited", || !workers.iter().any(|pid| is_alive(*pid)));
        assert_eq!(listeners(address), 4, "no listener was closed");
        check_all_served(clients_of(address));
    }
}

#[test]
fn a_new_supervisor_takes_over_the_listeners_of_one_that_exits() {
    let mut servers = start_supervisors(2);
    let address = servers[0].address();
    for round in 0..6 {
        servers.push(Server::start_on(&address.to_string(), &["--workers", "2"]));
        let mut leaving = servers.remove(0);
        leaving.signal("TERM");
        assert_eq!(leaving.wait().0.code(), Some(0));
        assert!(listeners(address) <= 6, "round {round}: {}", listeners(address));
        check_all_served(clients_of(address));
    }
}

#[test]
fn supervisors_and_single_processes_share_their_counts() {
    let mut servers = start_supervisors(2);
    let address = servers[0].address().to_string();
    servers.push(Server::start_on(&address, &[]));
    let mut expected = 0;
    while servers.len() > 1 {
        check(&servers[0], 60);
        expected += 60;
        for _ in 0..20 {
            let counted = servers[0].counted();
            assert_eq!(counted[ANSWERED], f64::from(expected), "from any worker");
            assert_eq!(counted["fibsrv_metrics_shared"], 1.0);
        }
        let mut leaving = servers.remove(0);
        leaving.signal("TERM");
        leaving.wait();
    }
    check(&servers[0], 60);
    eventually("one process remains", || servers[0].counted()["fibsrv_workers"] == 1.0);
    assert_eq!(
        servers[0].counted()[ANSWERED],
        f64::from(expected + 60),
        "counts outlive the first supervisor"
    );
}

#[test]
fn an_upgrade_beside_another_supervisor_keeps_counts_and_sockets() {
    let mut servers = start_supervisors(2);
    let address = servers[0].address();
    check(&servers[0], 60);
    for _ in 0..3 {
        servers[1].signal("HUP");
        servers[1].await_log("2 workers, listening on");
        servers[1].await_log("of the previous version exited with status 0");
        servers[1].await_log("of the previous version exited with status 0");
        check_all_served(clients_of(address));
    }
    assert_eq!(servers[0].counted()[ANSWERED], 360.0);
    assert_eq!(listeners(address), 4);
    eventually("four workers remain", || servers[0].counted()["fibsrv_workers"] == 4.0);
}

#[test]
fn a_stopped_worker_delays_no_connection_and_is_replaced() {
    let server = Server::start(&["--workers", "2"]);
    let stopped = workers(&server)[0];
    halt(stopped);
    check(&server, 50);
    eventually("it is replaced", || {
        let now = workers(&server);
        now.len() == 2 && !now.contains(&stopped)
    });
    check(&server, 20);
}

#[test]
fn connections_spread_over_workers_also_after_one_was_replaced() {
    let server = Server::start(&["--workers", "2"]);
    for replaced in [false, true] {
        if replaced {
            let old = workers(&server)[0];
            signal(old, "KILL");
            eventually("it is replaced", || {
                let now = workers(&server);
                now.len() == 2 && !now.contains(&old)
            });
            eventually("it is ready", || server.counted()["fibsrv_workers"] == 2.0);
        }
        // While other tests use the CPU, the first process that gets it accepts.
        eventually("each accepts a fair share of some connections", || {
            let before = workers(&server).into_iter().map(sockets_of).collect::<Vec<_>>();
            // One at a time, so that the owner sleeps and accepts.
            let connections = (0..100).map(|_| {
                let mut client = server.connect();
                assert_eq!(client.get("/api/fibonacci/20").body, "6765");
                client
            });
            let clients: Vec<_> = connections.collect();
            let after = workers(&server).into_iter().map(sockets_of);
            let taken: Vec<_> = after.zip(before).map(|(after, before)| after - before).collect();
            drop(clients);
            taken.iter().all(|taken| *taken >= 30)
        });
    }
}

/// Returns the number of open sockets of a process.
fn sockets_of(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}
