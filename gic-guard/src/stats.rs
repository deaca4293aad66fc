//! Counters since take-over.

/// Counters. All of them wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Accesses of the host to the control frames of ITSs.
    pub its_exits: u64,
    /// Accesses of the host to the RD and VLPI frames of redistributors.
    pub rd_exits: u64,
    /// Accesses that no policy row allows; they are RAZ/WI.
    pub denied_accesses: u64,
    /// Commands of the host that were consumed.
    pub host_commands: u64,
    /// Commands of the host that did nothing, because they were in error or of GICv4.
    pub ignored_commands: u64,
    /// Commands of the host that did nothing because of a limit, or because EL2 has no memory.
    pub limited_commands: u64,
    /// Commands given to hardware.
    pub commands: u64,
    /// Commands at which hardware stalled, replaced by SYNC.
    pub stalls: u64,
    /// Queues and tables of the host that were not host-owned normal memory.
    pub claims_refused: u64,
    /// Traps that ended because their budget was used up.
    pub budget_exits: u64,
}

/// Adds one; wraps on overflow.
pub(crate) fn bump(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
