//! What is wrong with EL2 in a run: nothing, or one thing that schedules have to bring to light.

use std::cell::Cell;

use crate::locks::Rank;

/// A defect of the harness around the driver and the ownership map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    None,
    /// Locks of this rank are not taken.
    LeftOut(Rank),
    /// A trap takes its SMMU before ownership.
    SmmuFirst,
    /// The same, where nobody looks at the order: the CPUs have to meet.
    SmmuFirstUnnoticed,
    /// SMMUs forget a page before the table does.
    InvalidateFirst,
    /// A revocation returns before the second SMMU was asked.
    OneSmmu,
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// The defect of this run.
pub(crate) fn fault() -> Fault {
    FAULT.get()
}

/// From now on `fault` is the defect of runs on this thread.
pub(crate) fn set_fault(fault: Fault) {
    FAULT.set(fault);
}
