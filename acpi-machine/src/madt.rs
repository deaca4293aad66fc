//! MADT: CPUs and the interrupt controller (ACPI 6.5, 5.2.12).

use alloc::vec::Vec;

use crate::error::{Error, FIRMWARE, Note};
use crate::range::Range;
use crate::table::Table;

const FIRST: usize = 44;
const GICC: u8 = 0xb;
const GICD: u8 = 0xc;
const GIC_MSI_FRAME: u8 = 0xd;
const GICR: u8 = 0xe;
const GIC_ITS: u8 = 0xf;

/// Size of a distributor in bytes.
const GICD_SIZE: u64 = 0x1_0000;
/// Size of a GICv2m MSI frame in bytes.
const FRAME_SIZE: u64 = 0x1000;
/// Size of an ITS in bytes.
const ITS_SIZE: u64 = 0x2_0000;
/// Size in bytes of a CPU's redistributor: two frames of 64 KiB.
const GICR_V3: u64 = 0x2_0000;
/// The same with the two additional frames of GICv4.
const GICR_V4: u64 = 0x4_0000;
/// Affinity fields of an MPIDR.
const MPIDR_MASK: u64 = 0xff_00ff_ffff;
/// GICC flag: the CPU can be used.
const ENABLED: u32 = 1 << 0;
/// GICC flag: the CPU can be enabled later.
const ONLINE_CAPABLE: u32 = 1 << 3;
/// Maximum number of entries.
const ENTRIES_MAX: usize = 4096;

/// An ITS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Its {
    /// Its ID in IORT.
    pub(crate) id: u32,
    pub(crate) range: Range,
}

/// The content of the table.
#[derive(Clone, Debug)]
pub(crate) struct Madt {
    /// The MPIDRs of the CPUs that can be used.
    pub(crate) cpus: Vec<u64>,
    pub(crate) distributor: Range,
    /// Sorted; adjacent ranges are merged.
    pub(crate) redistributors: Vec<Range>,
    pub(crate) its: Vec<Its>,
    /// GICv2m MSI frames, which the host does not get.
    pub(crate) frames: Vec<Range>,
}

impl Madt {
    /// The registers of the interrupt controller.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        let its = self.its.iter().map(|its| its.range);
        let others = self.redistributors.iter().chain(&self.frames).copied();
        core::iter::once(self.distributor).chain(others).chain(its)
    }
}

/// The entries read so far.
#[derive(Default)]
struct Found {
    cpus: Vec<u64>,
    /// Base of the distributor, and the version.
    distributor: Option<(u64, u8)>,
    /// Redistributors of single CPUs.
    single: Vec<u64>,
    regions: Vec<Range>,
    its: Vec<Its>,
    frames: Vec<Range>,
}

/// Reads the table.
pub(crate) fn read(madt: &Table<'_>, notes: &mut Vec<Note>) -> Result<Madt, Error> {
    madt.expect(&[3, 4, 5, 6, 7], FIRST)?;
    let mut found = Found::default();
    let mut at = FIRST;
    for _ in 0..ENTRIES_MAX {
        if at == madt.len() {
            return found.finish(madt);
        }
        let length = usize::from(madt.u8(at.saturating_add(1))?);
        let entry = madt.part(at, length)?;
        found.add(&entry, notes)?;
        at = at.saturating_add(length);
    }
    Err(madt.bad(at, crate::table::wide(ENTRIES_MAX), "there are more entries", FIRMWARE))
}

impl Found {
    fn add(&mut self, entry: &Table<'_>, notes: &mut Vec<Note>) -> Result<(), Error> {
        match entry.u8(0)? {
            GICC => self.add_cpu(entry, notes),
            GICD => {
                let (base, version) = (entry.u64(8)?, entry.u8(20)?);
                // 0 means that software must read the version from hardware; EL2's boot code does so.
                if !matches!(version, 0 | 3 | 4) {
                    let remedy = "EL2 needs a GICv3 (QEMU: -machine gic-version=3)";
                    return Err(entry.bad(20, version.into(), "the interrupt controller is not a GICv3", remedy));
                }
                match self.distributor.replace((base, version)) {
                    Some(_) => Err(entry.bad(8, base, "this is a second distributor", FIRMWARE)),
                    None => Ok(()),
                }
            }
            GICR => {
                let range = Range { base: entry.u64(4)?, size: entry.u32(12)?.into() };
                if range.size == 0 || !range.size.is_multiple_of(GICR_V3) {
                    let problem = "the region of redistributors is empty, or not a multiple of 128 KiB";
                    return Err(entry.bad(12, range.size, problem, FIRMWARE));
                }
                self.regions.push(range);
                Ok(())
            }
            GIC_ITS => {
                let its = Its { id: entry.u32(4)?, range: Range { base: entry.u64(8)?, size: ITS_SIZE } };
                if self.its.iter().any(|other| other.id == its.id) {
                    return Err(entry.bad(4, its.id.into(), "two ITSs have this ID", FIRMWARE));
                }
                self.its.push(its);
                Ok(())
            }
            GIC_MSI_FRAME => {
                self.frames.push(Range { base: entry.u64(8)?, size: FRAME_SIZE });
                notes.push(entry.note(8, entry.u64(8)?, "GICv2m MSI frame, withheld"));
                Ok(())
            }
            kind => Err(entry.bad(0, kind.into(), "the entry has an unknown type", FIRMWARE)),
        }
    }

    fn add_cpu(&mut self, entry: &Table<'_>, notes: &mut Vec<Note>) -> Result<(), Error> {
        let (flags, gicr, mpidr) = (entry.u32(12)?, entry.u64(60)?, entry.u64(68)?);
        if mpidr & !MPIDR_MASK != 0 {
            return Err(entry.bad(68, mpidr, "the MPIDR has bits outside the affinity fields", FIRMWARE));
        }
        // The registers of an unused CPU's redistributor exist too.
        if gicr != 0 {
            self.single.push(gicr);
        }
        if flags & ENABLED == 0 {
            let what =
                if flags & ONLINE_CAPABLE == 0 { "disabled CPU" } else { "CPU that is online capable, not used" };
            notes.push(entry.note(68, mpidr, what));
            return Ok(());
        }
        if self.cpus.contains(&mpidr) {
            return Err(entry.bad(68, mpidr, "two CPUs have this MPIDR", FIRMWARE));
        }
        self.cpus.push(mpidr);
        Ok(())
    }

    fn finish(self, madt: &Table<'_>) -> Result<Madt, Error> {
        let missing = |problem| madt.bad(FIRST, 0, problem, FIRMWARE);
        let (base, version) = self.distributor.ok_or_else(|| missing("there is no distributor"))?;
        if self.cpus.is_empty() {
            return Err(missing("there is no CPU that is enabled"));
        }
        let mut regions = self.regions;
        if regions.is_empty() {
            let size = if version == 4 { GICR_V4 } else { GICR_V3 };
            regions.extend(self.single.iter().map(|base| Range { base: *base, size }));
        } else if let Some(outside) = self.single.iter().find(|base| !regions.iter().any(|r| r.has(**base))) {
            return Err(madt.bad(
                FIRST,
                *outside,
                "the redistributor of a CPU is in no region of redistributors",
                FIRMWARE,
            ));
        }
        if regions.is_empty() {
            return Err(missing("there is no redistributor"));
        }
        regions.sort_unstable_by_key(|range| range.base);
        let mut merged: Vec<Range> = Vec::new();
        for range in regions {
            match merged.last_mut() {
                Some(last) if last.end() == Some(range.base) => last.size = last.size.saturating_add(range.size),
                Some(last) if last.overlaps(&range) => {
                    return Err(madt.bad(FIRST, range.base, "two redistributors have the same registers", FIRMWARE));
                }
                Some(_) | None => merged.push(range),
            }
        }
        Ok(Madt {
            cpus: self.cpus,
            distributor: Range { base, size: GICD_SIZE },
            redistributors: merged,
            its: self.its,
            frames: self.frames,
        })
    }
}
