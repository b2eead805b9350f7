//! Metrics shared by a file, where processes cannot find each other; and where they cannot be shared at all.

use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
    process,
};

use crate::kit::{ANSWERED, Server, eventually};

/// A directory of this user alone, which goes with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("fibsrv-{name}-{}", process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A port that nobody has, on an address of the loopback network that no other test uses.
fn free_port(host: &str) -> u16 {
    Server::start_on(&format!("{host}:0"), &[]).address().port()
}

fn end(mut server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

fn check(server: &Server, times: usize) {
    for _ in 0..times {
        assert_eq!(server.get("/api/fibonacci/20").body, "6765");
    }
}

#[test]
fn processes_that_do_not_meet_count_together_in_a_directory() {
    let directory = Directory::new("together");
    // Only the port is the same: so they do not look for each other.
    let port = free_port("127.0.71.1");
    let start = |host: &str, flags: &[&str]| {
        let flags = [&["--runtime-dir", directory.path()], flags].concat();
        Server::start_on(&format!("{host}:{port}"), &flags)
    };
    let first = start("127.0.71.1", &[]);
    let mut second = start("127.0.71.2", &["--workers", "2"]);
    assert_eq!((first.preface(), directory.files()), ("", 1));
    check(&first, 10);
    check(&second, 20);
    for server in [&first, &second] {
        let counted = server.counted();
        assert_eq!((counted[ANSWERED], counted["fibsrv_metrics_shared"]), (30.0, 1.0));
    }
    second.signal("HUP");
    second.await_log("2 workers, listening on");
    check(&second, 5);
    eventually("three are left", || first.counted()["fibsrv_workers"] == 3.0);
    end(first);
    assert_eq!(second.counted()[ANSWERED], 35.0, "and it outlives whoever was first");
    end(second);
    assert_eq!(directory.files(), 0, "whoever leaves last takes it along");
}

#[test]
fn a_directory_that_is_of_no_use_is_told_and_done_without() {
    let open = Directory::new("open");
    fs::set_permissions(&open.0, fs::Permissions::from_mode(0o777)).unwrap();
    for directory in ["/nowhere", "/dev/null", open.path()] {
        for flags in [&["--workers", "1"][..], &[]] {
            let address = format!("127.0.71.3:{}", free_port("127.0.71.3"));
            let flags = [&["--runtime-dir", directory], flags].concat();
            let server = Server::start_on(&address, &flags);
            let complaints = server.preface().lines().filter(|line| line.contains(" WARN "));
            let complaints: Vec<_> = complaints.collect();
            assert!(complaints.len() == 1 && complaints[0].contains(directory), "{complaints:?}");
            check(&server, 1);
            assert_eq!(server.counted()[ANSWERED], 1.0);
        }
    }
}

#[test]
fn who_can_share_nothing_counts_for_itself_and_says_so() {
    let server = Server::start_with_limit("-f 1", &[]); // no file is longer than half a kilobyte
    assert!(
        server.preface().contains("cannot share metrics between workers"),
        "{}",
        server.preface()
    );
    check(&server, 3);
    let counted = server.counted();
    assert_eq!((counted[ANSWERED], counted["fibsrv_metrics_shared"]), (3.0, 0.0));
}
