//! Where a trap takes the locks of what all CPUs share, in their order: ownership, then one SMMU (docs/locking.md).
//!
//! What needs them gets `&mut` handed down. The invalidation of a transition takes the lock of one SMMU after the other from under
//! ownership (`iommu::invalidate`), and a load of a register that needs no memory of the host takes its SMMU's alone.

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
    exit::broken(format_args!("the host runs before its stage 2 exists"))
}
