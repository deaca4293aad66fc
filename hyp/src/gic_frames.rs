//! The frames of the interrupt controller that EL2 withholds from the host's CPUs: ITSs, and redistributor regions
//! except the SGI frames of redistributors that belong to a CPU. The host gets the distributor.
//!
//! A region of the device tree contains consecutive redistributors. `GICR_TYPER` of each shows its length and whether
//! it is the last (Arm IHI 0069, H.b, 12.10). The values are checked, and an inconsistent region is refused.

use core::fmt;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use gic_guard::limits::MAX_RDS;
use gic_guard::spec::tables::FIRST_LPI;
use gic_guard::spec::{get64, gicr, low32};
use io_pgtable::Pa;

use arrayvec::ArrayVec;

use crate::boot_info::range::Full;
use crate::boot_info::tree::structure;
use crate::boot_info::{PhysRange, RangeSet};

/// Bytes of a frame.
pub const FRAME: u64 = 0x1_0000;
/// Frames of a redistributor: RD, SGI.
const FRAMES: u64 = 2;
/// Frames of a redistributor with virtual LPIs: RD, SGI, VLPI, and a reserved one.
const FRAMES_VLPI: u64 = 4;

/// A redistributor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redistributor {
    /// All of its frames, the RD frame first.
    pub range: PhysRange,
    /// The affinity of its CPU, in the format of GICR_TYPER.
    pub affinity: u32,
}

impl Redistributor {
    /// The only frame that the host's CPUs can access.
    pub fn sgi(&self) -> Option<PhysRange> {
        PhysRange::new(Pa(self.range.base().0.checked_add(FRAME)?), FRAME)
    }
}

/// Why a machine's redistributors cannot be identified. Without this check the host could get a frame that EL2 must
/// withhold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesError {
    /// More redistributors than the guard has room for.
    TooMany,
    /// A region does not begin at a frame.
    Unaligned(PhysRange),
    /// The redistributor at this address does not fit its region.
    Cut(Pa),
    /// No redistributor of this region has `GICR_TYPER.Last`.
    NoLast(PhysRange),
    /// The redistributor at this address has an affinity that no CPU of the device tree has.
    Unknown(Pa, u32),
    /// The redistributor at this address has the same affinity as another one.
    Twice(Pa, u32),
    /// The CPU with this affinity has no redistributor.
    Missing(u32),
    /// The device tree has `redistributor-stride`.
    Stride,
    /// The machine, by its `compatible`, has a GIC with an erratum that EL2 does not handle.
    Erratum(&'static str),
}

impl fmt::Display for FramesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "the GIC has more than the {MAX_RDS} redistributors that EL2 supports"),
            Self::Unaligned(region) => {
                write!(f, "redistributors at {region} are not aligned to 64 KiB: correct reg in the device tree")
            }
            Self::Cut(at) => {
                write!(f, "the redistributor at {:#x} is longer than its region: correct reg in the device tree", at.0)
            }
            Self::NoLast(region) => write!(
                f,
                "no redistributor at {region} has GICR_TYPER.Last: correct reg in the device \
                 tree"
            ),
            Self::Unknown(at, affinity) => write!(
                f,
                "the redistributor at {:#x} belongs to CPU {affinity:#010x}, which is not in the device tree: add \
                 the CPU, or give each group of redistributors its own region",
                at.0
            ),
            Self::Twice(at, affinity) => write!(
                f,
                "the redistributor at {:#x} is the second one of CPU {affinity:#010x}: correct reg in the device tree",
                at.0
            ),
            Self::Missing(affinity) => write!(
                f,
                "CPU {affinity:#010x} has no redistributor: add its region to the device tree; a redistributor after one \
                 with GICR_TYPER.Last needs its own region"
            ),
            Self::Stride => f.write_str(
                "the device tree has redistributor-stride, which EL2 does not support: give each redistributor a \
                 region of its own",
            ),
            Self::Erratum(machine) => write!(
                f,
                "{machine}: its interrupt controller uses 32-bit addresses only (erratum 3568002), which EL2 does not \
                 support"
            ),
        }
    }
}

impl core::error::Error for FramesError {}

/// The affinity in MPIDR_EL1, in the format of GICR_TYPER.
pub fn affinity(mpidr: u64) -> u32 {
    let [aff0, aff1, aff2, _, aff3, ..] = mpidr.to_le_bytes();
    u32::from_le_bytes([aff0, aff1, aff2, aff3])
}

/// The redistributors of `regions`, in their order: exactly one for each CPU of `mpidrs`. `typer` reads the
/// register at an address.
///
/// # Errors
/// See [`FramesError`].
pub fn find<'r>(
    regions: impl Iterator<Item = &'r PhysRange>,
    mpidrs: impl Iterator<Item = u64> + Clone,
    typer: impl Fn(Pa) -> u64,
) -> Result<ArrayVec<Redistributor, MAX_RDS>, FramesError> {
    let mut found = ArrayVec::<Redistributor, MAX_RDS>::new();
    for region in regions {
        if !region.base().0.is_multiple_of(FRAME) {
            return Err(FramesError::Unaligned(*region));
        }
        let mut at = region.base();
        loop {
            let (rd, is_last) = read(region, at, &typer)?;
            if !mpidrs.clone().any(|mpidr| affinity(mpidr) == rd.affinity) {
                return Err(FramesError::Unknown(at, rd.affinity));
            }
            if found.iter().any(|other| other.affinity == rd.affinity) {
                return Err(FramesError::Twice(at, rd.affinity));
            }
            found.try_push(rd).map_err(|_| FramesError::TooMany)?;
            if is_last {
                break;
            }
            at = rd.range.end();
            if at == region.end() {
                return Err(FramesError::NoLast(*region));
            }
        }
    }
    match mpidrs.map(affinity).find(|cpu| found.iter().all(|rd| rd.affinity != *cpu)) {
        Some(cpu) => Err(FramesError::Missing(cpu)),
        None => Ok(found),
    }
}

/// The redistributor at `at`, and whether it is the last one of its region. Nothing outside `region` is read.
fn read(region: &PhysRange, at: Pa, typer: impl Fn(Pa) -> u64) -> Result<(Redistributor, bool), FramesError> {
    let fits = |frames: u64| PhysRange::new(at, FRAME.saturating_mul(frames)).filter(|all| region.contains(all));
    fits(FRAMES).ok_or(FramesError::Cut(at))?;
    let register = typer(Pa(at.0.saturating_add(u64::from(gicr::TYPER))));
    let frames = if get64(gicr::typer::VLPIS, register) == 1 { FRAMES_VLPI } else { FRAMES };
    let range = fits(frames).ok_or(FramesError::Cut(at))?;
    let affinity = low32(get64(gicr::typer::AFFINITY, register));
    Ok((Redistributor { range, affinity }, get64(gicr::typer::LAST, register) == 1))
}

/// Removes the frames that EL2 withholds from `mmio`, the registers for the host: all of `its`, and all of `regions`
/// except the SGI frames of `rds`.
///
/// # Errors
/// [`Full`]: too many ranges are left.
pub fn remove_withheld<'r, const N: usize>(
    mmio: &mut RangeSet<N>,
    regions: impl Iterator<Item = &'r PhysRange>,
    rds: &[Redistributor],
    its: impl Iterator<Item = PhysRange>,
) -> Result<(), Full> {
    let given = mmio.clone();
    for region in regions {
        mmio.remove(&region.page_rounded())?;
    }
    for sgi in rds.iter().filter_map(Redistributor::sgi).filter(|sgi| given.contains(sgi)) {
        mmio.insert(sgi)?;
    }
    for range in its {
        mmio.remove(&range)?;
    }
    Ok(())
}

/// Refuses `redistributor-stride`: the distance of two redistributors then differs from the one in their registers.
///
/// # Errors
/// [`FramesError::Stride`].
pub fn check_stride(dtb: &[u8]) -> Result<(), FramesError> {
    fn is_free(node: &FdtNode<'_>) -> bool {
        node.properties().all(|property| property.name() != "redistributor-stride")
            && node.children().all(|child| is_free(&child))
    }
    // Invalid trees, and trees that are too deep, were refused before.
    if structure::check(dtb).is_ok_and(|fdt| is_free(&fdt.root())) { Ok(()) } else { Err(FramesError::Stride) }
}

/// Whether the GIC's accesses to its tables snoop caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snooping {
    /// Yes, if its registers report it.
    #[default]
    AsReported,
    /// No, even if its registers report it.
    Never,
}

/// Machines whose GIC uses only 32-bit addresses, and machines whose GIC reports that it snoops but does not: in Linux,
/// Rockchip errata 3568002 and 3588001.
const NARROW: [&str; 2] = ["rockchip,rk3566", "rockchip,rk3568"];
const NOT_SNOOPING: [&str; 2] = ["rockchip,rk3588", "rockchip,rk3588s"];

/// Whether the GIC's accesses to its tables snoop, according to the device tree: from the machine's `compatible`, and
/// from `dma-noncoherent` in the node of the GIC or of an ITS.
///
/// # Errors
/// [`FramesError::Erratum`].
pub fn snooping(dtb: &[u8]) -> Result<Snooping, FramesError> {
    fn is_marked(node: &FdtNode<'_>) -> bool {
        let gic = node.is_compatible("arm,gic-v3") || node.is_compatible("arm,gic-v3-its");
        gic && node.properties().any(|property| property.name() == "dma-noncoherent")
            || node.children().any(|child| is_marked(&child))
    }
    // Invalid trees were refused before.
    let Ok(fdt) = Fdt::new(dtb) else { return Ok(Snooping::Never) };
    let root = fdt.root();
    if let Some(machine) = NARROW.into_iter().find(|machine| root.is_compatible(machine)) {
        return Err(FramesError::Erratum(machine));
    }
    let never = NOT_SNOOPING.into_iter().any(|machine| root.is_compatible(machine)) || is_marked(&root);
    Ok(if never { Snooping::Never } else { Snooping::AsReported })
}

/// INTID bits including LPIs, from `GICD_TYPER`: `IDbits`, or fewer if `num_LPIs` is not zero and smaller.
pub fn intid_bits(gicd_typer: u32) -> u32 {
    let bits = (gicd_typer >> 19 & 0x1f).saturating_add(1);
    match gicd_typer >> 11 & 0x1f {
        0 => bits,
        // 2^(num_LPIs + 1) LPIs.
        number => {
            let count = 1_u64.checked_shl(number.saturating_add(1)).unwrap_or(0);
            bits.min(count.saturating_add(FIRST_LPI.into()).checked_ilog2().unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests;
