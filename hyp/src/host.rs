//! The host: entry, end, and the features and counters that EL2 reports to it.

use crate::arch::setup::{self, HostStage2Regs};
use crate::arch::{self, tlb};
use crate::exit::{self, Audit, Reason};
use crate::gic::guard;
use crate::ownership::{self, HostOwnership};
use crate::{audit, console, devices, iommu, log, pool, psci};
use core::fmt;
use hyp::hvc::{Features, Stat};
use mem_protect::Lost;
use spin::Once;

static STAGE2: Once<HostStage2Regs> = Once::new();
/// Free bytes of the pool when the host started.
static POOL_AT_START: Once<u64> = Once::new();

/// Stores the values that every CPU loads for the host's stage 2; called once, before the host runs.
pub fn init(stage2: HostStage2Regs) {
    STAGE2.call_once(|| stage2);
    POOL_AT_START.call_once(|| pool::level().free);
}

/// Initialises this CPU and starts or resumes the host on it.
pub fn enter(cpu: usize, entry: u64, context: u64) -> ! {
    prepare(cpu);
    arch::start_host(cpu, context, entry, psci::ENTRY_PSTATE)
}

/// Initialises this CPU, on which firmware started EL2, and resumes the firmware as the host.
pub fn resume_firmware(cpu: usize) -> ! {
    prepare(cpu);
    arch::uefi::resume(cpu);
    exit::fatal(format_args!("no firmware started EL2"))
}

/// Prepares this CPU; the host must not run before this.
#[inline(always)]
fn prepare(cpu: usize) {
    match STAGE2.get() {
        Some(stage2) => setup::cpu(cpu, *stage2),
        None => exit::fatal(format_args!("the host starts before its stage 2 exists")),
    }
    psci::mark_on(cpu);
    console::host_runs();
}

/// PSCI SYSTEM_OFF and SYSTEM_RESET, according to `reason`: afterwards there is no DMA until EL2 starts again.
///
/// Never returns and never releases the ownership lock: no other CPU of the host can undo it.
pub fn stop(reason: Reason, ownership: &mut HostOwnership) -> ! {
    // Audit before the tables are changed below.
    let audit = audit::all(ownership);
    let gic_audit = audit::gic(ownership);
    let device_audit = devices::audit(ownership);
    ownership::unmap_console();
    console::host_stops();
    iommu::quiesce_and_hold(ownership.memory_mut());
    guard::quiesce_and_hold();
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
    let found = match &audit {
        Ok(Lost { cpu: 0, dma: 0 }) => Audit::Clean,
        Ok(_) => Audit::Lost,
        Err(_) => Audit::Failed,
    };
    if let Err(finding) = gic_audit {
        exit::fatal(format_args!("audit at the end: {finding}"));
    }
    if let Err(finding) = device_audit {
        exit::fatal(format_args!("audit at the end: {finding}"));
    }
    match audit {
        Ok(lost) if !ownership.explains(lost) => {
            exit::fatal(format_args!("audit at the end: the host lost more pages than failed calls explain: {lost:?}"))
        }
        Ok(lost) => log!(
            "audit {}; free in the pool: {} KiB, {} KiB at the host's start, {} KiB donated",
            Clean(lost),
            level.free / 1024,
            POOL_AT_START.get().copied().unwrap_or(0) / 1024,
            level.donated / 1024
        ),
        Err(finding) => exit::fatal(format_args!("audit at the end: {finding}")),
    }
    exit::requested(reason, found)
}

/// The text for an audit without a finding.
struct Clean(Lost);

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Lost { cpu: 0, dma: 0 } => f.write_str("clean"),
            Lost { cpu, dma } => {
                write!(f, "clean except for pages that the host lost: {cpu} for its CPUs, {dma} for its devices")
            }
        }
    }
}

/// The features of this EL2.
pub fn features() -> Features {
    let isolation = if cfg!(feature = "no-isolation") { Features::empty() } else { Features::DMA_ISOLATION };
    let devices = if devices::is_supported() { Features::GUEST_DEVICES } else { Features::empty() };
    Features::HYP_PAGES | Features::GUEST_PAGES | Features::IOMMU_STATS | Features::IOMMU_TRACE | isolation | devices
}

/// One counter, summed over all SMMUs.
pub fn stat(stat: Stat) -> u64 {
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
