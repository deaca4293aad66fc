//! Defects of EL2 that schedules must detect.

use std::cell::Cell;

use crate::locks::Rank;

/// A defect of the test code that calls the driver and the ownership map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    None,
    /// Locks of this rank are not taken.
    LeftOut(Rank),
    /// A trap takes its SMMU before ownership.
    SmmuFirst,
    /// The same without the check of the lock order: only a deadlock reveals it.
    SmmuFirstUnchecked,
    /// SMMUs are invalidated before the table changes.
    InvalidateFirst,
    /// The second SMMU is not invalidated.
    OneSmmu,
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// The defect of this run.
pub(crate) fn fault() -> Fault {
    FAULT.get()
}

/// Sets the defect of later runs on this thread.
pub(crate) fn set_fault(fault: Fault) {
    FAULT.set(fault);
}
