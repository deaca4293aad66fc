//! The interrupt controller at boot: the frames that EL2 withholds, and its take-over.
#![allow(unsafe_code)]

use crate::arch::Conduit;
use crate::exit::refuse;
use crate::gic::frames::{Frames, ItsFrames};
use crate::gic::{self, guard, read_typer};
use crate::{log, pool};
use arrayvec::ArrayVec;
use hyp::boot_info::{MmioPolicy, Platform, RangeSet, policy::MMIO_MAX};
use hyp::gic_frames::{self, Snooping};

/// The frames of ITSs and redistributors; `None` in a build that gives them to the host.
pub fn find(platform: &Platform<'_>, policy: &MmioPolicy) -> Option<Frames> {
    if cfg!(feature = "no-isolation") {
        return None;
    }
    let mut its = ArrayVec::new();
    for frame in platform.gic.its.iter() {
        // Capacity is one per frame.
        let _ = its.try_push(ItsFrames { range: frame.range, given: !policy.is_withheld(frame.node) });
    }
    // SAFETY: (1) the device tree has redistributors at these addresses; (2) the boot table maps them as device memory.
    let typer = |register| unsafe { read_typer(register) };
    let regions = &platform.gic.redistributors;
    let cpus = platform.cpus.iter().map(|cpu| cpu.mpidr);
    let rds = gic_frames::find(regions.iter(), cpus, typer)
        .unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
    Some(Frames { its, regions: regions.clone(), rds, snooping: Snooping::AsReported })
}

/// The registers that the host's CPUs can access: those that `policy` gives, without the frames that EL2 withholds.
pub fn without_withheld(policy: &MmioPolicy, frames: Option<&Frames>) -> RangeSet<MMIO_MAX> {
    let mut mmio = policy.mmio().clone();
    if let Some(frames) = frames {
        let its = frames.its.iter().map(|its| its.range);
        if gic_frames::remove_withheld(&mut mmio, frames.regions.iter(), &frames.rds, its).is_err() {
            refuse(
                format_args!("more than {MMIO_MAX} separate register ranges, including the GIC's frames"),
                Conduit::Smc,
            );
        }
    }
    mmio
}

/// Disables every ITS and redistributor, for any state in which firmware left it, and waits until it accesses no
/// memory. `dtb` is the device tree.
pub fn make_quiescent(platform: &Platform<'_>, policy: &MmioPolicy, dtb: &[u8]) {
    if let Err(error) = gic_frames::check_stride(dtb) {
        refuse(format_args!("{error}"), Conduit::Smc);
    }
    let Some(mut frames) = find(platform, policy) else { return };
    frames.snooping = gic_frames::snooping(dtb).unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
    if let Err(error) = guard::make_quiescent(&frames) {
        refuse(format_args!("interrupt controller: {error}"), Conduit::Smc);
    }
}

/// Takes over every ITS and redistributor: afterwards all their tables are in EL2's memory.
pub fn take_over(frames: &Frames) {
    // The rest of the pool is for tables of SMMUs and guests.
    let memory = usize::try_from(pool::level().total / 4).unwrap_or(usize::MAX);
    if let Err(error) = guard::take_over(frames, gic_frames::intid_bits(gic::typer()), memory) {
        refuse(format_args!("interrupt controller: {error}"), Conduit::Smc);
    }
    log!("gic: {} ITS and {} redistributors taken over: their tables are EL2's", frames.its.len(), frames.rds.len());
}
