//! The host, as EL2 holds it: what it owns, what it calls, how it starts and how it ends.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use crate::arch::setup::{self, HostStage2Regs};
use crate::arch::{self, PAGE, tlb};
use crate::exit::{self, Audit, Reason};
use crate::memory::HostOwnership;
use crate::{audit, console, iommu, log, pool, psci};
use core::fmt;
use hyp::hvc::{Features, Services, Stat};
use io_pgtable::{Ipa, Pa};
use mem_protect::{Error, FaultAnswer, GuestId, Lost, Owner, Transition};
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};

static OWNERSHIP: Once<TicketMutex<HostOwnership>> = Once::new();
static STAGE2: Once<HostStage2Regs> = Once::new();
/// The descriptor in the root of the host's stage 2 under which the console's UART lies, if the host has that.
static CONSOLE: Once<Pa> = Once::new();
/// Attempts to take the ownership lock after a bug of EL2: longer than a change of the tables takes.
const OWNERSHIP_ATTEMPTS: u32 = 1_000_000;
/// Free bytes of the pool when the host started.
static POOL_AT_START: Once<u64> = Once::new();

/// Publishes the page bookkeeping; called once, before the host runs.
pub fn init(ownership: HostOwnership) {
    STAGE2.call_once(|| ownership.cpu().registers());
    POOL_AT_START.call_once(|| pool::level().free);
    if let Some(descriptor) = ownership.cpu().root_descriptor(Ipa(console::base())) {
        CONSOLE.call_once(|| descriptor);
    }
    OWNERSHIP.call_once(|| TicketMutex::new(ownership));
}

/// Takes the ownership lock: the first of the lock order, before any SMMU. `None` only before [`init`]. Where the run ends after a bug of
/// EL2, this CPU stands still instead: whoever changes a table of the host comes by here.
#[inline]
pub fn ownership() -> Option<TicketMutexGuard<'static, HostOwnership>> {
    let lock = OWNERSHIP.get()?;
    let Some(guard) = exit::ending().lock(lock) else { exit::park() };
    Some(guard)
}

/// Whether the host owns the page of `ipa`.
pub fn owns(ipa: Ipa) -> bool {
    ownership().is_some_and(|ownership| ownership.map().owner(ipa.0 / PAGE) == Owner::Host)
}

/// Whether the host's access to `ipa` may be tried again: it is mapped now, because another CPU was changing the table
/// around it.
pub fn is_mapped(ipa: Ipa) -> bool {
    ownership().is_some_and(|mut ownership| match ownership.map().owner(ipa.0 / PAGE) {
        Owner::Host => ownership.host_fault(ipa.0 / PAGE) == FaultAnswer::Retry,
        Owner::Device => ownership.cpu().is_mapped(ipa),
        Owner::Hyp | Owner::Guest(_) => false,
    })
}

/// Takes the console's UART from the host, where the two share it, after a bug of EL2: from here on no CPU of the host writes to it. Waits
/// for nothing for ever, so that a panic can call it in any state.
///
/// Whoever still holds the lock afterwards is this CPU, or waits for a lock that this CPU never gives back, or for an SMMU; the last one looks
/// whether the run ends before it changes the table again (`memory/host_s2.rs`).
pub fn withdraw_console() {
    if let Some(lock) = OWNERSHIP.get() {
        core::mem::forget(exit::ending().take(lock, OWNERSHIP_ATTEMPTS));
    }
    cut_console();
}

/// Cuts the host off from the console's UART, where the two share it, with all else under the same root descriptor. The caller has seen
/// to it that nobody writes the host's stage 2.
fn cut_console() {
    if let Some(descriptor) = CONSOLE.get() {
        tlb::cut_host(*descriptor);
    }
}

/// Sets this CPU up and starts or resumes the host on it.
pub fn enter(cpu: usize, entry: u64, context: u64) -> ! {
    match STAGE2.get() {
        Some(stage2) => setup::cpu(cpu, *stage2),
        None => before_init(),
    }
    psci::mark_on(cpu);
    console::host_runs();
    arch::start_host(cpu, context, entry, psci::ENTRY_PSTATE)
}

/// The host cannot run before [`init`]; should it all the same, nothing confines it.
#[cold]
#[inline(never)]
fn before_init() -> ! {
    exit::broken(format_args!("the host runs before its stage 2 exists"))
}

/// PSCI SYSTEM_OFF: no DMA after it.
pub fn system_off() -> ! {
    stop(Reason::SystemOff)
}

/// PSCI SYSTEM_RESET: no DMA after it, until EL2 starts again.
pub fn system_reset() -> ! {
    stop(Reason::SystemReset)
}

fn stop(reason: Reason) -> ! {
    // The locks are never given back, so no other CPU of the host can undo what follows.
    let mut ownership = ownership();
    // Of the tables as the host had them: they change next.
    let audit = ownership.as_deref().map(audit::all);
    cut_console();
    console::host_stops();
    let mut found = Audit::None;
    if let (Some(ownership), Some(audit)) = (&mut ownership, audit) {
        iommu::quiesce_and_hold(ownership);
        let stats = ownership.stats();
        let level = pool::level();
        log!(
            "pages revoked {} granted {} rolled back {}; pool {} of {} KiB free; stage 2 {} KiB for CPUs, {} KiB for DMA",
            stats.revoked,
            stats.granted,
            stats.rolled_back,
            level.free / 1024,
            level.total / 1024,
            ownership.cpu().table_bytes() / 1024,
            ownership.dma().table_bytes() / 1024
        );
        found = match &audit {
            Ok(Lost { cpu: 0, dma: 0 }) => Audit::Clean,
            Ok(_) => Audit::Lost,
            Err(_) => Audit::Failed,
        };
        match audit {
            Ok(lost) if !ownership.explains(lost) => {
                exit::broken(format_args!("audit at the end: no call explains that the host lost pages: {lost:?}"))
            }
            Ok(lost) => log!(
                "audit {}; free in the pool: {} KiB, {} KiB at the host's start, {} KiB donated",
                Clean(lost),
                level.free / 1024,
                POOL_AT_START.get().copied().unwrap_or(0) / 1024,
                level.donated / 1024
            ),
            Err(finding) => exit::broken(format_args!("audit at the end: {finding}")),
        }
    }
    core::mem::forget(ownership);
    exit::requested(reason, found)
}

/// An audit that found nothing which gives anybody access.
struct Clean(Lost);

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Lost { cpu: 0, dma: 0 } => f.write_str("clean"),
            Lost { cpu, dma } => {
                write!(f, "clean but for pages that the host lost: {cpu} for its CPUs, {dma} for its devices")
            }
        }
    }
}

/// The hypercalls' way to this machine.
pub struct Calls;

impl Services for Calls {
    fn max_pages(&mut self) -> u64 {
        let Some(ownership) = ownership() else { before_init() };
        ownership.max_pages()
    }

    fn transition(&mut self, transition: Transition) -> Result<Option<GuestId>, Error> {
        let Some(mut ownership) = ownership() else { before_init() };
        #[cfg(feature = "ghost")]
        return crate::watch::apply(&mut ownership, transition);
        #[cfg(not(feature = "ghost"))]
        ownership.apply(transition)
    }

    fn features(&self) -> Features {
        let isolation = if cfg!(feature = "no-isolation") { Features::empty() } else { Features::DMA_ISOLATION };
        Features::HYP_PAGES | Features::GUEST_PAGES | Features::IOMMU_STATS | Features::IOMMU_TRACE | isolation
    }

    fn iommu_stat(&mut self, stat: Stat) -> u64 {
        iommu::drain();
        let totals = iommu::totals();
        match stat {
            Stat::Exits => totals.exits,
            Stat::Faults => totals.faults,
            Stat::Commands => totals.commands,
            Stat::Syncs => totals.syncs,
            Stat::Denied => totals.denied,
            Stat::TlbiRepeats => tlb::repeated(),
        }
    }

    fn iommu_trace(&mut self) {
        iommu::drain();
        iommu::print_state();
    }
}
