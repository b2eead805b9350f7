//! Processes killed in the midst of their work: who loses what, and how soon somebody answers again.

use crate::{
    caller::{Caller, Failure, Loss, Pace},
    campaign::Task,
    lab::{
        report::{self, millis, quantile},
        server::Server,
    },
    load::{F20, HOME, request},
    options::Options,
    process::{halt, until},
    rolling::{PROCESSES, Processes},
    score::{Kind, Lost},
};
use rustix::process::Signal;
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

/// Clients that wait in the queue of a worker when it is killed.
const WAITING: usize = 20;
/// A worker must have lived for a second, or it counts as one that keeps dying.
const LIFE: Duration = Duration::from_millis(1100);

/// One of several independent processes is killed, and another started in its place. What it had accepted
/// is lost with it, and nothing else should be.
///
/// To know what it had accepted, it is halted for a moment first, wherever it is in its work.
pub(crate) fn one_of_several(options: &Options) -> io::Result<()> {
    let mut processes = Processes::start_all(options, options.processes.unwrap_or(PROCESSES))?;
    let task = Task::new(processes.address()?, options, options.kills);
    let (accepted, longest_halt) = (RefCell::new(HashSet::new()), Cell::new(Duration::ZERO));
    let campaign = task.run(|| {
        processes.check()?;
        let start = Instant::now();
        let mut victim = processes.oldest()?;
        accepted.borrow_mut().extend(victim.halt()?);
        longest_halt.set(longest_halt.get().max(start.elapsed()));
        victim.kill()?;
        processes.start()
    })?;
    processes.check()?;
    let score = campaign.score();
    let was_accepted =
        |lost: &Lost| lost.local.is_some_and(|local| accepted.borrow().contains(&local));
    // One new connection a kill is the bound; none is what should be.
    let spared = Cell::new(options.kills);
    let outcome = campaign.finish(|lost| match lost.failure {
        Failure::Refused | Failure::Wrong | Failure::Stuck => false,
        Failure::Reset | Failure::Unanswered | Failure::Cut => {
            let left = spared.get();
            was_accepted(lost)
                || (lost.kind == Kind::New && spared.replace(left.saturating_sub(1)) > 0)
        }
    });
    report::head(&[
        "kills",
        "accepted by the dead",
        "lost of these",
        "others lost",
        "halted before, at most, ms",
    ]);
    let (of_these, others) = score.losses(|losses| {
        let of_these = losses.iter().filter(|lost| was_accepted(lost)).count();
        (of_these, losses.len() - of_these)
    });
    report::row(&[
        options.kills.to_string(),
        accepted.borrow().len().to_string(),
        of_these.to_string(),
        others.to_string(),
        millis(longest_halt.get()),
    ]);
    processes.finish()?;
    outcome
}

/// The only worker of a supervisor is killed, while clients wait in its queue.
pub(crate) fn the_only_worker(options: &Options) -> io::Result<()> {
    let mut server = Server::start(&options.command("127.0.0.1:0", "--workers 1"), None)?;
    let (mut first, mut last, mut unanswered) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.kills {
        thread::sleep(LIFE);
        server.check()?;
        let &[_, worker] = server.family().as_slice() else {
            return Err(Error::other("there is not one worker"));
        };
        halt(worker)?;
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let caller = Caller::new(server.address, HOME, None)?;
            waiting.push(ask(caller));
        }
        let killed = Instant::now();
        Server::signal(worker, Signal::KILL);
        waiting.push(ask(Caller::new(server.address, HOME, None)?));
        let mut times = Vec::new();
        for caller in waiting {
            match caller.and_then(hear) {
                Ok(()) => times.push(killed.elapsed()),
                Err(loss) => {
                    unanswered += 1;
                    println!("- {:?}: {}", loss.failure, loss.note);
                }
            }
        }
        first.extend(times.first());
        last.extend(times.last());
        until("it is replaced", || Ok(server.family().len() == 2))?;
    }
    report::head(&[
        "kills",
        "not answered, of those who waited or came",
        "first answer after ms, median / most",
        "all answered after ms, median / most",
    ]);
    let figures =
        |times: &mut Vec<Duration>| format!("{} / {}", quantile(times, 0.5), quantile(times, 1.0));
    report::row(&[
        options.kills.to_string(),
        format!("{unanswered} of {}", options.kills * (WAITING + 1)),
        figures(&mut first),
        figures(&mut last),
    ]);
    if unanswered > 0 {
        return Err(Error::other(format!("{unanswered} were not answered")));
    }
    server.stop()
}

fn ask(mut caller: Caller) -> Result<Caller, Loss> {
    caller.connect()?;
    caller.say(&request("Connection: close\r\n", 0))?;
    Ok(caller)
}

fn hear(mut caller: Caller) -> Result<(), Loss> {
    caller.hear(F20, Pace::AT_ONCE)?;
    caller.hear_end()
}
