//! The frames of the machine's ITSs and redistributors, published at boot.

use arrayvec::ArrayVec;
use gic_guard::Frame;
use gic_guard::limits::MAX_RDS;
use hyp::boot_info::PhysRange;
use hyp::boot_info::gic::{ITS_MAX, REDISTRIBUTORS_MAX};
use hyp::gic_frames::{Redistributor, Snooping};
use spin::Once;

pub(super) static FRAMES: Once<Frames> = Once::new();

/// An ITS.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItsFrames {
    /// Both frames.
    pub range: PhysRange,
    /// Whether the host gets it. EL2 also disables withheld ITSs.
    pub given: bool,
}

/// The frames of all ITSs and redistributors.
#[derive(Clone)]
pub struct Frames {
    /// In the order of the device tree.
    pub its: ArrayVec<ItsFrames, ITS_MAX>,
    /// Redistributor regions. EL2 withholds them except the SGI frames of [`Frames::rds`].
    pub regions: ArrayVec<PhysRange, REDISTRIBUTORS_MAX>,
    /// In the order of the regions.
    pub rds: ArrayVec<Redistributor, MAX_RDS>,
    /// Whether the GIC's accesses to tables snoop, according to the device tree.
    pub snooping: Snooping,
}

/// The frames of an ITS or of a redistributor.
pub(super) fn range_of(frame: Frame) -> Option<PhysRange> {
    let frames = FRAMES.get()?;
    Some(match frame {
        Frame::Its(n) => frames.its.get(n)?.range,
        Frame::Rd(n) => frames.rds.get(n)?.range,
    })
}

/// Whether the GIC snoops if its registers report it.
pub(super) fn snoops() -> bool {
    FRAMES.get().is_none_or(|frames| frames.snooping == Snooping::AsReported)
}
