//! The interrupt controller at boot: which of its frames EL2 keeps, and its take-over.
#![allow(unsafe_code)]

use crate::arch::Conduit;
use crate::exit::refuse;
use crate::gic::guard::{self, Frames, ItsFrames};
use crate::gic::{self, read_typer};
use crate::log;
use arrayvec::ArrayVec;
use hyp::boot_info::{MmioPolicy, Platform, RangeSet, policy::MMIO_MAX};
use hyp::gic_frames;

/// The frames of ITSs and redistributors; `None` in a build that leaves them to the host.
pub fn find(platform: &Platform<'_>, policy: &MmioPolicy) -> Option<Frames> {
    if cfg!(feature = "no-isolation") {
        return None;
    }
    let mut its = ArrayVec::new();
    for frame in platform.gic.its.iter() {
        // Capacity is one per frame.
        let _ = its.try_push(ItsFrames { range: frame.range, given: !policy.is_withheld(frame.node) });
    }
    // SAFETY: (1) the device tree says that redistributors are there; (2) the boot table maps them as device memory.
    let typer = |register| unsafe { read_typer(register) };
    let rds = gic_frames::find(platform.gic.redistributors.iter(), typer)
        .unwrap_or_else(|_| refuse(format_args!("the GIC has more redistributors than EL2 supports"), Conduit::Smc));
    Some(Frames { its, rds })
}

/// The registers that the host's CPUs reach: what `policy` gives, without the frames that EL2 keeps.
pub fn without(policy: &MmioPolicy, frames: Option<&Frames>) -> RangeSet<MMIO_MAX> {
    let mut mmio = policy.mmio().clone();
    for range in frames.into_iter().flat_map(Frames::kept) {
        if mmio.remove(&range).is_err() {
            refuse(
                format_args!("more than {MMIO_MAX} separate register ranges, with the GIC's frames apart"),
                Conduit::Smc,
            );
        }
    }
    mmio
}

/// Takes every ITS and redistributor over: from here on none has a table that is not EL2's.
pub fn take_over(frames: &Frames) {
    if let Err(error) = guard::take_over(frames, gic_frames::intid_bits(gic::typer())) {
        refuse(format_args!("interrupt controller: {error}"), Conduit::Smc);
    }
    log!("gic: {} ITS and {} redistributors taken over: their tables are EL2's", frames.its.len(), frames.rds.len());
}
