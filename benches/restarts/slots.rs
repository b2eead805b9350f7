//! Slots, sockets and files that many processes leave behind, one after the other, beside one that keeps running.

use crate::{
    harness::report::{self, quantile},
    options::Options,
    process::memory_of,
    rolling::Processes,
    scrapes::scrape,
};
use fibsrv::metrics::shared::SharedMemory;
use std::{
    env, fs,
    io::{self, Error},
    path::PathBuf,
    time::Instant,
};

const PROCESSES: usize = 50;
const SCRAPES: usize = 200;
/// The process that keeps running, and one other.
const SIMULTANEOUS: usize = 2;

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let count = options.restarts.unwrap_or(PROCESSES);
    let mut processes = Processes::start_all(options, 1)?;
    let address = processes.address()?;
    let start = Instant::now();
    for _ in 0..count {
        processes.start()?;
        // The process that keeps running is the oldest.
        processes.alive.swap(0, 1);
        processes.stop()?;
    }
    let took = start.elapsed();
    let slots = {
        let first = processes.alive.front().ok_or_else(|| Error::other("no process is left"))?;
        let region = memory_of(first.child.id())?;
        let region =
            SharedMemory::from_fd(region).map_err(|flaw| Error::other(flaw.to_string()))?;
        region.slots_used()
    };
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let start = Instant::now();
        scrape(address)?;
        times.push(start.elapsed());
    }
    let before = names_of(address.port())?;
    processes.finish()?;
    let left = names_of(address.port())?;
    report::head(&[
        "processes",
        "seconds",
        "slots used",
        "scrape ms, median / max",
        "names while one runs",
        "names left",
    ]);
    let median = quantile(&mut times, 0.5);
    report::row(&[
        count.to_string(),
        format!("{:.0}", took.as_secs_f64()),
        slots.to_string(),
        format!("{median} / {}", quantile(&mut times, 1.0)),
        before.len().to_string(),
        left.len().to_string(),
    ]);
    if slots > SIMULTANEOUS + 1 {
        return Err(Error::other(format!(
            "{slots} slots for {SIMULTANEOUS} simultaneous processes"
        )));
    }
    if !left.is_empty() {
        return Err(Error::other(format!("remaining names: {}", left.join(", "))));
    }
    Ok(())
}

/// Returns everything named after program and port: Unix sockets, and files in runtime directories.
fn names_of(port: u16) -> io::Result<Vec<String>> {
    let matches = |name: &str| name.contains("fibsrv") && name.contains(&port.to_string());
    let names = fs::read_to_string("/proc/net/unix")?;
    let names = names.lines().filter_map(|line| line.split_whitespace().nth(7));
    let mut found: Vec<_> = names.filter(|name| matches(name)).map(str::to_owned).collect();
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folders = ["/dev/shm", "/run", "/var/run"].map(PathBuf::from);
    for folder in folders.into_iter().chain([env::temp_dir()]).chain(runtime) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path().to_string_lossy().into_owned());
        found.extend(names.filter(|name| matches(name)));
    }
    Ok(found)
}
