//! The functions in which a trap takes the locks of shared state, in their order: ownership, then one SMMU or the guard of the interrupt controller.
//! The leaf locks are in `pool.rs`, `console.rs`, `psci.rs` (CPU states), `iommu/mod.rs` (totals) and `ghost.rs`. See docs/locking.md.
//!
//! Callees get `&mut`. Three other places lock every SMMU, one after the other: the invalidation of a transition, under
//! ownership (`iommu::Smmus`); a CPU that resumes, with no other lock; and the end of a run.

use crate::gic::guard::{self, HostGic};
use crate::iommu::{self, HostSmmu, Register};
use crate::memory::HostPages;
use crate::ownership::{self, HostOwnership};
use crate::{console, exit};
use spin::mutex::TicketMutexGuard;

/// Calls `work` with the ownership lock held.
#[inline]
pub fn with_ownership<R>(work: impl FnOnce(&mut HostOwnership) -> R) -> R {
    work(&mut ownership())
}

/// Calls `work` with the SMMU of `register`, locked, and the pages that it may claim. Prints new faults afterwards,
/// without a lock.
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

/// Calls `work` with only the SMMU of `register` locked. This does not violate the order, since `work` cannot take
/// ownership with its arguments.
#[inline]
pub fn with_smmu_alone<R>(register: Register, work: impl FnOnce(&mut HostSmmu) -> R) -> R {
    work(&mut register.lock())
}

/// Calls `work` with the guard of the interrupt controller, locked, and the pages that it may claim.
#[cold]
pub fn with_gic<R>(work: impl FnOnce(&mut HostPages, &mut HostGic) -> R) -> R {
    let mut ownership = ownership();
    let answer = work(ownership.memory_mut(), &mut guard::lock());
    drop(ownership);
    guard::report();
    answer
}

/// Calls `work` with only the guard of the interrupt controller locked.
#[cold]
pub fn with_gic_alone<R>(work: impl FnOnce(&mut HostGic) -> R) -> R {
    work(&mut guard::lock())
}

/// Out of line: among its callers only transitions are frequent, and they take much longer.
#[inline(never)]
fn ownership() -> TicketMutexGuard<'static, HostOwnership> {
    let Some(ownership) = ownership::lock() else { before_init() };
    ownership
}

/// Unreachable: the host starts after `ownership::init`. Without the map EL2 could not isolate it, so the run ends.
#[cold]
#[inline(never)]
fn before_init() -> ! {
    exit::fatal(format_args!("the host runs before its stage 2 exists"))
}
