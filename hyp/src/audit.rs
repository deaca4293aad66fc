//! EL2 compares its tables with the ownership map: both stage 2 tables and every SMMU's shadow against it.
//!
//! Done once when the host ends the run, in every build, so that a run's last lines say whether they agree;
//! and by the ghost build after every trap. What it needs beside the map are the registers that boot gave to the
//! host, which it keeps.

#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use crate::iommu;
use crate::ownership::HostOwnership;
use mem_protect::{Devices, Finding, Lost, PageRange};
use spin::Once;

/// Maximum register ranges of the host.
const RANGES: usize = hyp::boot_info::policy::MMIO_MAX;

static GIVEN: Once<Given> = Once::new();

/// Register ranges mapped for the host's CPUs and for its devices.
struct Given {
    cpu: Ranges,
    dma: Ranges,
}

/// Ranges in a fixed array.
struct Ranges {
    slots: [Option<PageRange>; RANGES],
}

impl Ranges {
    fn of(ranges: impl Iterator<Item = PageRange>) -> Self {
        let mut slots = [None; RANGES];
        for (slot, range) in slots.iter_mut().zip(ranges) {
            *slot = Some(range);
        }
        Self { slots }
    }

    /// All of them, at the front of `buffer`.
    fn list<'b>(&self, buffer: &'b mut [PageRange; RANGES]) -> &'b [PageRange] {
        let mut used: usize = 0;
        for (to, from) in buffer.iter_mut().zip(self.slots.iter().flatten()) {
            *to = *from;
            used = used.saturating_add(1);
        }
        buffer.get(..used).unwrap_or_default()
    }
}

/// Stores the register ranges mapped for the host's CPUs and devices; called once, before the host runs.
pub fn init(cpu: impl Iterator<Item = PageRange>, dma: impl Iterator<Item = PageRange>) {
    GIVEN.call_once(|| Given { cpu: Ranges::of(cpu), dma: Ranges::of(dma) });
}

/// Compares everything; pages that the host lost are only counted, since no one gained access.
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
    let (Some(given), Some(page)) = (GIVEN.get(), PageRange::page(0)) else { return Ok(Lost::default()) };
    let (mut cpu, mut dma) = ([page; RANGES], [page; RANGES]);
    let devices = Devices { cpu: given.cpu.list(&mut cpu), dma: given.dma.list(&mut dma) };
    // Without isolation there is no IOMMU table to compare.
    if cfg!(feature = "no-isolation") {
        return Ok(Lost::default());
    }
    ownership.audit_access(devices)
}

/// Compares every SMMU's shadow with the map.
///
/// # Errors
/// The first finding.
pub fn smmus(ownership: &HostOwnership) -> Result<(), Finding> {
    iommu::audit(ownership.memory())
}
