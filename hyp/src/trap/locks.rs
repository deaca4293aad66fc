//! Where a trap takes the locks of what all CPUs share, in their order: ownership, then one SMMU (docs/locking.md).
//!
//! What needs them gets `&mut` handed down. Where an SMMU is locked elsewhere, all of them are, one after the other: by the
//! invalidation of a transition, under ownership (`iommu::Smmus`), by a CPU that wakes, with no other lock, and at the end.

use crate::iommu::{self, HostSmmu, Register};
use crate::memory::HostPages;
use crate::ownership::{self, HostOwnership};
use crate::{console, exit};
use spin::mutex::TicketMutexGuard;

/// Runs `work` with the ownership of all pages locked.
#[inline]
pub fn with_ownership<R>(work: impl FnOnce(&mut HostOwnership) -> R) -> R {
    work(&mut ownership())
}

/// Runs `work` with the SMMU of `register` locked, and the pages that it may claim. Afterwards, and without a lock, the console gets the
/// faults that were found.
#[inline]
pub fn with_smmu<R>(register: Register, work: impl FnOnce(&mut HostPages, &mut HostSmmu) -> R) -> R {
    let Some(mut ownership) = ownership::lock() else { before_init() };
    let mut smmu = register.lock();
    let answer = work(ownership.memory_mut(), &mut smmu);
    let faulted = smmu.has_fault();
    drop(smmu);
    drop(ownership);
    if faulted || console::waits() {
        iommu::report(register);
    }
    answer
}

/// Runs `work` with the SMMU of `register` locked alone: a part of the order, since `work` gets nothing with which it could take
/// ownership.
#[inline]
pub fn with_smmu_alone<R>(register: Register, work: impl FnOnce(&mut HostSmmu) -> R) -> R {
    work(&mut register.lock())
}

/// Out of line: of what takes ownership alone, only transitions are frequent, and those are long.
#[inline(never)]
fn ownership() -> TicketMutexGuard<'static, HostOwnership> {
    let Some(ownership) = ownership::lock() else { before_init() };
    ownership
}

/// The host cannot run before the ownership of its pages is published; should it all the same, nothing confines it.
#[cold]
#[inline(never)]
fn before_init() -> ! {
    exit::fatal(format_args!("the host runs before its stage 2 exists"))
}
