//! The machine's ITSs and redistributors, and the host's accesses to their registers.
//!
//! Lock order: ownership first, then the guard; the pool and the console are leaves. See docs/locking.md.

use super::frames::{FRAMES, Frames};
use super::platform::GicPlatform;
use crate::arch::PAGE;
use crate::log;
use crate::memory::HostPages;
use core::sync::atomic::{AtomicBool, Ordering};
use gic_guard::limits::MAX_RDS;
use gic_guard::{Config, Frame, GicFinding, Guard, RdConfig, TakeOverError, WriteOutcome};
use hyp::boot_info::PhysRange;
use hyp::boot_info::gic::ITS_MAX;
use hyp::esr::Size;
use hyp::gic_frames::{FRAME, affinity};
use io_pgtable::{Ipa, Pa};
use mem_protect::{Owner, PageMap};
use spin::mutex::{TicketMutex, TicketMutexGuard};

/// The guard of this machine's GIC.
pub type HostGic = Guard<GicPlatform>;

static GUARD: TicketMutex<HostGic> = TicketMutex::new(Guard::new(GicPlatform));
/// Whether the failure of an ITS was logged.
static FAILURE_TOLD: [AtomicBool; ITS_MAX] = [const { AtomicBool::new(false) }; ITS_MAX];

/// A register of an ITS or of a redistributor.
#[derive(Clone, Copy)]
pub struct Register {
    frame: Frame,
    offset: u32,
}

/// Calls `act` with the guard's configuration for `frames`.
fn with_config<T>(frames: &Frames, intid_bits: u32, act: impl FnOnce(&Config<'_>) -> T) -> T {
    let mut rds = [RdConfig { base: Pa(0) }; MAX_RDS];
    for (slot, rd) in rds.iter_mut().zip(frames.rds.iter()) {
        slot.base = rd.range.base();
    }
    let rds = rds.get(..frames.rds.len()).unwrap_or_default();
    act(&Config { its: frames.its.len(), rds, intid_bits })
}

/// Publishes the frames, which are mapped, and disables the GIC's accesses to memory; called once, before EL2's pool is
/// written.
///
/// # Errors
/// See [`TakeOverError`].
pub fn make_quiescent(frames: &Frames) -> Result<(), TakeOverError> {
    FRAMES.call_once(|| frames.clone());
    with_config(frames, 0, |config| GUARD.lock().make_quiescent(config))
}

/// Takes the GIC over; called once, after [`make_quiescent`] and before the host runs. Devices of the host get at most
/// `memory` bytes.
///
/// # Errors
/// See [`TakeOverError`].
pub fn take_over(frames: &Frames, intid_bits: u32, memory: usize) -> Result<(), TakeOverError> {
    let mut gic = GUARD.lock();
    gic.limit_memory(memory);
    with_config(frames, intid_bits, |config| gic.take_over(config))
}

/// Checks whether ITSs, and the redistributor of this CPU with affinity `mpidr`, have lost their registers: called when
/// a CPU starts or resumes, before the host runs on it.
pub fn check_alive(mpidr: u64) {
    let Some(frames) = FRAMES.get() else { return };
    let affinity = affinity(mpidr);
    let rd = frames.rds.iter().position(|rd| rd.affinity == affinity);
    GUARD.lock().check_alive(rd);
    report();
}

/// The register at `ipa`, if EL2 emulates it.
#[cold]
pub fn locate(ipa: Ipa) -> Option<Register> {
    let frames = FRAMES.get()?;
    let offset = |range: &PhysRange| {
        let offset = ipa.0.checked_sub(range.base().0).filter(|offset| *offset < range.size())?;
        u32::try_from(offset).ok()
    };
    let its = frames.its.iter().enumerate().find_map(|(n, its)| {
        Some(Register { frame: Frame::Its(n), offset: offset(&its.range).filter(|_| its.given)? })
    });
    its.or_else(|| {
        // The SGI frame belongs to the host.
        let kept = |offset: &u32| u64::from(*offset) < FRAME || u64::from(*offset) >= FRAME.saturating_mul(2);
        frames
            .rds
            .iter()
            .enumerate()
            .find_map(|(n, rd)| Some(Register { frame: Frame::Rd(n), offset: offset(&rd.range).filter(kept)? }))
    })
}

/// Takes the guard's lock: after ownership, if both are needed.
pub fn lock() -> TicketMutexGuard<'static, HostGic> {
    GUARD.lock()
}

/// The host loads a register.
pub fn read(register: Register, gic: &mut HostGic, size: Size) -> u64 {
    gic.mmio_read(register.frame, register.offset, size.into())
}

/// The host stores to a register.
pub fn write(register: Register, pages: &mut HostPages, gic: &mut HostGic, size: Size, value: u64) -> WriteOutcome {
    gic.mmio_write(pages, register.frame, register.offset, size.into(), value)
}

/// Logs once that an ITS failed. No lock is held.
pub fn report() {
    for (n, told) in FAILURE_TOLD.iter().enumerate() {
        let failed = GUARD.lock().failed(n);
        if let Some(error) = failed
            && !told.swap(true, Ordering::Relaxed)
        {
            log!("its{n}: {error}: EL2 disables it, and the host continues without its interrupts");
        }
    }
}

/// Checks that every table of the GIC is in EL2's memory.
///
/// # Errors
/// The first finding: a defect.
pub fn audit(map: &PageMap<'_>) -> Result<(), GicFinding> {
    if FRAMES.get().is_none() {
        return Ok(());
    }
    GUARD.lock().audit(|pa, size| {
        let end = u64::try_from(size).ok().and_then(|size| pa.0.checked_add(size));
        end.is_some_and(|end| (pa.0 / PAGE..end.div_ceil(PAGE)).all(|page| map.owner(page) == Owner::Hyp))
    })
}

/// Disables every ITS, and never releases the lock: no CPU of the host may undo it before power-off.
pub fn quiesce_and_hold() {
    if FRAMES.get().is_none() {
        return;
    }
    let mut gic = GUARD.lock();
    if let Err(error) = gic.quiesce() {
        log!("ITS: {error}: it may write its tables until the power is off");
    }
    let stats = gic.stats();
    log!(
        "gic: {} exits of the host, {} at ITSs, {} at redistributors, {} denied; {} commands of the host, {} ignored, \
         {} beyond a limit; {} to hardware",
        stats.its_exits.wrapping_add(stats.rd_exits),
        stats.its_exits,
        stats.rd_exits,
        stats.denied_accesses,
        stats.host_commands,
        stats.ignored_commands,
        stats.limited_commands,
        stats.commands
    );
    core::mem::forget(gic);
}
