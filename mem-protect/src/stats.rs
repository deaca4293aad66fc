//! Counters of the transitions.

/// Counters since boot, for the console and the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of pages revoked from the host.
    pub revoked: u64,
    /// Number of pages granted to the host.
    pub granted: u64,
    /// Number of transitions that failed after their checks and were rolled back.
    pub rolled_back: u64,
    /// Number of pages of the host that a rollback could not map again for the host's CPUs; a fault of the host maps
    /// them.
    pub unmapped: u64,
}
