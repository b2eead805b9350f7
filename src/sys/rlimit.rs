//! The number of connections that the limit of open files allows.
//!
//! A server that detects the limit only when `accept` fails can no longer open the files of a scrape either.
//! So descriptors are counted in advance, and accepting stops before the last one is used.

use std::{fs, io};

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a worker opens after the count: the poll and its duplicates, signals, the waker, the
/// access log while it is reopened, the files of a scrape, and a reserve.
const RESERVED: usize = 12;
/// Number assumed where the kernel does not list open descriptors: the standard streams, and those of logger
/// and metrics.
const OPEN_UNLISTED: usize = 8;

/// Raises the soft limit of open files to the hard one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("cannot raise the limit of open files: {error}");
    }
}

/// Returns the number of open descriptors of this process, including inherited ones.
fn open_descriptors() -> io::Result<usize> {
    // Reading the directory uses one.
    Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}

/// The descriptors that connections may use.
#[derive(Clone, Copy, Debug)]
pub struct FdBudget {
    wanted: usize,
    /// The limit of open files.
    files: Option<u64>,
    /// Descriptors that stay open for any purpose.
    open: usize,
}

impl FdBudget {
    /// Creates a budget for up to `wanted` connections, beside `reserved` ones that do not count. `counted` is the
    /// number of currently open descriptors that the caller includes in each call of [`FdBudget::connections`].
    pub fn new(wanted: usize, reserved: usize, counted: usize) -> Self {
        let open = open_descriptors().unwrap_or(OPEN_UNLISTED + counted);
        let files = getrlimit(Resource::Nofile).current;
        Self { wanted, files, open: open.saturating_sub(counted) + reserved }
    }

    /// Returns the maximum number of connections beside `others` descriptors, which change with the processes
    /// that share a port. It is at least one for any limit: then `accept` fails at the limit.
    pub fn connections(self, others: usize) -> usize {
        let files = self.files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        let free = files.saturating_sub(RESERVED).saturating_sub(self.open);
        self.wanted.min(free.saturating_sub(others)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affordable(wanted: usize, others: usize, files: Option<u64>) -> usize {
        FdBudget { wanted, files, open: 8 }.connections(others)
    }

    #[test]
    fn connections_use_the_remaining_descriptors() {
        assert_eq!(affordable(100, 1, Some(64)), 64 - RESERVED - 8 - 1);
        assert_eq!(affordable(10, 1, Some(64)), 10);
        assert_eq!(affordable(100, 1, None), 100);
        assert_eq!(affordable(100, 1, Some(3)), 1);
    }

    #[test]
    fn inherited_descriptors_are_counted() {
        let files: Vec<_> = (0..300).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let budget = FdBudget::new(1, 0, 0);
        assert!(budget.open >= files.len(), "{budget:?}");
        // Other tests open and close a few files meanwhile.
        assert!(FdBudget::new(1, 0, files.len()).open < budget.open - 200);
    }
}
