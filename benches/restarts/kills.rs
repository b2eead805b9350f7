//! Processes killed under load: which requests fail, and how soon the next response arrives.

use crate::{
    client::{Client, Failure, Pace, RequestError},
    experiment::Task,
    harness::{
        f20::F20,
        report::{self, millis, quantile},
        server::Server,
    },
    load::{LOCAL_ADDRESS, request},
    options::Options,
    process::{await_condition, halt},
    rolling::{PROCESSES, Processes},
    stats::{FailedRequest, Kind},
};
use rustix::process::Signal;
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    io::{self, Error},
    thread,
    time::{Duration, Instant},
};

/// Clients in the accept queue of a worker when it is killed.
const WAITING_CLIENTS: usize = 20;
/// The supervisor delays the restart of a worker that ran for less than a second.
const RUN_TIME: Duration = Duration::from_millis(1100);

/// Kills one of several independent processes and starts another. Only requests on connections that it had
/// accepted may fail.
///
/// It is stopped for a moment first, to find out which connections it has accepted.
pub(crate) fn one_of_several(options: &Options) -> io::Result<()> {
    let mut processes = Processes::start_all(options, options.processes.unwrap_or(PROCESSES))?;
    let task = Task::new(processes.address()?, options, options.kills);
    let (accepted, longest_halt) = (RefCell::new(HashSet::new()), Cell::new(Duration::ZERO));
    let experiment = task.run(|| {
        processes.check_running()?;
        let start = Instant::now();
        let mut victim = processes.oldest()?;
        accepted.borrow_mut().extend(victim.halt()?);
        longest_halt.set(longest_halt.get().max(start.elapsed()));
        victim.kill()?;
        processes.start()
    })?;
    processes.check_running()?;
    let stats = experiment.stats();
    let was_accepted = |failed: &FailedRequest| {
        failed.local.is_some_and(|local| accepted.borrow().contains(&local))
    };
    // At most one new connection per kill; none is expected.
    let tolerated = Cell::new(options.kills);
    let outcome = experiment.finish(|failed| match failed.failure {
        Failure::Refused | Failure::Wrong | Failure::TimedOut => false,
        Failure::Reset | Failure::NoResponse | Failure::Truncated => {
            let left = tolerated.get();
            was_accepted(failed)
                || (failed.kind == Kind::New && tolerated.replace(left.saturating_sub(1)) > 0)
        }
    });
    report::head(&[
        "kills",
        "connections accepted by the killed process",
        "of which failed",
        "other failures",
        "longest stop before a kill, ms",
    ]);
    let (of_accepted, others) = stats.failures(|failures| {
        let of_accepted = failures.iter().filter(|failed| was_accepted(failed)).count();
        (of_accepted, failures.len() - of_accepted)
    });
    report::row(&[
        options.kills.to_string(),
        accepted.borrow().len().to_string(),
        of_accepted.to_string(),
        others.to_string(),
        millis(longest_halt.get()),
    ]);
    processes.finish()?;
    outcome
}

/// Kills the only worker of a supervisor while clients wait in its accept queue.
pub(crate) fn the_only_worker(options: &Options) -> io::Result<()> {
    let mut server = Server::start(&options.command("127.0.0.1:0", "--workers 1"), None)?;
    let (mut first, mut last, mut unserved) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.kills {
        thread::sleep(RUN_TIME);
        server.check_running()?;
        let &[_, worker] = server.family().as_slice() else {
            return Err(Error::other("not exactly one worker"));
        };
        halt(worker)?;
        let mut waiting = Vec::new();
        for _ in 0..WAITING_CLIENTS {
            let client = Client::new(server.address, LOCAL_ADDRESS, None)?;
            waiting.push(start_request(client));
        }
        let killed = Instant::now();
        Server::signal(worker, Signal::KILL);
        waiting.push(start_request(Client::new(server.address, LOCAL_ADDRESS, None)?));
        let mut times = Vec::new();
        for client in waiting {
            match client.and_then(finish_request) {
                Ok(()) => times.push(killed.elapsed()),
                Err(error) => {
                    unserved += 1;
                    println!("- {:?}: {}", error.failure, error.note);
                }
            }
        }
        first.extend(times.first());
        last.extend(times.last());
        await_condition("replacement of the worker", || Ok(server.family().len() == 2))?;
    }
    report::head(&[
        "kills",
        "clients without a response, of all",
        "first response after ms, median / max",
        "last response after ms, median / max",
    ]);
    let figures =
        |times: &mut Vec<Duration>| format!("{} / {}", quantile(times, 0.5), quantile(times, 1.0));
    report::row(&[
        options.kills.to_string(),
        format!("{unserved} of {}", options.kills * (WAITING_CLIENTS + 1)),
        figures(&mut first),
        figures(&mut last),
    ]);
    if unserved > 0 {
        return Err(Error::other(format!("{unserved} got no response")));
    }
    server.stop()
}

fn start_request(mut client: Client) -> Result<Client, RequestError> {
    client.connect()?;
    client.send(&request("Connection: close\r\n", 0))?;
    Ok(client)
}

fn finish_request(mut client: Client) -> Result<(), RequestError> {
    client.receive(F20, Pace::AT_ONCE)?;
    client.receive_eof()
}
