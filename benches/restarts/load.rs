//! The load: clients of each kind, each with a thread of its own, which ask until they are told to stop.
//!
//! What they do, and why none of it may fail while servers leave in order:
//!
//! - *newcomers* connect, ask once, and read to the end.
//! - *regulars* ask again and again on one connection, with pauses much shorter than the grace of a server
//!   that leaves: so it always has an answer to say `Connection: close` in, and closes no connection on
//!   which a request may be under way.
//! - *sleepers* do the same with pauses longer than the grace. A server that leaves closes their
//!   connections, in order, while nothing is under way; should a request cross that, it is asked again.
//! - *readers* ask for a large number and read it slowly; *askers* send their request in pieces. Either
//!   takes about as long as a restart.

use crate::{
    caller::{Caller, Failure, Loss, Pace, Rest, Then},
    lab::dice::Dice,
    score::{Kind, Score},
};
use fibsrv::fibonacci::doubling;
use std::{
    io::{self, Error},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What newcomers and regulars ask for.
pub(crate) const F20: &[u8] = b"6765";
/// For slow readers: 209 kB, most of which the server has still to send while they pause.
const LARGE_N: u64 = 1_000_000;
const NARROW: usize = 4096;
const SLOWLY: Pace = Pace { sip: 8 * 1024, pause: Duration::from_millis(30) };

/// Longest pause of regulars, and of askers within a request.
const SHORT_MS: usize = 300;
/// Pauses of sleepers.
const NAP_MS: usize = 1500;
const NAPS_MS: usize = 1500;

/// Newcomers come from so many loopback addresses, as the ports of one would not do.
const SOURCES: usize = 64;
/// Others stay on theirs.
pub(crate) const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);
/// After a failure, so that one who finds nobody does not count a million failures.
const SHOCK: Duration = Duration::from_millis(5);

/// How many clients of each kind, and what they ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) newcomers: usize,
    pub(crate) regulars: usize,
    pub(crate) sleepers: usize,
    pub(crate) readers: usize,
    pub(crate) askers: usize,
    /// Chunks in the body of each request of newcomers and regulars.
    pub(crate) chunks: usize,
}

/// Clients at work. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) score: Arc<Score>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    pub(crate) fn start(target: SocketAddr, mix: &Mix) -> Self {
        let mut load = Self { score: Arc::new(Score::new()), threads: Vec::new() };
        let once = request("Connection: close\r\n", mix.chunks);
        let again = request("", mix.chunks);
        let large: Arc<[u8]> = doubling::digits(LARGE_N).into();
        for number in 0..mix.newcomers {
            let once = once.clone();
            load.begin(move |score| visit_on(score, target, &once, number));
        }
        for number in 0..mix.regulars + mix.sleepers {
            let again = again.clone();
            let [least, more] =
                if number < mix.regulars { [0, SHORT_MS] } else { [NAP_MS, NAPS_MS] };
            let mut dice = Dice(number as u64);
            let pause = move || millis(least + dice.below(more));
            load.begin(move |score| stay_on(score, target, &again, pause));
        }
        for _ in 0..mix.readers {
            let digits = Arc::clone(&large);
            load.begin(move |score| long_on(score, || read_slowly(target, &digits)));
        }
        for number in 0..mix.askers {
            let mut dice = Dice(number as u64);
            load.begin(move |score| long_on(score, || ask_slowly(target, &mut dice)));
        }
        load
    }

    fn begin(&mut self, client: impl FnOnce(&Score) -> io::Result<()> + Send + 'static) {
        let score = Arc::clone(&self.score);
        self.threads.push(thread::spawn(move || client(&score)));
    }

    /// Lets all finish what they are at, and waits for it.
    pub(crate) fn finish(mut self) -> io::Result<Arc<Score>> {
        self.score.end();
        for client in self.threads.drain(..) {
            client.join().map_err(|_| Error::other("a client has panicked"))??;
        }
        Ok(Arc::clone(&self.score))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.score.end();
        for client in self.threads.drain(..) {
            drop(client.join());
        }
    }
}

/// A request for F(20). Its body costs the server work, a parser's turn for each chunk of a byte, and as
/// little else as can be: the answer is in the table, and one request is one answer.
pub(crate) fn request(field: &str, chunks: usize) -> Vec<u8> {
    let head = format!("GET /api/fibonacci/20 HTTP/1.1\r\nHost: localhost\r\n{field}");
    let mut bytes = head.into_bytes();
    if chunks > 0 {
        bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        bytes.extend(b"1\r\nx\r\n".repeat(chunks));
        bytes.extend(b"0\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

/// A connection, one request, its answer, and the end of the stream.
pub(crate) fn visit(caller: &mut Caller, request: &[u8]) -> Result<(), Loss> {
    caller.connect()?;
    caller.say(request)?;
    caller.hear(F20, Pace::AT_ONCE)?;
    caller.hear_end()
}

fn visit_on(score: &Score, target: SocketAddr, request: &[u8], number: usize) -> io::Result<()> {
    for round in number.. {
        if score.is_over() {
            break;
        }
        let host = u8::try_from(round % SOURCES).unwrap_or_default() + 1;
        let mut caller = Caller::new(target, Ipv4Addr::new(127, 0, 2, host), None)?;
        score.ask();
        match visit(&mut caller, request) {
            Ok(()) => score.answer(Kind::New),
            Err(loss) => lose(score, Kind::New, loss, &caller),
        }
    }
    Ok(())
}

fn lose(score: &Score, kind: Kind, loss: Loss, caller: &Caller) {
    score.lose(kind, loss, caller.local());
    thread::sleep(SHOCK);
}

/// One connection after the other, each for as many requests as the server allows.
fn stay_on(
    score: &Score,
    target: SocketAddr,
    request: &[u8],
    mut pause: impl FnMut() -> Duration,
) -> io::Result<()> {
    while !score.is_over() {
        let mut caller = Caller::new(target, HOME, None)?;
        if let Err(loss) = stay(score, &mut caller, request, &mut pause) {
            lose(score, Kind::Kept, loss, &caller);
        }
    }
    Ok(())
}

fn stay(
    score: &Score,
    caller: &mut Caller,
    request: &[u8],
    pause: &mut impl FnMut() -> Duration,
) -> Result<(), Loss> {
    score.ask();
    caller.connect()?;
    caller.say(request)?;
    let mut then = caller.hear(F20, Pace::AT_ONCE)?;
    loop {
        score.answer(Kind::Kept);
        if then == Then::Closes {
            return caller.hear_end();
        }
        if caller.rest(pause())? == Rest::Closed {
            count(&score.closed);
            return Ok(());
        }
        if score.is_over() {
            return Ok(());
        }
        score.ask();
        caller.say(request)?;
        then = match caller.hear(F20, Pace::AT_ONCE) {
            // In order, and on a connection that has had answers.
            Err(loss) if loss.failure == Failure::Unanswered => {
                count(&score.crossed);
                return Ok(());
            }
            heard => heard?,
        };
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// One long request after the other, each on a connection of its own.
fn long_on(
    score: &Score,
    mut begin: impl FnMut() -> io::Result<(Caller, Result<(), Loss>)>,
) -> io::Result<()> {
    while !score.is_over() {
        let restarts = score.restarts();
        score.ask();
        let (caller, outcome) = begin()?;
        match outcome {
            Ok(()) => score.answer(Kind::Long),
            Err(loss) => lose(score, Kind::Long, loss, &caller),
        }
        if score.restarts() > restarts {
            count(&score.spanning);
        }
    }
    Ok(())
}

/// Takes a large answer in small sips.
fn read_slowly(target: SocketAddr, digits: &[u8]) -> io::Result<(Caller, Result<(), Loss>)> {
    let mut caller = Caller::new(target, HOME, Some(NARROW))?;
    let request = format!(
        "GET /api/fibonacci/{LARGE_N} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let mut talk = || {
        caller.connect()?;
        caller.say(request.as_bytes())?;
        caller.hear(digits, SLOWLY)?;
        caller.hear_end()
    };
    let outcome = talk();
    Ok((caller, outcome))
}

/// Sends a request in pieces, the first a while after it has connected.
fn ask_slowly(target: SocketAddr, dice: &mut Dice) -> io::Result<(Caller, Result<(), Loss>)> {
    let mut caller = Caller::new(target, HOME, None)?;
    let request = request("Connection: close\r\n", 0);
    let mut talk = || {
        caller.connect()?;
        for piece in request.chunks(request.len().div_ceil(3)) {
            thread::sleep(millis(dice.below(SHORT_MS)));
            caller.say(piece)?;
        }
        caller.hear(F20, Pace::AT_ONCE)?;
        caller.hear_end()
    };
    let outcome = talk();
    Ok((caller, outcome))
}

fn millis(count: usize) -> Duration {
    Duration::from_millis(count as u64 + 1)
}
