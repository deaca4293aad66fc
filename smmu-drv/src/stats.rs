//! Counters of one SMMU since take-over.

/// Counters of one SMMU. All of them wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Register accesses of the host.
    pub exits: u64,
    /// Of these, stores to CMDQ_PROD.
    pub prod_writes: u64,
    /// Of these, loads of CMDQ_CONS.
    pub cons_reads: u64,
    /// Accesses that no policy row allows: RAZ/WI.
    pub denied_accesses: u64,
    /// Commands that the host queued and that were consumed.
    pub host_commands: u64,
    /// Commands of the host that were CERROR_ILL.
    pub illegal_commands: u64,
    /// Commands accepted and dropped: prefetches, StreamIDs or SubstreamIDs out of range.
    pub dropped_commands: u64,
    /// Commands queued in EL2's own queue, without CMD_SYNCs.
    pub forwarded_commands: u64,
    /// CMD_SYNCs queued in EL2's own queue.
    pub syncs: u64,
    /// CMD_SYNCs of the host completed by a store of EL2.
    pub msi_writes: u64,
    /// MSI addresses that were not host-owned normal memory.
    pub msi_denied: u64,
    /// Fault records that the hardware wrote.
    pub faults: u64,
    /// Fault records passed on to the host.
    pub host_events: u64,
    /// Fault records for the host dropped because its queue was full or disabled.
    pub host_events_lost: u64,
    /// Number of overflows of the hardware event queue.
    pub event_overflows: u64,
    /// Fault records that were not kept for the console because the log was full.
    pub faults_not_logged: u64,
    /// STEs of the host that were shadowed.
    pub ste_updates: u64,
    /// STEs of the host that the policy rejected (C_BAD_STE).
    pub ste_illegal: u64,
    /// Level-2 tables that could not be allocated: their streams abort.
    pub strtab_no_memory: u64,
    /// Queues and tables of the host that were not host-owned normal memory.
    pub claims_refused: u64,
    /// Errors of EL2's own command queue from which it recovered.
    pub cmdq_recoveries: u64,
    /// Number of times that the SMMU was programmed again after it lost its state.
    pub reprograms: u64,
    /// Stage-2 invalidations done for revocations.
    pub s2_invalidations: u64,
    /// Traps that ended because their budget was used up.
    pub budget_exits: u64,
}

impl Stats {
    /// Accesses and stream table entries of the host that EL2 refused.
    pub fn denied(&self) -> u64 {
        self.denied_accesses.wrapping_add(self.ste_illegal)
    }
}

/// Adds one; wraps on overflow.
pub(crate) fn bump(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
