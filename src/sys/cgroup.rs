//! Limits of the control group of this process, version 2 (cgroups(7)).

use std::{fs, path::Path};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The lowest limits of the group of this process and of those around it. `None` means unlimited or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Memory in bytes, of all processes.
    pub memory_bytes: Option<u64>,
    /// Number of processes and threads.
    pub tasks: Option<u64>,
    /// CPU time, in thousandths of a CPU.
    pub cpu_millis: Option<u64>,
}

impl CgroupLimits {
    /// Reads the limits of this process.
    pub fn read() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        own.map_or_else(Self::default, |own| {
            let own = Path::new(ROOT).join(own);
            let around = own.ancestors().take_while(|group| group.starts_with(ROOT));
            around.map(Self::of).fold(Self::default(), Self::lowest)
        })
    }

    fn of(group: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(group.join(name)).unwrap_or_default();
        Self {
            memory_bytes: read("memory.max").trim().parse().ok(),
            tasks: read("pids.max").trim().parse().ok(),
            cpu_millis: cpu_millis(&read("cpu.max")),
        }
    }

    fn lowest(self, other: Self) -> Self {
        let lowest = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            memory_bytes: lowest(self.memory_bytes, other.memory_bytes),
            tasks: lowest(self.tasks, other.tasks),
            cpu_millis: lowest(self.cpu_millis, other.cpu_millis),
        }
    }
}

/// Parses `cpu.max`: the microseconds that may be used in each period, and the length of a period.
fn cpu_millis(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.saturating_mul(1000).checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_share_of_its_period() {
        assert_eq!(cpu_millis("150000 100000\n"), Some(1500));
        assert_eq!(cpu_millis("max 100000\n"), None);
        assert_eq!((cpu_millis(""), cpu_millis("1 0"), cpu_millis("1")), (None, None, None));
    }

    #[test]
    fn the_lowest_limit_counts() {
        let group = |memory_bytes, tasks| CgroupLimits { memory_bytes, tasks, cpu_millis: None };
        let lowest = group(Some(5), None).lowest(group(Some(3), Some(9)));
        assert_eq!(lowest, group(Some(3), Some(9)));
        assert_eq!(lowest.lowest(CgroupLimits::default()), lowest);
    }

    #[test]
    fn files_of_a_group_are_read() {
        let group = std::env::temp_dir().join(format!("fibsrv-cgroup-{}", std::process::id()));
        fs::create_dir_all(&group).unwrap();
        for (name, text) in
            [("memory.max", "536870912\n"), ("pids.max", "max\n"), ("cpu.max", "50000 100000\n")]
        {
            fs::write(group.join(name), text).unwrap();
        }
        let found = CgroupLimits::of(&group);
        fs::remove_dir_all(&group).unwrap();
        let expected =
            CgroupLimits { memory_bytes: Some(512 << 20), tasks: None, cpu_millis: Some(500) };
        assert_eq!(found, expected);
        assert_eq!(CgroupLimits::of(Path::new("/nowhere")), CgroupLimits::default());
    }
}
