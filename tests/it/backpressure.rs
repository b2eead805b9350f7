//! Clients that ask for more than they take, or for more than their share.

use std::thread;

use crate::{
    kit::{ANSWERED, Client, Server, counted, halt, request},
    monitor::Watch,
};

/// Requests of one connection answered in a turn: the default of `--max-pipelined`.
const PIPELINED: u32 = 32;

const CROWD: usize = 50;

/// What a client that reads nothing can get rid of: what its kernel and the server's hold in either direction
/// before the server stops reading. That is some 180 KiB, and without end if there is no bound.
const SENT_MAX: usize = 1024 * 1024;

/// What a client that reads nothing costs the server itself: a head, a read and a batch of answers.
const PEER_BYTES_MAX: u64 = 64 * 1024;

/// A crowd pipelines `target` without reading until each of them is reset.
fn check_flood(target: &str) {
    let server = Server::start(&["--write-timeout", "500ms"]);
    let watch = Watch::start(&server);
    let requests = request("GET", target).repeat(100);
    let mut clients: Vec<_> =
        (0..CROWD).map(|_| Client::connect_narrow(server.address())).collect();
    let mut peak = 0;
    thread::scope(|scope| {
        let floods: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.flood(requests.as_bytes())))
            .collect();
        while !floods.iter().all(thread::ScopedJoinHandle::is_finished) {
            watch.others_are_served();
            peak = peak.max(watch.resident_growth());
        }
        for flood in floods {
            let sent = flood.join().unwrap();
            assert!(sent <= SENT_MAX, "the server took {sent} bytes from one who reads nothing");
        }
    });
    let most = CROWD as u64 * PEER_BYTES_MAX + 1024 * 1024;
    assert!(peak <= most, "{peak} bytes for {CROWD} clients, more than {most}");
    // The clients are still there: what they have not read must not stay in the server's kernel.
    watch.all_is_given_back();
    drop(clients);
}

#[test]
fn pipelines_of_small_answers_that_nobody_reads_are_bounded_and_reset() {
    check_flood("/api/fibonacci/1");
}

#[test]
fn pipelines_of_large_answers_that_nobody_reads_are_bounded_and_reset() {
    check_flood("/api/fibonacci/10000");
}

#[test]
fn pipelines_of_refusals_that_nobody_reads_are_bounded_and_reset() {
    check_flood("/nothing");
}

/// Here the server has read all they have to say, so that closing would not make the kernel send a reset: it
/// would keep the answers for minutes.
#[test]
fn answers_that_nobody_reads_do_not_stay_in_the_kernel() {
    let server = Server::start(&["--write-timeout", "500ms"]);
    let watch = Watch::start(&server);
    let requests = request("GET", "/api/fibonacci/10000").repeat(100);
    let clients: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address());
            client.send(requests.as_bytes());
            client
        })
        .collect();
    watch.others_are_served();
    watch.all_is_given_back();
    drop(clients);
}

/// The server is stopped while both send, so that it finds a thousand requests of each greedy client before
/// the single ones of the others. A scrape tells how many were answered when it had its turn.
#[test]
fn deep_pipelines_have_a_turn_each_before_a_single_request_is_answered() {
    const DEPTH: usize = 1000;
    const TURNS_MAX: u32 = 4;
    let server = Server::start(&[]);
    let mut greedy: Vec<_> = (0..5).map(|_| server.connect()).collect();
    let mut honest = server.connect();
    for client in greedy.iter_mut().chain([&mut honest]) {
        assert_eq!(client.get("/healthz").status, 200);
    }
    halt(server.id());
    for client in &mut greedy {
        client.send(request("GET", "/api/fibonacci/1").repeat(DEPTH).as_bytes());
    }
    honest.send(request("GET", "/metrics").as_bytes());
    let mut newcomer = server.connect();
    newcomer.send(request("GET", "/metrics").as_bytes());
    server.signal("CONT");
    let most = f64::from(u32::try_from(greedy.len()).unwrap() * PIPELINED * TURNS_MAX);
    for client in [&mut honest, &mut newcomer] {
        let before_it = counted(&client.reply().body)[ANSWERED];
        assert!(before_it <= most, "{before_it} answers to others came first, more than {most}");
    }
    for client in &mut greedy {
        for _ in 0..DEPTH {
            assert_eq!(client.reply().body, "1");
        }
    }
}
