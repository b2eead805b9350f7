//! Clients that ask for much and do not read it: what piles up in the server and, out of its sight,
//! in the kernel.
//!
//! The clients' own send buffers are small, so that the requests they hold back count for little.

use crate::{
    honest::Honest,
    lab::{report, server::Server},
    options::Options,
    swarm::{End, Happening, Manner, Swarm},
    watch::Watch,
};
use std::{
    io,
    process::Command,
    thread,
    time::{Duration, Instant},
};

const CLIENTS: usize = 300;
const FLOODERS: usize = 100;
const FLOOD_SECONDS: u64 = 12;
const SIP: usize = 200;
const SECOND: Duration = Duration::from_secs(1);

/// What a crowd does.
struct Attack {
    name: String,
    clients: usize,
    /// What each says.
    asks: Vec<u8>,
    /// For how long it says that again and again.
    repeats: Duration,
    /// How much it reads a second.
    sips: usize,
    /// How long it waits to be cut off.
    wait: Duration,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// When the server had closed the first and the last, by its own descriptors.
    first_closed: Option<Duration>,
    all_closed: Option<Duration>,
    resets: usize,
    closes: usize,
    /// The most that the server's own ends of the attackers' connections held.
    own_peak: u64,
}

/// Many requests for a large answer, never read, then hardly read.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    head();
    let clients = options.clients.unwrap_or(CLIENTS);
    for (how, sips) in [("nothing", 0), ("200 bytes a second", SIP)] {
        measure(
            options,
            &Attack {
                name: format!("{clients} ask {} × {}, read {how}", options.count, options.path),
                clients,
                asks: request(&options.path).repeat(options.count),
                repeats: Duration::ZERO,
                sips,
                wait: options.wait,
            },
        )?;
    }
    Ok(())
}

/// Small requests without end, never read.
pub(crate) fn flood(options: &Options) -> io::Result<()> {
    head();
    let clients = options.clients.unwrap_or(FLOODERS);
    measure(
        options,
        &Attack {
            name: format!("{clients} pipeline without end, read nothing"),
            clients,
            asks: request("/api/fibonacci/20").repeat(1000),
            repeats: Duration::from_secs(options.seconds.unwrap_or(FLOOD_SECONDS)),
            sips: 0,
            wait: options.wait,
        },
    )
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn head() {
    report::head(&[
        "clients",
        "kernel TCP memory at most, MB",
        "of it the server's ends",
        "1 s after the end",
        "RSS at most, MB",
        "server CPU s",
        "honest %",
        "p99 ms",
        "max ms",
        "closed after s: first / all",
        "attackers saw",
    ]);
}

fn measure(options: &Options, attack: &Attack) -> io::Result<()> {
    let server = Server::start(&options.server, None)?;
    let honest = Honest::start(server.address)?;
    let mut watch = Watch::start(&server)?;
    let cpu = server.cpu();
    let mut swarm = Swarm::new(server.address, Manner::Deaf)?;
    let outcome = go_on(attack, &server, &mut watch, &mut swarm)?;
    let cpu = server.cpu().saturating_sub(cpu);
    thread::sleep(SECOND);
    let later = server.reading()?.tcp; // Those that were not closed are still there.
    let [success, p99, max] = honest.finish()?.cells();
    let seconds = |moment: Option<Duration>| {
        moment.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
    };
    let grown = |bytes| report::megabytes(report::growth(watch.before.tcp, bytes));
    report::row(&[
        attack.name.clone(),
        grown(watch.peak.tcp),
        format!("{:.1}", outcome.own_peak as f64 / 1e6),
        grown(later),
        report::megabytes(report::growth(watch.before.rss, watch.peak.rss)),
        format!("{:.2}", cpu.as_secs_f64()),
        success,
        p99,
        max,
        format!("{} / {}", seconds(outcome.first_closed), seconds(outcome.all_closed)),
        format!("{} resets, {} closes, {} open", outcome.resets, outcome.closes, swarm.len()),
    ]);
    Ok(())
}

/// Attacks until the server has closed all of them, or the wait is over.
fn go_on(
    attack: &Attack,
    server: &Server,
    watch: &mut Watch,
    swarm: &mut Swarm,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let mut second = start + SECOND;
    let mut most = 0;
    for _ in 0..attack.clients {
        let id = swarm.open()?;
        swarm.say(id, &attack.asks);
    }
    while start.elapsed() < attack.wait {
        for (id, happening) in swarm.turn(Duration::from_millis(20))? {
            match happening {
                Happening::Flushed if start.elapsed() < attack.repeats => {
                    swarm.say(id, &attack.asks);
                }

                Happening::Connected | Happening::Flushed | Happening::Arrived => {}
                Happening::Ended(end) => {
                    if end == End::Reset {
                        outcome.resets += 1;
                    } else {
                        outcome.closes += 1;
                    }
                    swarm.reset(id);
                }
            }
        }
        if watch.look(server)? {
            let held = watch.held();
            most = most.max(held);
            if held < most && outcome.first_closed.is_none() {
                outcome.first_closed = Some(start.elapsed());
            }
            if held == 0 && most > 0 {
                outcome.all_closed = Some(start.elapsed());
                break;
            }
        }
        if Instant::now() >= second {
            second += SECOND;
            outcome.own_peak = outcome.own_peak.max(memory_of_own_ends(server));
            for id in swarm.ids() {
                swarm.sip(id, attack.sips);
            }
        }
    }
    Ok(outcome)
}

/// What the server's ends of the attackers' connections hold in the kernel, closed ones included: the
/// receive, send and forward-allocated memory of `skmem:(r1,rb2,t3,tb4,f5,w6,...)`.
fn memory_of_own_ends(server: &Server) -> u64 {
    let filter = format!("src {} dst 127.0.1.0/24", server.address);
    let output = Command::new("ss").args(["-tnmOH", "state", "all", &filter]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let memories = text.lines().filter_map(|line| line.split_once("skmem:(")?.1.split_once(')'));
    let counted = |field: &str| -> u64 {
        let digits = field.strip_prefix(['r', 'w', 'f']);
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    };
    memories.flat_map(|memory| memory.0.split(',').map(counted).collect::<Vec<_>>()).sum()
}
