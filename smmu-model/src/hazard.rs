//! Software errors with architecturally undefined results: a driver with one is wrong even if this model continues.

/// One misuse of the programming interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// A write to a register that is read-only while an enable is set; it was ignored [6.2].
    Guarded(u32),
    /// An unaligned access, or one of a size the register does not have [6.2].
    BadAccess(u32),
    /// A CR0 field was changed while its last change was not acknowledged [6.3.9].
    UnacknowledgedCr0,
    /// IRQ_CTRL was changed while its last change was not acknowledged.
    UnacknowledgedIrqCtrl,
    /// GBPA was written during an update, or without Update [6.3.14.1].
    Gbpa,
    /// CMDQ_PROD and CMDQ_CONS are inconsistent, or PROD moved backwards [3.5.1, 3.21.2].
    CmdqIndex,
    /// EVENTQ_CONS or PRIQ_CONS is inconsistent with PROD.
    OutputIndex,
    /// GERRORN acknowledged an error that is not active [6.3.20].
    Gerrorn,
    /// Two valid mappings of one address with different sizes, without break-before-make, on an SMMU that needs it.
    BreakBeforeMake {
        /// Physical address of the descriptor.
        descriptor: u64,
    },
    /// A command stopped the queue.
    CommandError {
        /// CERROR_*.
        code: u32,
        /// The command.
        cmd: [u64; 2],
    },
    /// A command in a full location was changed after it had been submitted [3.21.2].
    CommandChanged,
}
