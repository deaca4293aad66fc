//! The frames of the interrupt controller that EL2 keeps from the host's CPUs: the RD and VLPI frames of every
//! redistributor, and the ITSs. SGI frames and the distributor stay the host's.
//!
//! A region of the device tree holds redistributors one after the other; how long one is, and which is the last, its
//! `GICR_TYPER` says (Arm IHI 0069, H.b, 12.10).

use gic_guard::limits::MAX_RDS;
use gic_guard::spec::tables::FIRST_LPI;
use gic_guard::spec::{get64, gicr};
use io_pgtable::Pa;

use arrayvec::ArrayVec;

use crate::boot_info::PhysRange;

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
}

impl Redistributor {
    /// What the host's CPUs may not reach: all but the SGI frame.
    pub fn kept(&self) -> impl Iterator<Item = PhysRange> {
        let base = self.range.base().0;
        let behind = base.saturating_add(FRAME.saturating_mul(2));
        let rd = PhysRange::new(Pa(base), FRAME);
        let vlpi = PhysRange::between(Pa(behind), self.range.end());
        [rd, vlpi].into_iter().flatten().filter(|range| !range.is_empty())
    }
}

/// More redistributors than the guard has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The redistributors of `regions`, in their order; `typer` reads GICR_TYPER of the RD frame at an address.
///
/// # Errors
/// [`TooMany`].
pub fn find<'r>(
    regions: impl Iterator<Item = &'r PhysRange>,
    typer: impl Fn(Pa) -> u64,
) -> Result<ArrayVec<Redistributor, MAX_RDS>, TooMany> {
    let mut found = ArrayVec::new();
    for region in regions {
        let mut at = region.base();
        while let Some(least) = PhysRange::new(at, FRAME.saturating_mul(FRAMES))
            && region.contains(&least)
        {
            let register = typer(Pa(at.0.saturating_add(u64::from(gicr::TYPER))));
            let frames = if get64(gicr::typer::VLPIS, register) == 1 { FRAMES_VLPI } else { FRAMES };
            let Some(range) = PhysRange::new(at, FRAME.saturating_mul(frames)).filter(|all| region.contains(all))
            else {
                break;
            };
            found.try_push(Redistributor { range }).map_err(|_| TooMany)?;
            if get64(gicr::typer::LAST, register) == 1 {
                break;
            }
            at = range.end();
        }
    }
    Ok(found)
}

/// INTID bits with LPIs, by `GICD_TYPER`: what `IDbits` says, or less if `num_LPIs` is not zero and says so.
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
