//! Estimate of the memory of a server (docs/operations.md, "Sizing"), and the number of workers that fit.

/// Memory of a hostile connection, in the process and in the kernel.
const CONNECTION_BYTES: u64 = 100 * 1024;
/// Memory for each n while F(n) is computed.
const COMPUTATION_BYTES_PER_N: u64 = 5;
/// Memory of a worker beside its table, cache, computation and connections, with enough left for the supervisor.
const OVERHEAD_BYTES: u64 = 16 << 20;

/// What the memory of a server depends on, besides the number of workers.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// Largest n in the table, which all workers share.
    pub table_max_n: u32,
    /// Largest n that a worker computes.
    pub max_n: u64,
    /// Size of a worker's cache.
    pub cache_bytes: u64,
    /// Connections of a worker.
    pub connections: u64,
}

impl MemoryUse {
    /// Returns the bytes that all workers together can need.
    pub fn worst_case(self, workers: u64) -> u64 {
        let connections = self.connections.saturating_mul(CONNECTION_BYTES);
        let worker = self.worker().saturating_add(connections);
        worker.saturating_mul(workers).saturating_add(self.table())
    }

    /// Returns how many workers fit into a limit, at least one. Connections are left out: a limit that covers as many
    /// hostile ones as the default allows would leave one worker on any machine. `--check` reports them.
    pub(super) fn workers_within(self, limit: Option<u64>) -> usize {
        let Some(limit) = limit else { return usize::MAX };
        let fitting = limit.saturating_sub(self.table()) / self.worker();
        usize::try_from(fitting).unwrap_or(usize::MAX).max(1)
    }

    /// The memory of a worker without connections: its cache, a computation, and the rest.
    fn worker(self) -> u64 {
        let computation = self.max_n.saturating_mul(COMPUTATION_BYTES_PER_N);
        self.cache_bytes.saturating_add(computation).saturating_add(OVERHEAD_BYTES)
    }

    fn table(self) -> u64 {
        // F(n) has 0.209 n digits, so those of F(0) to F(n) have n²/9.6.
        u64::from(self.table_max_n).pow(2) / 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: MemoryUse = MemoryUse {
        table_max_n: 10_000,
        max_n: 10_000_000,
        cache_bytes: 64 << 20,
        connections: 1000,
    };

    #[test]
    fn the_worst_case_grows_with_workers_connections_cache_and_n() {
        assert_eq!(DEFAULTS.worst_case(2) >> 20, 461);
        assert_eq!(MemoryUse { max_n: 0, cache_bytes: 0, ..DEFAULTS }.worst_case(1) >> 20, 124);
        let most = MemoryUse {
            table_max_n: u32::MAX,
            max_n: u64::MAX,
            cache_bytes: u64::MAX,
            connections: u64::MAX,
        };
        assert_eq!(most.worst_case(u64::MAX), u64::MAX);
    }

    #[test]
    fn as_many_workers_fit_as_have_memory_for_cache_and_computation() {
        assert_eq!(DEFAULTS.workers_within(None), usize::MAX);
        assert_eq!(DEFAULTS.workers_within(Some(512 << 20)), 3);
        assert_eq!(DEFAULTS.workers_within(Some(2 << 30)), 15);
        assert_eq!(DEFAULTS.workers_within(Some(1 << 20)), 1, "one at least");
        let lean = MemoryUse { max_n: 10_000, cache_bytes: 1 << 20, ..DEFAULTS };
        assert_eq!(lean.workers_within(Some(512 << 20)), 29);
        let most = MemoryUse { max_n: u64::MAX, cache_bytes: u64::MAX, ..DEFAULTS };
        assert_eq!(most.workers_within(Some(u64::MAX)), 1);
    }
}
