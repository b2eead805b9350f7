//! The compute thread: computes numbers that would hold up the event loop, and codes them with gzip.
//!
//! One per worker, started with the first job. It computes the jobs it is given in their order and wakes the loop
//! after each. Which job is next, and how many there may be, is decided in [`crate::app`].

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use log::warn;
use mio::Waker;

use crate::{
    app::{Completed, Job},
    fibonacci::{Calculator, Table},
    sys::{self, clock::Clock},
};

/// A number up to this leaves its working memory to the next one; it is about 1 MiB.
const RETAINED_MAX_N: u64 = 500_000;
/// Time without a job after which the working memory of larger numbers is returned to the system.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// Niceness of the compute thread: it gives way to the event loop where both want the same CPU.
const NICENESS: i32 = 10;

/// The event loop's end of the compute thread.
///
/// Dropping it ends the thread after the job that it is computing; the thread is not joined.
#[derive(Debug)]
pub struct Compute {
    waker: Arc<Waker>,
    /// The numbers that computations start from.
    table: Table,
    /// None until the first job.
    thread: Option<Thread>,
}

/// The channels to and from a running thread.
#[derive(Debug)]
struct Thread {
    jobs: Sender<Job>,
    completed: Receiver<Completed>,
}

impl Compute {
    /// Returns a compute thread that has not been started. `waker` wakes the event loop.
    pub fn new(waker: Waker, table: Table) -> Self {
        Self { waker: Arc::new(waker), table, thread: None }
    }

    /// Hands a job to the thread. An error means that there is no thread, and that the job will not be done.
    pub fn submit(&mut self, job: Job) -> io::Result<()> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => Thread::start(Arc::clone(&self.waker), self.table.clone())?,
        };
        let sent = thread.jobs.send(job);
        self.thread = sent.is_ok().then_some(thread);
        sent.map_err(|_| io::Error::other("the compute thread has ended"))
    }

    /// Takes the jobs completed since the last call.
    pub fn take_completed(&self) -> Vec<Completed> {
        self.thread.as_ref().map_or_else(Vec::new, |thread| thread.completed.try_iter().collect())
    }
}

impl Thread {
    fn start(waker: Arc<Waker>, table: Table) -> io::Result<Self> {
        let (jobs, received_jobs) = mpsc::channel();
        let (sent_completed, completed) = mpsc::channel();
        thread::Builder::new()
            .name("compute".to_owned())
            .spawn(move || run(&table, &received_jobs, &sent_completed, &waker))?;
        Ok(Self { jobs, completed })
    }
}

/// The compute thread. It ends when the other end of either channel has been dropped.
fn run(table: &Table, jobs: &Receiver<Job>, completed: &Sender<Completed>, waker: &Waker) {
    lower_priority();
    let (mut calculator, mut clock) = (Calculator::new(table.clone()), Clock::new());
    let mut largest_n = 0;
    loop {
        let timeout = if largest_n > RETAINED_MAX_N { RELEASE_AFTER } else { Duration::MAX };
        let job = match jobs.recv_timeout(timeout) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                largest_n = 0;
                calculator = Calculator::new(table.clone());
                sys::release_free_memory();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        largest_n = largest_n.max(job.key().n);
        clock.tick();
        let mut result = job.run(&mut calculator);
        result.duration_ns = clock.since_tick_ns();
        if completed.send(result).is_err() {
            return;
        }
        if let Err(error) = waker.wake() {
            warn!("cannot wake the event loop: {error}");
        }
    }
}

/// Lowers the priority of this thread. If that fails, it computes at normal priority.
fn lower_priority() {
    let this = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this), NICENESS) {
        warn!("cannot lower the priority of the compute thread: {error}");
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A compute thread, and the poll that it wakes.
    fn compute() -> (Poll, Compute) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        (poll, Compute::new(waker, Table::default()))
    }

    #[test]
    fn jobs_are_computed_in_order_and_each_wakes_the_loop() {
        let (mut poll, mut compute) = compute();
        assert!(compute.take_completed().is_empty());
        let (mut events, mut completed) = (Events::with_capacity(8), Vec::new());
        for n in [100_000, 20] {
            compute.submit(Job::Compute { n }).unwrap();
        }
        while completed.len() < 2 {
            poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "the thread did not wake the loop");
            completed.extend(compute.take_completed());
        }
        assert_eq!([completed[0].key.n, completed[1].key.n], [100_000, 20]);
        assert_eq!((completed[0].content.len(), &*completed[1].content), (20_899, &b"6765"[..]));
        assert!(completed[0].duration_ns > 0 && compute.take_completed().is_empty());
    }

    #[test]
    fn the_thread_ends_with_the_loop() {
        let (_poll, mut compute) = compute();
        compute.submit(Job::Compute { n: 20 }).unwrap();
        let Thread { jobs, completed } = compute.thread.take().unwrap();
        assert_eq!(completed.recv_timeout(PATIENCE).unwrap().key.n, 20);
        assert_eq!(
            completed.try_recv().unwrap_err(),
            mpsc::TryRecvError::Empty,
            "it waits for more"
        );
        drop(jobs);
        // The thread had the only sender: the receiver is disconnected once the thread has returned.
        assert_eq!(completed.recv_timeout(PATIENCE).unwrap_err(), RecvTimeoutError::Disconnected);
    }
}
