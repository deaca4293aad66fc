//! EL2 compares both stage 2 tables and the shadow table of every SMMU with the ownership map.
//!
//! This is done once when the host ends the run, in every build, so that the last lines of a run contain the result,
//! and by the ghost build after every trap. In addition to the map it needs the registers that boot gave to the
//! host, which are stored here.

use crate::gic::guard;
use crate::iommu;
use crate::ownership::HostOwnership;
use arrayvec::ArrayVec;
use gic_guard::GicFinding;
use mem_protect::{Devices, Finding, Lost, PageRange};
use spin::Once;

/// Maximum register ranges of the host.
const RANGES: usize = hyp::boot_info::policy::MMIO_MAX + hyp::boot_info::policy::CODE_MAX;

static GIVEN: Once<Given> = Once::new();

/// Register ranges mapped for the host's CPUs and for its devices.
struct Given {
    cpu: ArrayVec<PageRange, RANGES>,
    dma: ArrayVec<PageRange, RANGES>,
}

/// Stores the register ranges mapped for the host's CPUs and devices, at most [`RANGES`] of each; called once, before
/// the host runs.
pub fn init(cpu: impl Iterator<Item = PageRange>, dma: impl Iterator<Item = PageRange>) {
    GIVEN.call_once(|| Given { cpu: cpu.take(RANGES).collect(), dma: dma.take(RANGES).collect() });
}

/// Compares all tables; pages that the host lost are only counted, since no one gained access.
///
/// # Errors
/// The first finding.
pub fn all(ownership: &HostOwnership) -> Result<Lost, Finding> {
    let lost = tables(ownership)?;
    smmus(ownership)?;
    Ok(lost)
}

/// Compares both stage 2 tables with the map, page by page, and counts the pages that the host lost.
///
/// # Errors
/// The first other mismatch.
pub fn tables(ownership: &HostOwnership) -> Result<Lost, Finding> {
    let Some(given) = GIVEN.get() else { return Ok(Lost::default()) };
    // Without isolation there is no IOMMU table to compare.
    if cfg!(feature = "no-isolation") {
        return Ok(Lost::default());
    }
    ownership.audit_access(Devices { cpu: &given.cpu, dma: &given.dma })
}

/// Compares every SMMU's shadow with the map.
///
/// # Errors
/// The first finding.
pub fn smmus(ownership: &HostOwnership) -> Result<(), Finding> {
    iommu::audit(ownership.memory())
}

/// Checks that every table of the interrupt controller is in EL2's memory.
///
/// # Errors
/// The first finding.
pub fn gic(ownership: &HostOwnership) -> Result<(), GicFinding> {
    guard::audit(ownership.map())
}
