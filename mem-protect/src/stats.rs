//! Counters of the transitions.

/// Counters since boot, for the console and the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pages taken from the host.
    pub revoked: u64,
    /// Pages given to the host.
    pub granted: u64,
    /// Transitions that failed after their checks and were rolled back.
    pub rolled_back: u64,
    /// Pages of the host that a rollback could not map again for its CPUs at once; a fault of the host repairs them.
    pub unmapped: u64,
}
