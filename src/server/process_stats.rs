//! What the operating system counts for this process: the standard `process_*` metrics, from `/proc`.
//!
//! Reading and parsing only; [`crate::metrics::exposition`] gives the numbers their names.

use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use crate::{logging::throttle::LogThrottle, metrics::Process};

const NS_PER_S: u64 = 1_000_000_000;
/// Minimum time between two reads.
const PAUSE_NS: u64 = NS_PER_S;

/// Reads the figures of this process. Those that never change are read once.
///
/// The start time is one of them for a second reason: the kernel reports it relative to a boot time that moves when
/// the clock is set, and a moving start time looks like a restart to a scraper.
#[derive(Debug)]
pub struct ProcessStats {
    start_time_ns: u64,
    page_bytes: u64,
    tick_ns: u64,
    due_ns: u64,
    throttle: LogThrottle,
}

impl ProcessStats {
    /// Reads the constants.
    pub fn new() -> io::Result<Self> {
        let tick_ns = NS_PER_S / rustix::param::clock_ticks_per_second().max(1);
        let boot_time_s = boot_time_s(&read("/proc/stat")?)?;
        let since_boot_ticks = Stat::read()?.start_time_ticks;
        Ok(Self {
            start_time_ns: boot_time_s
                .saturating_mul(NS_PER_S)
                .saturating_add(since_boot_ticks.saturating_mul(tick_ns)),
            page_bytes: rustix::param::page_size() as u64,
            tick_ns,
            due_ns: 0,
            throttle: LogThrottle::default(),
        })
    }

    /// Reads the current figures unless that was done less than a second ago. A failure is logged. Call it at each
    /// wake-up of the loop: a wake-up for this alone would cost more than the figures are worth.
    pub fn read_when_due(&mut self, now_ns: u64) -> Option<Process> {
        if now_ns < self.due_ns {
            return None;
        }
        self.due_ns = now_ns.saturating_add(PAUSE_NS);
        match self.read() {
            Ok(process) => Some(process),
            Err(error) => {
                self.throttle.warn(now_ns, || format!("cannot read process metrics: {error}"));
                None
            }
        }
    }

    /// Reads the current figures, which takes about 10 µs.
    pub fn read(&self) -> io::Result<Process> {
        let stat = Stat::read()?;
        Ok(Process {
            cpu_time_ns: stat.cpu_time_ticks.saturating_mul(self.tick_ns),
            open_fds: open_fds()?,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            virtual_memory_bytes: stat.virtual_memory_bytes,
            resident_memory_bytes: stat.resident_memory_pages.saturating_mul(self.page_bytes),
            start_time_ns: self.start_time_ns,
        })
    }
}

/// The fields of `/proc/self/stat` that are used; see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_time_ticks: u64,
    start_time_ticks: u64,
    virtual_memory_bytes: u64,
    resident_memory_pages: u64,
}

impl Stat {
    fn read() -> io::Result<Self> {
        Self::parse(&read("/proc/self/stat")?).ok_or_else(|| malformed("/proc/self/stat"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may itself contain both kinds.
        let (_, after_name) = text.rsplit_once(')')?;
        let field =
            |number: usize| after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok();
        let (user, system): (u64, u64) = (field(14)?, field(15)?);
        Some(Self {
            cpu_time_ticks: user.saturating_add(system),
            start_time_ticks: field(22)?,
            virtual_memory_bytes: field(23)?,
            resident_memory_pages: field(24)?,
        })
    }
}

/// Reads a file. An error names it.
fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| named(path, &error))
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// The boot time in seconds since 1970, from the text of `/proc/stat`.
fn boot_time_s(text: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .ok_or_else(|| malformed("/proc/stat"))
}

/// The directory of open descriptors.
const FDS: &str = "/proc/self/fd";

/// Number of open descriptors: the length of their directory, which Linux 6.2 and later report.
fn open_fds() -> io::Result<u64> {
    let metadata = fs::metadata(FDS).map_err(|error| named(FDS, &error))?;
    match metadata.len() {
        0 => listed_fds(),
        count => Ok(count),
    }
}

/// Number of descriptors listed, without the one that the listing itself opens.
fn listed_fds() -> io::Result<u64> {
    let mut count: u64 = 0;
    for entry in fs::read_dir(FDS).map_err(|error| named(FDS, &error))? {
        entry?;
        count += 1;
    }
    Ok(count.saturating_sub(1))
}

fn malformed(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not as proc(5) describes it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, time::UNIX_EPOCH};

    #[test]
    fn the_figures_of_this_process_are_plausible() {
        let stats = ProcessStats::new().unwrap();
        let process = stats.read().unwrap();
        assert!(process.open_fds >= 3 && process.open_fds < process.max_fds);
        assert!(process.resident_memory_bytes > 100_000);
        assert!(process.resident_memory_bytes < process.virtual_memory_bytes);
        // The modification time of a file that the kernel makes now is the current time.
        let now = fs::metadata("/proc/self").unwrap().modified().unwrap();
        let now_ns = now.duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let age_ns = i128::try_from(now_ns).unwrap() - i128::from(process.start_time_ns);
        assert!((-2_000_000_000..600_000_000_000).contains(&age_ns), "{age_ns}");
        assert_eq!(stats.read().unwrap().start_time_ns, process.start_time_ns);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let stats = ProcessStats::new().unwrap();
        let before = stats.read().unwrap().cpu_time_ns;
        for _ in 0..100_000 {
            if stats.read().unwrap().cpu_time_ns > before {
                return;
            }
        }
        panic!("no CPU time was counted");
    }

    #[test]
    fn open_files_are_counted() {
        // Other tests open files meanwhile: 300 outweigh theirs.
        for count in [open_fds, listed_fds] {
            let before = count().unwrap();
            let files: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
            let during = count().unwrap();
            assert!(during > before + 200, "{before} {during}");
            drop(files);
            assert!(count().unwrap() < during - 200);
        }
    }

    #[test]
    fn figures_are_read_at_most_once_a_second() {
        let mut stats = ProcessStats::new().unwrap();
        let mut is_read_at = |now_ns| stats.read_when_due(now_ns).is_some();
        let read =
            [0, 1, PAUSE_NS - 1, PAUSE_NS, 2 * PAUSE_NS - 1, 5 * PAUSE_NS].map(&mut is_read_at);
        assert_eq!(read, [true, false, false, true, false, true]);
    }

    #[test]
    fn program_names_may_contain_parentheses() {
        let text = "42 (a) R (b) S 1 42 42 0 -1 4194560 98 0 0 0 250 50 0 0 20 0 1 0 123456 2883584 \
                    233 18446744073709551615 1 1 0";
        let expected = Stat {
            cpu_time_ticks: 300,
            start_time_ticks: 123_456,
            virtual_memory_bytes: 2_883_584,
            resident_memory_pages: 233,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        for broken in ["", "42 (a", "42 (a) S 1 2 3", "42 (a) S 1 x"] {
            assert_eq!(Stat::parse(broken), None);
        }
    }

    #[test]
    fn the_boot_time_is_parsed() {
        assert_eq!(
            boot_time_s("cpu  1 2 3\nbtime 1763929999\nprocesses 7\n").unwrap(),
            1_763_929_999
        );
        assert!(boot_time_s("cpu  1 2 3\n").is_err());
    }
}
