//! Upgrades in place: a failure at any step leaves the running version serving, and no request is lost.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::symlink, process::CommandExt as _},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    kit::{
        ANSWERED, Client, Server, eventually, halt,
        process::{children, state},
        signal,
    },
    supervisor::{Program, workers, write_program},
};

const BINARY: &str = env!("CARGO_BIN_EXE_fibsrv");

/// Runs `actions` while clients send requests on new connections and on a kept one, and probe readiness. All must
/// succeed.
fn under_load<T>(server: &mut Server, actions: impl FnOnce(&mut Server) -> T) -> T {
    under_load_of(&["/api/fibonacci/20", "/readyz"], server, actions)
}

/// Runs `actions` while clients send requests for these targets. All must succeed.
pub(crate) fn under_load_of<T>(
    targets: &[&str],
    server: &mut Server,
    actions: impl FnOnce(&mut Server) -> T,
) -> T {
    let (address, is_over) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut kept = Client::connect(address);
            let mut requests = 0;
            while !is_over.load(Ordering::Relaxed) {
                for target in targets {
                    assert_eq!(Client::connect(address).get(target).status, 200, "{target}");
                    let reply = kept.get(target);
                    assert_eq!(reply.status, 200, "{target} on a kept connection");
                    if reply.field("Connection") == Some("close") {
                        kept = Client::connect(address);
                    }
                }
                requests += 1;
            }
            requests
        });
        let over = Over(&is_over);
        let outcome = actions(server);
        drop(over);
        assert!(load.join().unwrap() > 0);
        outcome
    })
}

/// Ends the load when it is dropped, also if the test fails.
struct Over<'f>(&'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A script that runs instead of the program. In a rehearsal it executes `rehearsal`, and otherwise `real`.
fn script(rehearsal: &str, real: &str) -> String {
    format!("#!/bin/sh\nif [ -n \"$FIBSRV_INHERITED_REHEARSAL\" ]; then\n{rehearsal}\nfi\n{real}\n")
}

/// A new version of the server at this address with a fault at some step, and what the log says.
fn faults(address: SocketAddr) -> Vec<(&'static str, String, &'static str)> {
    let run = format!("exec {BINARY} \"$@\"");
    let unwell = |prefix: &str, run: &str| format!("#!/bin/sh\n{prefix} {run}\n");
    let admin = format!("FIBSRV_ADMIN_LISTEN=0.0.0.0:{}", address.port());
    vec![
        ("usage", unwell("", &format!("{run} --no-such-flag")), "unexpected argument"),
        (
            "check passes and the start fails",
            "#!/bin/sh\ncase \"$*\" in *--check*) exit 0;; esac\nexit 1\n".to_owned(),
            "the rehearsal exited with status 1: no output",
        ),
        ("nothing is done", "#!/bin/sh\nexit 0\n".to_owned(), "the rehearsal exited with status 0"),
        ("crash", "#!/bin/sh\nkill -SEGV $$\n".to_owned(), "the rehearsal exited with signal 11"),
        ("format", "no program".to_owned(), "cannot start the rehearsal: Exec format error"),
        (
            "table",
            unwell("ulimit -v 300000; FIBSRV_TABLE_MAX_N=100000", &run),
            "memory", // allocation of 1 GB
        ),
        (
            "access log",
            unwell("FIBSRV_ACCESS_LOG=json FIBSRV_ACCESS_LOG_FILE=/nowhere/log", &run),
            "cannot open the access log /nowhere/log: No such file",
        ),
        (
            "sockets are missing",
            unwell("FIBSRV_INHERITED_SOCKETS=0", &run),
            "cannot inherit the listening sockets: descriptor 0 was not inherited",
        ),
        (
            "not sockets",
            unwell("FIBSRV_INHERITED_SOCKETS=$FIBSRV_INHERITED_REGION", &run),
            "cannot inherit the listening sockets",
        ),
        (
            "options of sockets",
            unwell("FIBSRV_DEFER_ACCEPT=1000000s", &run),
            "the rehearsal exited with status 2",
        ),
        (
            "an admin address that includes a public one",
            unwell(&admin, &run),
            "includes or is within an admin address",
        ),
        (
            "memory",
            unwell("FIBSRV_INHERITED_REGION=0", &run),
            "cannot inherit the shared metrics: descriptor 0 was not inherited",
        ),
        ("fork", limited_to_one_process(), "cannot fork: Resource temporarily unavailable"),
        (
            "exec of a file that is gone",
            script(&format!("{BINARY} \"$@\"; rm \"$0\"; exit"), "exit 1"),
            "cannot find it: No such file",
        ),
        (
            "another file after the rehearsal",
            script(
                &format!("{BINARY} \"$@\"; printf '#!/bin/sh\\nexit 7' > \"$0\"; exit"),
                "exit 1",
            ),
            "the rehearsal exited with status 7",
        ),
    ]
}

/// A script that executes the program as a user that may not have another process. Limits do not apply to root.
fn limited_to_one_process() -> String {
    format!(
        "#!/bin/sh\nexec setpriv --reuid 54321 --clear-groups prlimit --nproc=0 {BINARY} \"$@\"\n"
    )
}

#[test]
fn a_fault_at_any_step_leaves_the_running_version_serving() {
    let program = Program::new("faults");
    let mut server = Server::start_program(&program.0, &["--workers", "2"]);
    let before = workers(&server);
    under_load(&mut server, |server| {
        for (step, fault, reason) in faults(server.address()) {
            program.replace(&fault);
            server.signal("HUP");
            let line = server.await_log_line("this version keeps running");
            assert!(line.contains("cannot upgrade to ") && line.contains(reason), "{step}: {line}");
            assert_eq!(workers(server), before, "{step}");
        }
        fs::remove_file(&program.0).unwrap();
        server.signal("HUP");
        server.await_log("cannot start the rehearsal: No such file");
        // Without a fault it succeeds.
        program.replace("");
        server.signal("HUP");
        server.await_log("2 workers, listening on");
    });
    eventually("all workers are new", || {
        let now = workers(&server);
        now.len() == 2 && !now.iter().any(|worker| before.contains(worker))
    });
    assert_eq!(server.counted()["fibsrv_metrics_shared"], 1.0);
}

#[test]
fn workers_that_do_not_become_ready_are_replaced_by_the_previous_version() {
    let program = Program::new("trial");
    let logs = program.0.parent().unwrap().join("logs");
    fs::create_dir(&logs).unwrap();
    let file = logs.join("access").to_str().unwrap().to_owned();
    let flags = ["--workers", "2", "--access-log", "json", "--access-log-file", &file];
    let mut server = Server::start_program(&program.0, &flags);
    let before = workers(&server);
    under_load(&mut server, |server| {
        let run = format!("exec {BINARY} \"$@\"");
        program.replace(&script(&run, &format!("rm -r {}; {run}", logs.display())));
        server.signal("HUP");
        server.await_log("worker 0 (pid ");
        server.await_log("0 of 2 workers became ready in time; returning to the previous version");
        assert!(before.iter().all(|worker| workers(server).contains(worker)));
        // The previous version cannot open the log either, until the directory is there again.
        fs::create_dir(&logs).unwrap();
        server.await_log("2 workers, listening on");
    });
    eventually("two workers remain", || workers(&server).len() == 2);
}

#[test]
fn a_rehearsal_that_hangs_blocks_nothing() {
    let program = Program::new("hang");
    let mut server = Server::start_program(&program.0, &["--workers", "2"]);
    program.replace("#!/bin/sh\nexec sleep 60\n");
    server.signal("HUP");
    server.await_log("received SIGHUP; upgrading");
    eventually("the rehearsal runs", || workers(&server).len() == 3);
    let killed = workers(&server)[0];
    signal(killed, "KILL");
    server.await_log("restarting");
    server.await_log("started worker");
    under_load(&mut server, |server| server.await_log("the rehearsal took more than 10 s"));
    eventually("the rehearsal has exited", || workers(&server).len() == 2);
    server.signal("HUP");
    eventually("the rehearsal runs again", || workers(&server).len() == 3);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("the upgrade in progress is cancelled"), "{log}");
}

#[test]
fn a_stopped_worker_does_not_block_the_next_upgrade() {
    let mut server =
        Server::start(&["--workers", "2", "--drain-timeout", "1s", "--drain-grace", "0s"]);
    let stopped = workers(&server)[0];
    halt(stopped);
    server.signal("HUP");
    server.await_log("2 workers, listening on");
    server.signal("HUP");
    server.await_log("after the upgrade in progress");
    server.await_log("of the previous version did not exit in time; killing it");
    server.await_log("2 workers, listening on");
}

#[test]
fn requests_during_an_upgrade_lead_to_one_more() {
    let count = 4;
    let mut server = Server::start(&["--workers", "4"]);
    for _ in 0..20 {
        server.get("/api/fibonacci/20");
    }
    let mut unchanged = 0;
    for _ in 0..50 {
        server.signal("HUP");
        // The rehearsal is a child as well.
        assert!(children(server.id()).len() <= 2 * count + 1);
    }
    server.await_log("4 workers, listening on");
    eventually("all upgrades are complete", || {
        let now = children(server.id()).len();
        assert!(now <= 2 * count + 1, "{now}");
        // A request during the last upgrade leads to another one, which may not have begun.
        unchanged = if now == count { unchanged + 1 } else { 0 };
        unchanged > 100
    });
    assert!(server.counted()[ANSWERED] >= 20.0, "counts never drop");
    server.signal("TERM");
    let (_, log) = server.wait();
    let further = log.matches("4 workers, listening on").count();
    assert!(further < 19, "{further} further upgrades");
}

/// A client that has received the beginning of a long response.
fn downloading(server: &Server) -> Client {
    let mut client = Client::connect_narrow(server.address());
    client.send(b"GET /api/fibonacci/2000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.sip(100).unwrap() > 0);
    client
}

#[test]
fn a_supervisor_that_is_killed_after_an_upgrade_cuts_no_download() {
    let mut server = Server::start(&["--workers", "2", "--write-timeout", "20s"]);
    let mut client = downloading(&server);
    server.signal("HUP");
    server.await_log("a new worker is ready; finishing 1 connections");
    server.signal("KILL");
    assert_eq!(client.reply().body.len(), 417_975);
}

#[test]
fn a_signal_to_supervisor_and_workers_alike_cuts_no_download() {
    let mut server = Server::start(&["--workers", "2", "--write-timeout", "20s"]);
    let mut client = downloading(&server);
    for worker in workers(&server) {
        signal(worker, "TERM");
    }
    server.signal("TERM");
    server.await_log("received SIGTERM; stopping");
    for worker in workers(&server) {
        signal(worker, "TERM");
    }
    assert_eq!(client.reply().body.len(), 417_975);
    drop(client);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_to_the_supervisor_exits_at_once() {
    let mut server = Server::start(&["--workers", "2", "--write-timeout", "20s"]);
    let _client = downloading(&server);
    server.signal("TERM");
    server.await_log("the supervisor is stopping; finishing 1 connections");
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn replaced_workers_skip_the_delay_and_stay_ready() {
    let mut server = Server::start(&["--workers", "2", "--drain-delay", "60s"]);
    under_load(&mut server, |server| {
        for _ in 0..3 {
            server.signal("HUP");
            server.await_log("2 workers, listening on");
            server.await_log("of the previous version exited with status 0");
            server.await_log("of the previous version exited with status 0");
        }
    });
}

/// Writes a program that accepts numbers up to 5 only, as a different version.
fn small_version(path: &std::path::Path) {
    let text = format!("#!/bin/sh\nexec {BINARY} \"$@\" --max-n 5\n");
    write_program(path, &text);
}

#[test]
fn a_switched_symbolic_link_is_followed() {
    let program = Program::new("switched");
    let folder = program.0.parent().unwrap();
    small_version(&folder.join("small"));
    let link = folder.join("current");
    symlink(&program.0, &link).unwrap();
    let mut server = Server::start_program(&link, &["--workers", "1"]);
    assert_eq!(server.get("/api/fibonacci/20").status, 200);
    let new = folder.join("new");
    symlink(folder.join("small"), &new).unwrap();
    fs::rename(&new, &link).unwrap();
    server.signal("HUP");
    server.await_log("1 workers, listening on");
    server.await_log("of the previous version exited");
    assert_eq!(server.get("/api/fibonacci/20").status, 422);
}

#[test]
fn a_name_without_a_slash_is_searched_again() {
    let program = Program::new("searched");
    let folder = program.0.parent().unwrap();
    let first = folder.join("first");
    fs::create_dir(&first).unwrap();
    let mut command = Command::new("/bin/sh");
    let script = "exec fibsrv --listen 127.0.0.1:0 --workers 1";
    command.env_clear().env("PATH", format!("{}:{}", first.display(), folder.display()));
    command.args(["-c", script]).arg0("sh");
    let mut server = Server::spawn(command);
    assert_eq!(server.get("/api/fibonacci/20").status, 200);
    small_version(&first.join("fibsrv"));
    server.signal("HUP");
    server.await_log("1 workers, listening on");
    server.await_log("of the previous version exited");
    assert_eq!(server.get("/api/fibonacci/20").status, 422);
}

#[test]
fn counts_outlive_an_upgrade_while_the_only_worker_is_dead() {
    let server = Server::start(&["--workers", "1"]);
    for _ in 0..50 {
        server.get("/api/fibonacci/20");
    }
    for _ in 0..5 {
        let worker = workers(&server)[0];
        halt(worker);
        signal(worker, "KILL");
        server.signal("HUP");
        eventually("a new worker runs", || state(worker).is_none() && workers(&server).len() == 1);
        assert!(server.counted()[ANSWERED] >= 50.0);
    }
}

#[test]
fn memory_that_cannot_be_read_is_replaced() {
    let program = Program::new("memory");
    let mut server = Server::start_program(&program.0, &["--workers", "2"]);
    let run = format!("exec {BINARY} \"$@\"");
    // A number that is no socket of the server, however many descriptors the test was started with.
    program.replace(&format!("#!/bin/bash\nexec 99</dev/null\nFIBSRV_INHERITED_REGION=99 {run}\n"));
    server.signal("HUP");
    server.await_log("cannot share metrics between workers");
    server.await_log("2 workers, listening on");
    // What the next versions inherit can be read.
    program.replace("");
    for _ in 0..2 {
        server.signal("HUP");
        let line = server.await_log_line("listening on");
        assert!(line.contains("2 workers"), "{line}");
    }
    eventually("all count together", || server.counted()["fibsrv_workers"] == 2.0);
    assert_eq!(server.counted()["fibsrv_metrics_shared"], 1.0);
}
