//! How many connections the limit of open files allows.
//!
//! A server that learns of the limit from a failing `accept` cannot open the files of a scrape any more
//! either. So descriptors are counted ahead, and accepting stops before there is none left.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: the standard streams, the logger's two, those of the metrics, of
/// the poll, of signals and of whoever oversees the process, the access log's two while it is opened anew, and
/// the files that a scrape opens, with some to spare.
const RESERVED: usize = 18;

/// The descriptors that connections may use.
#[derive(Clone, Copy, Debug)]
pub struct FdBudget {
    wanted: usize,
    files: Option<u64>,
}

impl FdBudget {
    /// A budget for `wanted` connections or fewer. Raises the soft limit of open files to the hard one first.
    pub fn new(wanted: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!("cannot raise the open file limit: {error}");
        }
        Self { wanted, files: getrlimit(Resource::Nofile).current }
    }

    /// The most connections beside so many other descriptors, as they come and go with the processes that
    /// share a port. At least one, whatever the limit: then `accept` has to find out.
    pub fn connections(self, others: usize) -> usize {
        let files = self.files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        self.wanted.min(files.saturating_sub(RESERVED).saturating_sub(others)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affordable(wanted: usize, others: usize, files: Option<u64>) -> usize {
        FdBudget { wanted, files }.connections(others)
    }

    #[test]
    fn the_smaller_of_what_is_wanted_and_what_is_left() {
        assert_eq!(affordable(100, 1, Some(64)), 64 - RESERVED - 1);
        assert_eq!(affordable(10, 1, Some(64)), 10);
        assert_eq!(affordable(100, 1, None), 100);
        assert_eq!(affordable(100, 1, Some(3)), 1);
    }
}
