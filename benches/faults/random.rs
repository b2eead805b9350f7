//! Random requests over sockets: whole or in pieces, pipelined, truncated, abandoned. Every response is
//! checked.

use crate::{
    cases::{After, Case, CaseGenerator},
    client_pool::{ClientId, ClientKind, ClientPool, CloseKind, PoolEvent},
    harness::{
        parser::{ReplyRef, ReplyTo},
        report,
        server::Server,
    },
    monitor::Monitor,
    options::Options,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, Error},
    time::{Duration, Instant},
};

const SIMULTANEOUS: usize = 64;
const REQUESTS_MAX: usize = 24;
/// A session without progress for this long is reported. It is shorter than any timeout of the server.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(6);
const EXAMPLES_MAX: usize = 12;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let server = Server::start(&options.server, None)?;
    let mut load = Load {
        pool: ClientPool::new(server.address, ClientKind::Reading)?,
        generator: CaseGenerator::new(options.seed, options.largest),
        sessions: HashMap::new(),
        sending: Vec::new(),
        responses: 0,
        opened: 0,
        abandoned: 0,
        wrong: BTreeMap::new(),
        examples: Vec::new(),
    };
    println!("seed {}\n", options.seed);
    let mut monitor = Monitor::start(&server)?;
    let start = Instant::now();
    while load.responses < options.requests || load.pool.len() > 0 {
        while load.pool.len() < SIMULTANEOUS && load.responses < options.requests {
            load.open()?;
        }
        load.poll()?;
        if monitor.sample(&server)? {
            load.find_stalled();
        }
    }
    let span = start.elapsed();
    report::head(&["responses", "wrong", "sessions", "abandoned", "seconds", "peak RSS, MB"]);
    report::row(&[
        load.responses.to_string(),
        load.wrong.values().sum::<usize>().to_string(),
        load.opened.to_string(),
        load.abandoned.to_string(),
        format!("{:.1}", span.as_secs_f64()),
        report::megabytes(report::growth(monitor.before.rss, monitor.peak.rss)),
    ]);
    if !load.wrong.is_empty() {
        println!();
        report::head(&["failure", "times"]);
        for (what, times) in &load.wrong {
            report::row(&[what.clone(), times.to_string()]);
        }
    }
    for example in &load.examples {
        println!("\n{example}");
    }
    if load.wrong.is_empty() { Ok(()) } else { Err(Error::other("some responses are wrong")) }
}

/// The requests on one connection.
struct Session {
    /// Requests without a response.
    cases: VecDeque<Case>,
    /// Pieces that have not been sent, the last first.
    pieces: Vec<Vec<u8>>,
    after: AfterRequests,
    last_progress: Instant,
}

/// What the client does after its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterRequests {
    Wait,
    /// Sends FIN after the last piece.
    SendFin,
    /// Sends RST instead of the last piece.
    Reset,
}

struct Load {
    pool: ClientPool,
    generator: CaseGenerator,
    sessions: HashMap<ClientId, Session>,
    /// Sessions with pieces received: each sends one per iteration.
    sending: Vec<ClientId>,
    responses: usize,
    opened: usize,
    abandoned: usize,
    /// The number of failures of each kind.
    wrong: BTreeMap<String, usize>,
    examples: Vec<String>,
}

impl Load {
    fn open(&mut self) -> io::Result<()> {
        let mut cases = VecDeque::new();
        let length = 1 + self.generator.random.below(REQUESTS_MAX);
        while cases.len() < length {
            let case = self.generator.next();
            let is_last = case.after == After::Closed;
            cases.push_back(case);
            if is_last {
                break;
            }
        }
        let bytes: Vec<u8> = cases.iter().flat_map(|case| case.bytes.iter().copied()).collect();
        let random = &mut self.generator.random;
        let cuts = [0, 0, 1, 2, 5, 20].get(random.below(6)).copied().unwrap_or_default();
        let mut places: Vec<usize> = (0..cuts).map(|_| random.below(bytes.len())).collect();
        if random.percent(2) {
            places.extend(0..bytes.len().min(400)); // byte by byte.
        }
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        places.dedup();
        let ranges = places.iter().zip(places.iter().skip(1)).rev();
        let pieces = ranges.filter_map(|(from, to)| bytes.get(*from..*to)).map(<[u8]>::to_vec);
        let session = Session {
            cases,
            pieces: pieces.collect(),
            after: match random.below(50) {
                0 => AfterRequests::Reset,
                1..6 => AfterRequests::SendFin,
                _ => AfterRequests::Wait,
            },
            last_progress: Instant::now(),
        };
        let id = self.pool.open()?;
        self.sessions.insert(id, session);
        self.sending.push(id);
        self.opened += 1;
        Ok(())
    }

    fn poll(&mut self) -> io::Result<()> {
        for id in std::mem::take(&mut self.sending) {
            self.send_piece(id);
        }
        let timeout = if self.sending.is_empty() { 10 } else { 0 };
        for (id, event) in self.pool.poll(Duration::from_millis(timeout))? {
            match event {
                PoolEvent::Connected | PoolEvent::Sent => {}
                PoolEvent::Received => self.receive(id),
                PoolEvent::Closed(end) => self.closed(id, end),
            }
        }
        Ok(())
    }

    /// Sends the next piece.
    fn send_piece(&mut self, id: ClientId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let piece = session.pieces.pop().unwrap_or_default();
        if !session.pieces.is_empty() {
            self.pool.send(id, &piece);
            self.sending.push(id);
        } else if session.after == AfterRequests::Reset {
            self.sessions.remove(&id);
            self.pool.reset(id);
            self.abandoned += 1;
        } else {
            self.pool.send(id, &piece);
            if session.after == AfterRequests::SendFin {
                self.pool.finish(id);
            }
        }
    }

    /// Checks the received responses.
    fn receive(&mut self, id: ClientId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(client) = self.pool.client(id) else { return };
        session.last_progress = Instant::now();
        let (mut used, mut failure) = (0, None);
        let mut is_complete = false;
        while let Some(rest) = client.received.get(used..).filter(|rest| !rest.is_empty()) {
            let to = session.cases.front().map_or(ReplyTo::Other, |case| case.to);
            let reply = match ReplyRef::parse(rest, to) {
                Ok(None) => break,
                Ok(Some(reply)) => reply,
                Err(error) => {
                    failure = Some(error.to_owned());
                    break;
                }
            };
            used += reply.length;
            if reply.status == 100 {
                continue;
            }
            let Some(case) = session.cases.front() else {
                failure = Some("a response without a request".to_owned());
                break;
            };
            self.responses += 1;
            failure = self.generator.check(case, &reply);
            if failure.is_some() {
                break;
            }
            // After `Connection: close` no more responses follow. That the server closes is checked later.
            let closes = case.after == After::Closed || reply.closes();
            session.cases.pop_front();
            if closes {
                session.cases.clear();
                session.pieces.clear();
            } else {
                is_complete = session.cases.is_empty() && session.pieces.is_empty();
            }
        }
        client.received.drain(..used);
        if let Some(error) = failure {
            self.fail(id, &error);
        } else if is_complete {
            self.sessions.remove(&id);
            self.pool.close(id);
        }
    }

    /// Handles a close by the server: a failure if a response is missing.
    fn closed(&mut self, id: ClientId, end: CloseKind) {
        let missing = self.sessions.get(&id).map_or(0, |session| session.cases.len());
        if missing > 0 {
            self.fail(id, &format!("{end:?} before the response"));
        }
        self.sessions.remove(&id);
        self.pool.close(id);
    }

    fn find_stalled(&mut self) {
        let is_stalled = |session: &Session| session.last_progress.elapsed() > PROGRESS_TIMEOUT;
        let stalled = self.sessions.iter().filter(|pair| is_stalled(pair.1));
        let stalled = stalled.map(|pair| (*pair.0, pair.1.cases.is_empty())).collect::<Vec<_>>();
        for (id, is_answered) in stalled {
            self.fail(id, if is_answered { "not closed" } else { "no response" });
        }
    }

    /// Records a failure, with an example of the first few, and ends the session.
    fn fail(&mut self, id: ClientId, error: &str) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let client = self.pool.close(id);
        let case = session.cases.front();
        let name = case.map_or("after the last request", |case| case.name);
        let kind = error.split(':').next().unwrap_or_default();
        *self.wrong.entry(format!("{name}: {kind}")).or_default() += 1;
        if self.examples.len() < EXAMPLES_MAX {
            let request = case.map_or(&[][..], |case| &case.bytes);
            let request = request.get(..300).unwrap_or(request).escape_ascii();
            let received = client.map(|client| client.received).unwrap_or_default();
            let received = received.get(..200).unwrap_or(&received).escape_ascii();
            self.examples
                .push(format!("{name}: {error}\n    sent: {request}\n    received: {received}"));
        }
    }
}
