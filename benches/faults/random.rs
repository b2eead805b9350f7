//! Random requests over sockets: whole or in pieces, pipelined, cut short, abandoned. Every answer is
//! checked by the oracle.

use crate::{
    lab::{
        reply::{Asked, Reply},
        report,
        server::Server,
    },
    options::Options,
    oracle::{Case, Oracle, Then},
    swarm::{End, Happening, Id, Manner, Swarm},
    watch::Watch,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, Error},
    time::{Duration, Instant},
};

const AT_A_TIME: usize = 64;
const LONGEST: usize = 24;
/// Without progress for so long, a conversation hangs. Shorter than any deadline of the server.
const HANGS: Duration = Duration::from_secs(6);
const SHOWN: usize = 12;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let server = Server::start(&options.server, None)?;
    let mut talk = Talk {
        swarm: Swarm::new(server.address, Manner::Reading)?,
        oracle: Oracle::new(options.seed, options.largest),
        conversations: HashMap::new(),
        speaking: Vec::new(),
        answered: 0,
        begun: 0,
        abandoned: 0,
        wrong: BTreeMap::new(),
        examples: Vec::new(),
    };
    println!("seed {}\n", options.seed);
    let mut watch = Watch::start(&server)?;
    let start = Instant::now();
    while talk.answered < options.requests || talk.swarm.len() > 0 {
        while talk.swarm.len() < AT_A_TIME && talk.answered < options.requests {
            talk.begin()?;
        }
        talk.turn()?;
        if watch.look(&server)? {
            talk.find_hanging();
        }
    }
    let span = start.elapsed();
    report::head(&[
        "requests answered",
        "wrong",
        "conversations",
        "abandoned",
        "seconds",
        "RSS at most, MB",
    ]);
    report::row(&[
        talk.answered.to_string(),
        talk.wrong.values().sum::<usize>().to_string(),
        talk.begun.to_string(),
        talk.abandoned.to_string(),
        format!("{:.1}", span.as_secs_f64()),
        report::megabytes(report::growth(watch.before.rss, watch.peak.rss)),
    ]);
    if !talk.wrong.is_empty() {
        println!();
        report::head(&["what was wrong", "times"]);
        for (what, times) in &talk.wrong {
            report::row(&[what.clone(), times.to_string()]);
        }
    }
    for example in &talk.examples {
        println!("\n{example}");
    }
    if talk.wrong.is_empty() { Ok(()) } else { Err(Error::other("not every answer was right")) }
}

/// What is said on one connection.
struct Conversation {
    /// What is not answered yet.
    cases: VecDeque<Case>,
    /// What is not sent yet, the last piece first.
    pieces: Vec<Vec<u8>>,
    ending: Ending,
    last_progress: Instant,
}

/// How the client ends what it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Waits,
    /// With FIN behind the last piece.
    Finishes,
    /// With RST instead of the last piece.
    Vanishes,
}

struct Talk {
    swarm: Swarm,
    oracle: Oracle,
    conversations: HashMap<Id, Conversation>,
    /// Those with pieces left: each says one a turn.
    speaking: Vec<Id>,
    answered: usize,
    begun: usize,
    abandoned: usize,
    /// Failures by kind.
    wrong: BTreeMap<String, usize>,
    examples: Vec<String>,
}

impl Talk {
    fn begin(&mut self) -> io::Result<()> {
        let mut cases = VecDeque::new();
        let length = 1 + self.oracle.random.below(LONGEST);
        while cases.len() < length {
            let case = self.oracle.next();
            let is_last = case.then == Then::Closes;
            cases.push_back(case);
            if is_last {
                break;
            }
        }
        let bytes: Vec<u8> = cases.iter().flat_map(|case| case.bytes.iter().copied()).collect();
        let random = &mut self.oracle.random;
        let cuts = [0, 0, 1, 2, 5, 20].get(random.below(6)).copied().unwrap_or_default();
        let mut places: Vec<usize> = (0..cuts).map(|_| random.below(bytes.len())).collect();
        if random.percent(2) {
            places.extend(0..bytes.len().min(400)); // Byte by byte.
        }
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        places.dedup();
        let ranges = places.iter().zip(places.iter().skip(1)).rev();
        let pieces = ranges.filter_map(|(from, to)| bytes.get(*from..*to)).map(<[u8]>::to_vec);
        let conversation = Conversation {
            cases,
            pieces: pieces.collect(),
            ending: match random.below(50) {
                0 => Ending::Vanishes,
                1..6 => Ending::Finishes,
                _ => Ending::Waits,
            },
            last_progress: Instant::now(),
        };
        let id = self.swarm.open()?;
        self.conversations.insert(id, conversation);
        self.speaking.push(id);
        self.begun += 1;
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        for id in std::mem::take(&mut self.speaking) {
            self.speak(id);
        }
        let patience = if self.speaking.is_empty() { 10 } else { 0 };
        for (id, happening) in self.swarm.turn(Duration::from_millis(patience))? {
            match happening {
                Happening::Connected | Happening::Flushed => {}
                Happening::Arrived => self.hear(id),
                Happening::Ended(end) => self.ended(id, end),
            }
        }
        Ok(())
    }

    /// Says the next piece.
    fn speak(&mut self, id: Id) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let piece = conversation.pieces.pop().unwrap_or_default();
        if !conversation.pieces.is_empty() {
            self.swarm.say(id, &piece);
            self.speaking.push(id);
        } else if conversation.ending == Ending::Vanishes {
            self.conversations.remove(&id);
            self.swarm.reset(id);
            self.abandoned += 1;
        } else {
            self.swarm.say(id, &piece);
            if conversation.ending == Ending::Finishes {
                self.swarm.finish(id);
            }
        }
    }

    /// Checks the answers that have come.
    fn hear(&mut self, id: Id) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let Some(link) = self.swarm.link(id) else { return };
        conversation.last_progress = Instant::now();
        let (mut used, mut failure) = (0, None);
        let mut is_over = false;
        while let Some(rest) = link.inbox.get(used..).filter(|rest| !rest.is_empty()) {
            let asked = conversation.cases.front().map_or(Asked::Get, |case| case.asked);
            let reply = match Reply::parse(rest, asked) {
                Ok(None) => break,
                Ok(Some(reply)) => reply,
                Err(problem) => {
                    failure = Some(problem.to_owned());
                    break;
                }
            };
            used += reply.length;
            if reply.status == 100 {
                continue;
            }
            let Some(case) = conversation.cases.front() else {
                failure = Some("an answer to nothing".to_owned());
                break;
            };
            self.answered += 1;
            failure = self.oracle.judge(case, &reply);
            if failure.is_some() {
                break;
            }
            // Whoever says that he closes owes nothing more; whether he does is seen at the end.
            let closes = case.then == Then::Closes || reply.closes();
            conversation.cases.pop_front();
            if closes {
                conversation.cases.clear();
                conversation.pieces.clear();
            } else {
                is_over = conversation.cases.is_empty() && conversation.pieces.is_empty();
            }
        }
        link.inbox.drain(..used);
        if let Some(problem) = failure {
            self.fail(id, &problem);
        } else if is_over {
            self.conversations.remove(&id);
            self.swarm.leave(id);
        }
    }

    /// The server has closed: right if nothing is owed.
    fn ended(&mut self, id: Id, end: End) {
        let owed = self.conversations.get(&id).map_or(0, |conversation| conversation.cases.len());
        if owed > 0 {
            self.fail(id, &format!("{end:?} before the answer"));
        }
        self.conversations.remove(&id);
        self.swarm.leave(id);
    }

    fn find_hanging(&mut self) {
        let hangs = |talk: &Conversation| talk.last_progress.elapsed() > HANGS;
        let hanging = self.conversations.iter().filter(|pair| hangs(pair.1));
        let hanging = hanging.map(|pair| (*pair.0, pair.1.cases.is_empty())).collect::<Vec<_>>();
        for (id, is_answered) in hanging {
            self.fail(id, if is_answered { "is not closed" } else { "hangs" });
        }
    }

    /// Notes a failure, with an example of the first few, and ends the conversation.
    fn fail(&mut self, id: Id, problem: &str) {
        let Some(conversation) = self.conversations.remove(&id) else { return };
        let link = self.swarm.leave(id);
        let case = conversation.cases.front();
        let name = case.map_or("after the last", |case| case.name);
        let kind = problem.split(':').next().unwrap_or_default();
        *self.wrong.entry(format!("{name}: {kind}")).or_default() += 1;
        if self.examples.len() < SHOWN {
            let request = case.map_or(&[][..], |case| &case.bytes);
            let request = request.get(..300).unwrap_or(request).escape_ascii();
            let inbox = link.map(|link| link.inbox).unwrap_or_default();
            let inbox = inbox.get(..200).unwrap_or(&inbox).escape_ascii();
            self.examples
                .push(format!("{name}: {problem}\n    sent: {request}\n    left: {inbox}"));
        }
    }
}
