//! Limits of the control group of this process: those of version 2, and the memory limit of version 1 (cgroups(7)).

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
        let root = Path::new(ROOT);
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let unified = own.map_or_else(Self::default, |own| {
            let own = root.join(own);
            let around = own.ancestors().take_while(|group| group.starts_with(root));
            around.map(Self::of).fold(Self::default(), Self::lowest)
        });
        unified.lowest(Self { memory_bytes: legacy_memory_bytes(&groups, root), ..Self::default() })
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

/// Returns the memory limit of version 1, which has a hierarchy for each controller. In a container the path of the
/// group is that of the host, but the group itself is mounted at the root of the hierarchy.
fn legacy_memory_bytes(groups: &str, root: &Path) -> Option<u64> {
    let own = root.join("memory").join(legacy_memory_path(groups)?);
    let around = own.ancestors().take_while(|group| group.starts_with(root));
    let limit = |group: &Path| {
        let text = fs::read_to_string(group.join("memory.limit_in_bytes")).ok()?;
        text.trim().parse().ok()
    };
    around.filter_map(limit).min()
}

/// Returns the path of the group in the hierarchy of the memory controller, which may have other controllers too.
fn legacy_memory_path(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(":/")?;
        controllers.split(',').any(|controller| controller == "memory").then_some(path)
    })
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
    fn the_memory_limit_of_version_1_is_that_of_the_group_or_of_the_mount() {
        let root = std::env::temp_dir().join(format!("fibsrv-cgroup-v1-{}", std::process::id()));
        fs::create_dir_all(root.join("memory/docker/x")).unwrap();
        let read = || legacy_memory_bytes("5:cpu:/docker/x\n4:memory:/docker/x\n0::/\n", &root);
        let unlimited = read();
        fs::write(root.join("memory/memory.limit_in_bytes"), "536870912\n").unwrap();
        let mounted = read();
        fs::write(root.join("memory/docker/x/memory.limit_in_bytes"), "1048576\n").unwrap();
        let own = read();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((unlimited, mounted, own), (None, Some(512 << 20), Some(1 << 20)));
        assert_eq!(legacy_memory_bytes("0::/\n", &root), None);
    }

    #[test]
    fn the_memory_controller_may_share_a_hierarchy() {
        for controllers in ["memory", "memory,hugetlb", "hugetlb,memory"] {
            let groups = format!("5:cpu,cpuacct:/a\n9:{controllers}:/x/y:/z\n0::/b\n");
            assert_eq!(legacy_memory_path(&groups), Some("x/y:/z"), "{controllers}");
        }
        for others in ["", "0::/\n", "9:memory2,cpu:/a\n", "1:name=memory:/a\n"] {
            assert_eq!(legacy_memory_path(others), None, "{others}");
        }
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
