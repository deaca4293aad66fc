//! The ownership of this machine's pages and its lock: the first of the lock order, before any SMMU (docs/locking.md).
//!
//! Only the trap handler takes the lock (`trap/locks.rs`), and the CPU that ends a run after a bug, which never
//! releases it.

use crate::arch::{self, PAGE, tlb};
use crate::console;
use crate::iommu::stage2::DmaTable;
use crate::memory::el2::El2Table;
use crate::memory::host_s2::HostTable;
use crate::stopping;
use io_pgtable::{Ipa, Pa};
use mem_protect::{FaultAnswer, Owner, Ownership};
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};

/// The ownership of all pages, with the three tables that must match it.
pub type HostOwnership = Ownership<'static, HostTable, DmaTable, El2Table>;

/// Maximum number of pages of one hypercall, to bound the time with interrupts masked.
pub const MAX_PAGES: u64 = 512;

static OWNERSHIP: Once<TicketMutex<HostOwnership>> = Once::new();
/// The descriptor in the root of the host's stage 2 that covers the console's UART, if the host has that UART.
static CONSOLE: Once<Pa> = Once::new();
/// Maximum wait for the lock after a bug of EL2: longer than a trap takes, unless an SMMU times out.
const WAIT_MS: u64 = 500;

/// Publishes the ownership; called once, before the host runs.
pub fn init(ownership: HostOwnership) {
    let descriptor = console::base().and_then(|base| ownership.cpu().root_descriptor(Ipa(base)));
    if let Some(descriptor) = descriptor {
        CONSOLE.call_once(|| descriptor);
    }
    OWNERSHIP.call_once(|| TicketMutex::new(ownership));
}

/// Takes the lock; `None` only before [`init`]. If the run ends after a bug of EL2, this CPU parks instead: every
/// change of a table of the host needs this lock.
#[inline]
pub fn lock() -> Option<TicketMutexGuard<'static, HostOwnership>> {
    let lock = OWNERSHIP.get()?;
    let Some(guard) = stopping::ending().lock(lock) else { stopping::park() };
    Some(guard)
}

/// Whether the host owns the page of `ipa`.
pub fn is_hosts(ownership: &HostOwnership, ipa: Ipa) -> bool {
    ownership.map().owner(ipa.0 / PAGE) == Owner::Host
}

/// The state of a page at which the host's access had a stage-2 fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultedPage {
    /// Mapped: another CPU was changing the table, and the access can be retried.
    Mapped,
    /// Not memory with an owner.
    NoMemory,
    /// Memory that is not mapped for the host.
    Memory,
}

/// The state of the page at `ipa`.
pub fn faulted_page(ownership: &mut HostOwnership, ipa: Ipa) -> FaultedPage {
    match ownership.map().owner(ipa.0 / PAGE) {
        Owner::Host if ownership.host_fault(ipa.0 / PAGE) == FaultAnswer::Retry => FaultedPage::Mapped,
        Owner::Device if ownership.cpu().is_mapped(ipa) => FaultedPage::Mapped,
        Owner::Device => FaultedPage::NoMemory,
        Owner::Host | Owner::Hyp | Owner::Guest(_) => FaultedPage::Memory,
    }
}

/// Unmaps a shared console UART from the host after a bug of EL2: when it returns no CPU of the host writes to it.
/// Every wait is bounded, so that a panic can call it in any state.
///
/// A CPU that still holds the lock afterwards is this one, waits for a lock that this CPU never releases, or waits for
/// an SMMU; the last one checks whether the run ends before it changes the table again (`memory/host_s2.rs`).
pub fn take_console() {
    if let Some(lock) = OWNERSHIP.get() {
        let until = arch::deadline_ms(WAIT_MS);
        core::mem::forget(stopping::ending().take(lock, || arch::counter() < until));
    }
    unmap_console();
}

/// Unmaps a shared console UART from the host, with all other addresses of the same root descriptor. The caller
/// ensures that no CPU changes the host's stage 2.
pub fn unmap_console() {
    if let Some(descriptor) = CONSOLE.get() {
        tlb::clear_root_descriptor(*descriptor);
    }
}
